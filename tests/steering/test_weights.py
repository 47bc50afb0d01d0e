import pytest
import torch
from steering.small import PROMPTS, direction

from microtome.errors import ModelUnsupported
from microtome.models import Model, Site
from microtome.steering import Ablate, Batch, ablated_weights, applied, residual_writes

POST_NORMED = ("gemma2", "gemma3", "olmo2")


def test_weights_without_a_direction_are_activations_without_it(model: Model):
    batch, v = Batch.of(model, PROMPTS), direction(1, site=Site("resid_post", 1))
    plain = model.logits(batch.tokens, mask=batch.mask)
    held = {name: weight.clone() for name, weight in model.hf.named_parameters()}
    if any(name in model.ref for name in POST_NORMED):
        with pytest.raises(ModelUnsupported, match="no weights that write"), ablated_weights(model, v):
            pass
    else:
        with applied(model, Ablate(component=v, sites=residual_writes(model)), batch=batch):
            by_activations = model.logits(batch.tokens, mask=batch.mask)
        with ablated_weights(model, v):
            by_weights = model.logits(batch.tokens, mask=batch.mask)
            last = model.capture(batch.tokens, [Site("resid_post", 2)], mask=batch.mask)[Site("resid_post", 2)]
        torch.testing.assert_close(by_weights[batch.mask], by_activations[batch.mask], atol=1e-4, rtol=1e-3)
        assert not torch.allclose(by_weights, plain, atol=1e-3)
        assert float((last[batch.mask] @ v.unit_vector).abs().max()) < 1e-4
    assert all(torch.equal(weight, held[name]) for name, weight in model.hf.named_parameters())
    assert torch.equal(model.logits(batch.tokens, mask=batch.mask), plain)


def test_an_exception_gives_the_weights_back(llama: Model):
    held = {name: weight.clone() for name, weight in llama.hf.named_parameters()}
    with pytest.raises(RuntimeError, match="stop"), ablated_weights(llama, direction(1)):
        raise RuntimeError("stop")
    assert all(torch.equal(weight, held[name]) for name, weight in llama.hf.named_parameters())
