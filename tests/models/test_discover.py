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
