"""Causal attention against torch's own in float64."""

import pytest
import torch
import torch.nn.functional as F

from microtome.models import attention
from microtome.models.attention import causal_attention
from microtome.shapes import Tensor

pytestmark = pytest.mark.skipif(not attention.LIBRARY.available(), reason=f"the compiled kernel is not there: {attention.LIBRARY.why_not()}")
SHAPES = ((2, 9, 3, 256, 64), (1, 4, 4, 257, 64), (3, 4, 2, 37, 64), (1, 3, 1, 600, 128), (2, 2, 2, 1, 64), (1, 2, 1, 7, 192), (1, 1, 1, 48, 64))


def _given(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    """As a model has them: heads beside each other in a row of activations."""
    batch, heads, key_heads, positions, width = shape
    torch.manual_seed(positions)
    q, k, v = (torch.randn(batch, positions, n, width).transpose(1, 2) for n in (heads, key_heads, key_heads))
    return 2 * q, k, v


def _expected(q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> Tensor:
    return F.scaled_dot_product_attention(q.double(), k.double(), v.double(), is_causal=True, scale=scale, enable_gqa=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [0.02, 0.125, 3.0])
def test_it_is_torchs(shape: tuple[int, ...], scale: float):
    q, k, v = _given(*shape)
    wanted = _expected(q, k, v, scale=scale)
    ours = causal_attention(q, k, v, scale=scale).double()
    assert ours.shape == wanted.shape
    largest = scale * float(q.norm(dim=-1).max() * k.norm(dim=-1).max())  # a score's rounding is a weight's relative error
    assert float((ours - wanted).abs().max()) < torch.finfo(torch.float32).eps * (4 + largest) * float(v.abs().max())


def test_heads_that_lie_apart_are_read_where_they_lie():
    q, k, v = _given(2, 4, 2, 50, 64)
    dense = causal_attention(q.contiguous(), k.contiguous(), v.contiguous(), scale=0.125)
    wide = torch.randn(2, 50, 8, 200).transpose(1, 2)
    wide[:, ::2, :, 100:164] = q
    assert torch.equal(causal_attention(wide[:, ::2, :, 100:164], k, v, scale=0.125), dense)


def test_what_comes_later_is_not_seen():
    q, k, v = _given(1, 2, 1, 90, 64)
    before = causal_attention(q, k, v, scale=0.125)
    k[:, :, 60:] += 5
    v[:, :, 60:] *= -3
    after = causal_attention(q, k, v, scale=0.125)
    assert torch.equal(before[:, :, :60], after[:, :, :60])
    assert not torch.allclose(before[:, :, 60:], after[:, :, 60:])


def test_very_large_scores_and_numbers_that_are_none():
    q, k, v = _given(1, 2, 2, 70, 64)
    assert torch.allclose(causal_attention(100 * q, 100 * k, v, scale=1.0).double(), _expected(100 * q, 100 * k, v, scale=1.0), atol=1e-4)
    for broken in (k, v):
        broken[0, 0, 40] = torch.nan
        found = causal_attention(q, k, v, scale=0.125)
        assert bool(found[0, 0, 40:].isnan().all()), "whoever sees it is not a number"
        assert not bool(found[0, 1].isnan().any()), "the other head is"
        broken[0, 0, 40] = 1.0
    assert not bool(causal_attention(q, k, v, scale=0.125).isnan().any())


def test_threads_do_not_change_a_bit():
    q, k, v = _given(3, 4, 2, 130, 64)
    threads, found = torch.get_num_threads(), list[Tensor]()
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            found.append(causal_attention(q, k, v, scale=0.125))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(each, found[0]) for each in found)
