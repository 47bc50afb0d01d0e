"""Forwards over corpora: the same activations as the plain forward's, by another way."""

import warnings
from collections import Counter
from collections.abc import Callable
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import forward_ad
from torch.profiler import ProfilerActivity, profile

from microtome.models import TINY_FAMILIES, Model, Site, attention, faster_forward, tiny
from microtome.models.corpus_forward import _has_both_libraries
from microtome.shapes import Tensor

CPU = torch.device("cpu")
has_both = pytest.mark.skipif(not _has_both_libraries(), reason="this torch has one library for products alone")


@cache
def _wide(family: str) -> Model:
    """Heads as wide as real ones."""
    return tiny(family, d_model=256)


@pytest.fixture(params=TINY_FAMILIES)
def wide(request: pytest.FixtureRequest) -> Model:
    return _wide(request.param)


def _tokens(*shape: int) -> Tensor:
    return torch.randint(3, 300, shape, generator=torch.Generator().manual_seed(0))


def _captured(model: Model, tokens: Tensor) -> dict[Site, Tensor]:
    with torch.inference_mode(), faster_forward(model.device):
        return model.capture(tokens, model.sites())


def _kernels(model: Model, tokens: Tensor) -> Counter[str]:
    """What was called by torch, and how often."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        _captured(model, tokens)
    return Counter({event.key: event.count for event in profiler.key_averages()})


@pytest.mark.parametrize("shape", [(2, 40), (1, 128), (3, 100)])
def test_activations_are_those_of_the_plain_forward(wide: Model, shape: tuple[int, int]):
    plain = wide.capture(_tokens(*shape), wide.sites())
    for site, x in _captured(wide, _tokens(*shape)).items():
        assert x.shape == plain[site].shape
        assert torch.allclose(x, plain[site], rtol=1e-4, atol=1e-5 * float(plain[site].abs().max())), site


@has_both
def test_products_and_attention_go_the_faster_way():
    called = _kernels(_wide("llama"), _tokens(2, 40))
    assert called["mkldnn::_linear_pointwise"] == 3 * 7
    assert "aten::linear" not in called
    if attention.LIBRARY.available():
        assert not any("scaled_dot_product" in name for name in called)


@has_both
def test_few_rows_other_types_and_gradients_go_the_plain_way():
    assert "mkldnn::_linear_pointwise" not in _kernels(_wide("llama"), _tokens(1, 60))
    assert "aten::linear" in _kernels(tiny("llama", dtype=torch.bfloat16), _tokens(2, 40))
    with faster_forward(CPU):
        assert F.linear(torch.ones(64, 3), torch.ones(3, 3, requires_grad=True)).requires_grad


@has_both
def test_it_can_be_turned_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MICROTOME_NATIVE", "0")
    assert "mkldnn::_linear_pointwise" not in _kernels(_wide("llama"), _tokens(2, 40))


def test_the_same_to_the_bit_every_time_and_hugging_faces_afterwards():
    model, tokens = _wide("llama"), _tokens(2, 100)
    before = model.logits(tokens)
    first, again = _captured(model, tokens), _captured(model, tokens)
    assert all(torch.equal(first[site], again[site]) for site in first)
    assert torch.equal(before, model.logits(tokens))


def _tried(call: Callable[[], Tensor]) -> Tensor | str:
    with torch.no_grad():
        try:
            return call()
        except (RuntimeError, TypeError, NotImplementedError) as error:
            return type(error).__name__


def _forwards(call: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(call(forward_ad.make_dual(x, 2 * x))).tangent
    return torch.zeros(()) if tangent is None else tangent


def _half(call: Callable[[], Tensor]) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return call()


def _x(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


q, k = _x(1, 4, 70, 64), _x(1, 4, 70, 64)
CALLS: dict[str, Callable[[], Tensor]] = {
    "a bias of one number": lambda: F.linear(_x(100, 256), _x(512, 256), torch.full((1,), -0.1).expand(512)),
    "a weight that is another's transpose": lambda: F.linear(_x(100, 256), _x(256, 512).T),
    "rows that lie apart": lambda: F.linear(_x(100, 512)[:, ::2], _x(512, 256)),
    "named arguments": lambda: F.linear(input=_x(100, 256), weight=_x(512, 256)),
    "widths that do not fit": lambda: F.linear(_x(100, 255), _x(512, 256)),
    "a bias that does not fit": lambda: F.linear(_x(100, 256), _x(512, 256), _x(511)),
    "no rows": lambda: F.linear(_x(0, 256), _x(512, 256)),
    "no columns": lambda: F.linear(_x(100, 0), _x(512, 0)),
    "causal": lambda: F.scaled_dot_product_attention(q, k, k, is_causal=True),
    "causal, by position": lambda: F.scaled_dot_product_attention(q, k, k, None, 0.0, True),
    "scaled": lambda: F.scaled_dot_product_attention(q, k, k, is_causal=True, scale=0.5),
    "not causal": lambda: F.scaled_dot_product_attention(q, k, k),
    "a mask": lambda: F.scaled_dot_product_attention(q, k, k, attn_mask=torch.eye(70, dtype=torch.bool)),
    "the last query alone": lambda: F.scaled_dot_product_attention(q[:, :, -1:], k, k),
    "batches that do not fit": lambda: F.scaled_dot_product_attention(q, k[:0], k[:0], is_causal=True),
    "one batch of keys": lambda: F.scaled_dot_product_attention(q.expand(2, -1, -1, -1), k, k, is_causal=True),
    "shared keys unasked": lambda: F.scaled_dot_product_attention(q, k[:, :2], k[:, :2], is_causal=True),
    "shared keys": lambda: F.scaled_dot_product_attention(q, k[:, :2], k[:, :2], is_causal=True, enable_gqa=True),
    "keys of one head for all": lambda: F.scaled_dot_product_attention(q, k[:, :1].expand(-1, 4, -1, -1), k, is_causal=True),
    "a negated view": lambda: F.scaled_dot_product_attention(torch._neg_view(q), k, k, is_causal=True),
    "keys on no device": lambda: F.scaled_dot_product_attention(q, k.to("meta"), k.to("meta"), is_causal=True),
    "a sparse weight": lambda: F.linear(_x(100, 256), _x(512, 256).relu().to_sparse_csr()),
    "a derivative forwards": lambda: _forwards(lambda x: F.linear(x, _x(512, 256)), _x(100, 256)),
    "many at once": lambda: torch.vmap(lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True))(q[None]),
    "half precision wanted": lambda: _half(lambda: F.linear(_x(100, 256), _x(512, 256))),
    "wider values": lambda: F.scaled_dot_product_attention(q, k, _x(1, 4, 70, 128), is_causal=True),
}


@pytest.mark.parametrize("name", CALLS)
def test_whatever_is_asked_torchs_answer_is_given(name: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = _tried(CALLS[name])
        with faster_forward(CPU):
            found = _tried(CALLS[name])
    if isinstance(plain, str) or isinstance(found, str):
        assert plain == found
        return
    assert (plain.shape, plain.dtype) == (found.shape, found.dtype)
    assert torch.allclose(plain, found, rtol=1e-4, atol=1e-4)
