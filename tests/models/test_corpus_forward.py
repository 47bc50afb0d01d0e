"""Forwards over corpora: the same activations as the plain forward's, by another way."""

from collections import Counter
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from microtome.models import Model, Site, Tokenizer, corpus_forward, corpus_workers, tiny, tiny_tokenizer
from microtome.shapes import Tensor

from .conftest import RandomModel

has_both = pytest.mark.skipif(not corpus_forward._has_both_libraries(), reason="this torch has one library for products alone")


@pytest.fixture
def wide(random_model: RandomModel) -> Model:
    """A model whose heads are as wide as real ones."""
    config = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    tokenizer: Tokenizer = tiny_tokenizer()
    return Model(random_model("llama", **config), tokenizer, ref="wide")


def _captured(model: Model, batches: list[Tensor]) -> list[dict[Site, Tensor]]:
    """Of all sites, in the order of the batches."""

    def call(number: int) -> tuple[int, dict[Site, Tensor]]:
        with torch.inference_mode():
            return number, model.capture(batches[number], model.sites())

    with corpus_workers(model) as run_all:
        return [found for _, found in sorted(run_all(call, range(len(batches))), key=lambda item: item[0])]


def test_activations_are_those_of_the_plain_forward(model: Model, tokens: Tensor):
    plain = model.capture(tokens, model.sites())
    for site, x in _captured(model, [tokens])[0].items():
        assert torch.allclose(x, plain[site], rtol=1e-4, atol=1e-5 * float(plain[site].abs().max())), site


def _kernels(model: Model, tokens: Tensor) -> Counter[str]:
    """What was called by torch, and how often."""
    with torch.no_grad():
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the calling thread works, which the profiler sees
        try:
            with profile(activities=[ProfilerActivity.CPU]) as profiler:
                _captured(model, [tokens])
        finally:
            torch.set_num_threads(threads)
    return Counter({event.key: event.count for event in profiler.key_averages()})


@has_both
def test_products_and_attention_go_the_faster_way(wide: Model):
    tokens = torch.randint(3, 300, (2, 40), generator=torch.Generator().manual_seed(0))
    called = _kernels(wide, tokens)
    assert called["mkldnn::_linear_pointwise"] == 2 * 7
    assert "aten::linear" not in called
    if corpus_forward._compiled():
        assert not any("scaled_dot_product" in name for name in called)
    plain = wide.capture(tokens, wide.sites())
    for site, x in _captured(wide, [tokens])[0].items():
        assert torch.allclose(x, plain[site], rtol=1e-4, atol=1e-5 * float(plain[site].abs().max())), site


@has_both
def test_few_rows_other_types_and_gradients_go_the_plain_way(wide: Model):
    assert "mkldnn::_linear_pointwise" not in _kernels(wide, torch.randint(3, 300, (1, 20)))
    half = tiny("llama", dtype=torch.bfloat16)
    assert "aten::linear" in _kernels(half, torch.randint(3, 300, (2, 40)))
    weight = torch.ones(3, 3, requires_grad=True)

    def product(x: Tensor) -> Tensor:
        return torch.nn.functional.linear(x, weight)

    with corpus_workers(wide) as run_all:
        found = next(iter(run_all(product, [torch.ones(64, 3)])))
    assert found.requires_grad


def test_the_same_to_the_bit_every_time(wide: Model):
    batches = list(torch.randint(3, 300, (6, 2, 40), generator=torch.Generator().manual_seed(0)))
    first, again = _captured(wide, batches), _captured(wide, batches)
    assert all(torch.equal(one[site], other[site]) for one, other in zip(first, again, strict=True) for site in one)


def _both(wide: Model, call: Callable[[], Tensor]) -> tuple[Tensor | str, Tensor | str]:
    """What a call gives or raises, plainly and in a pass."""

    def tried(_: int) -> Tensor | str:
        with torch.no_grad():
            try:
                return call()
            except (RuntimeError, TypeError) as error:
                return type(error).__name__

    with corpus_workers(wide) as run_all:
        return tried(0), next(iter(run_all(tried, [0])))


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
    "wider values": lambda: F.scaled_dot_product_attention(q, k, _x(1, 4, 70, 128), is_causal=True),
}


@pytest.mark.parametrize("name", CALLS)
def test_whatever_is_asked_torchs_answer_is_given(wide: Model, name: str):
    plain, found = _both(wide, CALLS[name])
    if isinstance(plain, str) or isinstance(found, str):
        assert plain == found
        return
    assert plain.shape == found.shape
    assert torch.allclose(plain, found, rtol=1e-4, atol=1e-4)


def test_an_outer_tap_is_seen(wide: Model):
    tokens, site = torch.randint(3, 300, (2, 40)), Site("resid_post", 0)
    with wide.tap(edit={site: lambda x: 0 * x}):
        found = _captured(wide, [tokens])[0]
    assert float(found[site].abs().max()) == 0


def test_afterwards_and_elsewhere_the_forward_is_hugging_faces(wide: Model):
    tokens = torch.randint(3, 300, (2, 40))
    before = wide.logits(tokens)
    with corpus_workers(wide) as run_all:
        within = wide.logits(tokens)
        list(run_all(lambda _: wide.capture(tokens, wide.sites()), [0]))
    assert torch.equal(before, within)
    assert torch.equal(before, wide.logits(tokens))
