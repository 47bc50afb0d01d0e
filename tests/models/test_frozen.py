"""A held forward is the clean one, and affine: what is added at a write arrives in proportion, and only where it may."""

import threading
from typing import Any

import pytest
import torch

from microtome.errors import TokenOutOfRange
from microtome.models import Frozen, Model, Site, value_maps


def eager(model: Model, tokens: torch.Tensor, *, site: Site | None = None) -> torch.Tensor:
    """Logits, or what is at a site, by the model's own eager attention."""
    before = model.hf.config._attn_implementation
    assert before is not None
    model.hf.set_attn_implementation("eager")
    try:
        return model.logits(tokens[None])[0] if site is None else model.capture(tokens[None], [site])[site][0]
    finally:
        model.hf.set_attn_implementation(before)


def reads(model: Model) -> list[Site]:
    last = model.n_layers - 1
    return [*(Site("mlp_in", layer) for layer in range(model.n_layers)), Site("resid_post", last), Site("final_norm")]


def test_the_clean_forward_is_the_model_s_own_and_the_held_one_is_it_again(model: Model, tokens: torch.Tensor) -> None:
    row = tokens[0]
    frozen = Frozen(model, row, read=reads(model), logits_at=[3, 19])
    wanted = eager(model, row)
    assert torch.equal(frozen.clean[Site("final_norm")], eager(model, row, site=Site("final_norm")))
    assert torch.allclose(torch.stack([frozen.logits[3], frozen.logits[19]]), wanted[[3, 19]], atol=1e-5)
    again = frozen.run(read=reads(model)).values
    for site in reads(model):
        scale = float(frozen.clean[site].abs().max())
        assert torch.allclose(again[site], frozen.clean[site], atol=1e-5 * scale)


def test_the_held_forward_is_affine_in_what_is_added(model: Model, tokens: torch.Tensor) -> None:
    frozen = Frozen(model, tokens[0], read=reads(model))
    site, draw = Site("mlp_out", 0), torch.Generator().manual_seed(0)
    one, other = (torch.randn(20, model.d_model, generator=draw) for _ in range(2))
    still = frozen.run(read=reads(model)).values

    def change(bump: torch.Tensor) -> dict[Site, torch.Tensor]:
        moved = frozen.run(read=reads(model), bump={site: bump}).values
        return {place: moved[place] - still[place] for place in reads(model)}

    left, right, both = change(one), change(other), change(5 * one - 3 * other)
    for place in reads(model)[1:]:
        expected = 5 * left[place] - 3 * right[place]
        assert torch.allclose(both[place], expected, atol=1e-4 * float(expected.abs().max()))
        assert float(expected.abs().max()) > 0
    assert not bool(left[Site("mlp_in", 0)].any())  # what is written later changes nothing before


def test_gradients_at_leaves_are_those_of_the_affine_map_and_causal(model: Model, tokens: torch.Tensor) -> None:
    site, final = Site("mlp_out", 0), Site("final_norm")
    frozen = Frozen(model, tokens[0], read=[final])
    vector = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
    ran = frozen.run(read=[final], leaves=[site])
    (gradient,) = torch.autograd.grad(ran.values[final][12] @ vector, ran.leaves[site])
    bump = torch.randn(20, model.d_model, generator=torch.Generator().manual_seed(1))
    moved, still = (frozen.run(read=[final], bump={site: scale * bump}).values[final][12] @ vector for scale in (1.0, 0.0))
    assert float((gradient[0] * bump).sum()) == pytest.approx(float(moved - still), rel=1e-3, abs=1e-4)
    assert not bool(gradient[0, 13:].any())


def test_patterns_are_causal_and_sum_to_one(model: Model, tokens: torch.Tensor) -> None:
    pattern = Frozen(model, tokens[0]).pattern(1)
    assert pattern.shape == (4, 20, 20)
    assert torch.allclose(pattern.sum(-1), torch.ones(4, 20), atol=1e-5)
    assert not bool(pattern.triu(1).any())


def test_attention_is_its_maps_its_pattern_and_its_constant(model: Model, tokens: torch.Tensor) -> None:
    """Value maps by gradients, patterns and constants put together again give what attention adds, less its constant."""
    sites = [Site("attn_in", 1), Site("attn_heads", 1)]
    frozen = Frozen(model, tokens[0], read=sites)
    maps = value_maps(model)
    assert maps is not None
    pattern, heads = frozen.pattern(1), frozen.clean[sites[1]]
    kv = len(maps[1]) // (heads.shape[1] // 4)
    values = (frozen.clean[sites[0]] @ maps[1].T).view(20, kv, -1).repeat_interleave(4 // kv, 1)
    made = torch.einsum("hqk,khd->qhd", pattern, values).flatten(1)
    rest = heads - made
    assert torch.allclose(rest, rest[:1].expand_as(rest), atol=1e-4 * float(heads.abs().max()))  # the bias of the values, the same everywhere


def test_the_model_is_as_before_also_for_other_threads_and_after_an_error(model: Model, tokens: torch.Tensor) -> None:
    before = model.hf.config._attn_implementation
    plain = model.logits(tokens)
    frozen = Frozen(model, tokens[0])
    seen: list[torch.Tensor] = []
    with frozen.holding():
        other = threading.Thread(target=lambda: seen.append(model.logits(tokens)))
        other.start()
        other.join()
    assert torch.allclose(seen[0], eager_pair(model, tokens), atol=1e-5)
    with pytest.raises(TokenOutOfRange):
        Frozen(model, torch.tensor([10**6]))
    assert model.hf.config._attn_implementation == before
    assert torch.equal(model.logits(tokens), plain)


def eager_pair(model: Model, tokens: torch.Tensor) -> Any:
    return torch.stack([eager(model, row) for row in tokens])


def test_a_forward_that_another_thread_s_freezing_interrupts_keeps_its_causal_mask(model: Model, tokens: torch.Tensor) -> None:
    plain, frozen = model.logits(tokens), Frozen(model, tokens[0])
    before = model.hf.config._attn_implementation
    assert before is not None
    gone_through: list[int] = []

    def change(*_: Any) -> None:
        with frozen.holding():
            within = str(model.hf.config._attn_implementation)
        model.hf.set_attn_implementation(within)  # as if the other thread were still at it
        gone_through.append(1)

    hook = model.module(Site("resid_pre", 1)).register_forward_pre_hook(change)
    try:
        interrupted = model.logits(tokens)
    finally:
        hook.remove()
        model.hf.set_attn_implementation(before)
    assert gone_through
    assert torch.allclose(interrupted, plain, atol=1e-5)
