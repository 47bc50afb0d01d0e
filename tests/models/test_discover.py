import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from microtome.errors import ModelUnsupported
from microtome.models import Model, Site, tiny, tiny_tokenizer
from microtome.models.discover import discover

RandomModel = Callable[..., PreTrainedModel]


def test_the_residual_is_the_sum_of_its_parts(model: Model, tokens: torch.Tensor):
    seen = model.capture(tokens, model.sites())
    for layer in range(model.n_layers):
        parts = seen[Site("resid_pre", layer)] + seen[Site("attn_out", layer)] + seen[Site("mlp_out", layer)]
        torch.testing.assert_close(seen[Site("resid_post", layer)], parts, atol=1e-5, rtol=0)


def test_a_block_ends_where_the_next_begins(model: Model, tokens: torch.Tensor):
    seen = model.capture(tokens, model.sites())
    for layer in range(1, model.n_layers):
        assert torch.equal(seen[Site("resid_pre", layer)], seen[Site("resid_post", layer - 1)])


def test_every_kind_of_site_is_found_in_every_layer(model: Model):
    kinds = ["resid_pre", "attn_in", "attn_heads", "attn_out", "mlp_in", "mlp_out", "resid_post"] + ["resid_mid"] * (not model.is_parallel)
    wanted = {Site("embed"), Site("final_norm"), *(Site(kind, layer) for kind in kinds for layer in range(model.n_layers))}
    assert set(model.sites()) == wanted
    assert {model.width(site) for site in model.sites()} == {model.d_model}


def test_the_heads_through_the_projection_are_the_attention_modules_output(model: Model, tokens: torch.Tensor):
    """Before any post-norm (Gemma 2 and 3, OLMo 2); the module is found by its name and class, not by the discovery under test."""
    for layer in range(model.n_layers):
        attention = next(m for name, m in model.hf.named_modules() if re.search(rf"\.{layer}\.(attn|self_attn|attention)$", name))
        projection = next(m for name, m in attention.named_children() if name in ("o_proj", "c_proj", "dense"))
        seen: list[Any] = []
        hook = attention.register_forward_hook(lambda _, __, out, seen=seen: seen.append(out))
        try:
            heads = model.capture(tokens, [Site("attn_heads", layer), Site("resid_post", layer)])[Site("attn_heads", layer)]
        finally:
            hook.remove()
        whole = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
        assert heads.shape == whole.shape
        torch.testing.assert_close(projection(heads), whole, atol=1e-6, rtol=1e-5)
        assert not torch.allclose(heads, whole, atol=1e-3)


def test_what_the_mlp_reads_is_the_normed_middle_of_the_block():
    llama = tiny("llama")
    tokens = torch.arange(10, 30)[None]
    seen = llama.capture(tokens, [Site("resid_mid", 1), Site("mlp_in", 1)])
    norm: Any = llama.hf.get_submodule("model.layers.1.post_attention_layernorm")
    torch.testing.assert_close(norm(seen[Site("resid_mid", 1)]), seen[Site("mlp_in", 1)])


def test_a_residual_multiplier_is_found_and_belongs_to_the_write(random_model: RandomModel):
    hf = random_model("granite", hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, residual_multiplier=0.22)
    assert discover(hf).places[Site("attn_out", 1)].scale == 0.22
    granite = Model(hf, tiny_tokenizer(), ref="granite")
    tokens = torch.arange(10, 30)[None]
    seen = granite.capture(tokens, granite.sites())
    parts = seen[Site("resid_pre", 1)] + seen[Site("attn_out", 1)] + seen[Site("mlp_out", 1)]
    torch.testing.assert_close(seen[Site("resid_post", 1)], parts, atol=1e-5, rtol=0)
    edits = {site: torch.clone for site in granite.sites()}
    assert torch.equal(granite.logits(tokens, edit=edits), granite.logits(tokens))


def test_families_that_break_the_rule_are_refused_by_name(random_model: RandomModel):
    hf = random_model("bloom", hidden_size=32, n_layer=2, n_head=4)
    with pytest.raises(ModelUnsupported, match="bloom"):
        discover(hf)


def test_a_model_that_was_refused_has_no_hooks_left(random_model: RandomModel):
    hf = random_model("bloom", hidden_size=32, n_layer=2, n_head=4)
    with pytest.raises(ModelUnsupported):
        discover(hf)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in hf.modules())
