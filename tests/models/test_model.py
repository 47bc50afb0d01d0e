from typing import Any

import pytest
import torch

from microtome.errors import TokenOutOfRange
from microtome.models import TINY_FAMILIES, Model, Site, tiny


def padded(row: torch.Tensor, n: int, *, side: str) -> tuple[torch.Tensor, torch.Tensor]:
    tokens, mask = torch.zeros(n, dtype=torch.long), torch.zeros(n, dtype=torch.bool)
    here = slice(n - len(row), n) if side == "left" else slice(0, len(row))
    tokens[here], mask[here] = row, True
    return tokens, mask


@pytest.mark.parametrize("side", ["left", "right"])
def test_captures_do_not_depend_on_padding_or_on_the_rest_of_the_batch(model: Model, tokens: torch.Tensor, side: str):
    short = tokens[1, :13]
    alone = model.capture(short[None], model.sites())
    row, mask = padded(short, 20, side=side)
    batch = model.capture(torch.stack([row, tokens[0]]), model.sites(), mask=torch.stack([mask, torch.ones(20, dtype=torch.bool)]))
    for site, value in alone.items():
        torch.testing.assert_close(batch[site][0][mask], value[0], atol=1e-5, rtol=1e-5, msg=str(site))


def test_captures_are_those_of_a_forward_with_a_cache(model: Model, tokens: torch.Tensor):
    """Token by token with a KV cache, as in generation."""
    whole = model.capture(tokens, model.sites())
    steps: dict[Site, list[torch.Tensor]] = {site: [] for site in model.sites()}
    cache: Any = None
    for step in range(tokens.shape[1]):
        with model.tap(read=model.sites()) as seen, torch.no_grad():
            cache = model.hf(input_ids=tokens[:, step : step + 1], past_key_values=cache, use_cache=True).past_key_values
        for site, value in seen.items():
            steps[site].append(value)
    for site, value in whole.items():
        torch.testing.assert_close(torch.cat(steps[site], 1), value, atol=1e-5, rtol=1e-5, msg=str(site))


def test_captures_are_hugging_faces_hidden_states(model: Model, tokens: torch.Tensor):
    with torch.no_grad():
        hidden = model.hf(input_ids=tokens, output_hidden_states=True).hidden_states
    seen = model.capture(tokens, model.sites())
    for layer in range(model.n_layers):
        assert torch.equal(seen[Site("resid_pre", layer)], hidden[layer])
    assert torch.equal(seen[Site("final_norm")], hidden[-1])


def test_capturing_stops_after_the_last_wanted_layer(model: Model, tokens: torch.Tensor):
    reached: list[str] = []
    blocks = {str(site): model._map.places[site].module for site in model.sites() if site.kind == "resid_post"}
    hooks = [block.register_forward_pre_hook(lambda *_, name=name: reached.append(name)) for name, block in blocks.items()]
    model.capture(tokens, [Site("resid_post", 0), Site("attn_in", 1)])
    for hook in hooks:
        hook.remove()
    assert reached == ["L0.resid_post", "L1.resid_post"]


def test_the_result_has_what_was_asked_for_in_that_order(model: Model, tokens: torch.Tensor):
    wanted = [Site("resid_post", 1), Site("embed")]
    assert list(model.capture(tokens, wanted)) == wanted
    assert model.capture(tokens, []) == {}


def test_logits_are_hugging_faces(model: Model, tokens: torch.Tensor):
    with torch.no_grad():
        assert torch.equal(model.logits(tokens), model.hf(input_ids=tokens).logits)


def test_the_loss_is_the_cross_entropy_of_each_next_token(model: Model, tokens: torch.Tensor):
    logp = model.logits(tokens).double().log_softmax(-1)
    wanted = torch.stack([torch.stack([-logp[b, i, tokens[b, i + 1]] for i in range(19)]) for b in range(2)])
    torch.testing.assert_close(model.loss(tokens).double(), wanted, atol=1e-5, rtol=1e-5)


def test_padding_has_no_loss(model: Model, tokens: torch.Tensor):
    row, mask = padded(tokens[1, :13], 20, side="left")
    loss = model.loss(row[None], mask=mask[None])
    assert torch.equal(loss[0, :7], torch.zeros(7))
    torch.testing.assert_close(loss[:, 7:], model.loss(tokens[1:, :13]), atol=1e-4, rtol=1e-4)


def test_the_unembedding_is_the_logits_gradient_up_to_one_scale_a_position(model: Model):
    """Rows are compared with autograd through final norm and head, at a residual along which the norm's own scale does not move."""
    x = torch.ones(model.d_model)
    x[1::2] = -1
    x.requires_grad_()
    head: Any = model.hf.get_output_embeddings()
    rows = torch.stack([torch.autograd.grad(head(model._map.final_norm(x[None, None]))[0, 0, token], x)[0] for token in range(0, 300, 37)])
    away = torch.eye(model.d_model) - torch.outer(x.detach(), x.detach()) / model.d_model  # the norm also removes the part along x
    torch.testing.assert_close(rows, model.unembed()[0:300:37] @ away, atol=1e-4, rtol=1e-3)


def test_the_vocabulary_mask_leaves_out_control_tokens_and_rows_of_no_token(model: Model):
    mask = model.vocabulary_mask()
    assert mask.shape == (model.n_vocab,)
    assert not mask[list(model.tokenizer.special_ids)].any()
    assert not mask[len(model.tokenizer) :].any()
    assert int(mask.sum()) == len(model.tokenizer) - 3


@pytest.mark.parametrize(
    ("tokens", "why"),
    [
        (torch.tensor([[1, 2, 384]]), "vocabulary"),
        (torch.tensor([[1, -1, 3]]), "vocabulary"),
        (torch.zeros((1, 0), dtype=torch.long), "no tokens"),
        (torch.zeros((1, 129), dtype=torch.long), "longer"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(tokens: torch.Tensor, why: str):
    with pytest.raises(TokenOutOfRange, match=why):
        tiny("llama").capture(tokens, [Site("embed")])


def test_the_fingerprint_names_weights_dtype_and_tokenizer(model: Model):
    assert tiny(model.family.removesuffix("_text")).fingerprint == model.fingerprint
    assert tiny(model.family.removesuffix("_text"), seed=1).fingerprint != model.fingerprint
    assert tiny(model.family.removesuffix("_text"), dtype=torch.bfloat16).fingerprint != model.fingerprint


@pytest.mark.parametrize("family", TINY_FAMILIES)
@pytest.mark.parametrize("kind", ["attn_in", "mlp_in", "final_norm"])
def test_what_a_norm_does_to_the_stream_is_told_exactly(family: str, kind: str) -> None:
    """gain · C r · scale + bias is what is read, and the scale is that of the token alone; a site without a norm is the stream itself."""
    model = tiny(family)
    site = Site(kind, None if kind == "final_norm" else 1)
    tokens = torch.tensor([[5, 9, 2, 30, 7, 11]])
    norm = model.norm(site)
    if norm is None:
        assert family == "olmo2", "the one family here whose norms come after attention and MLP"
        stream = Site("resid_pre" if kind == "attn_in" else "resid_mid", 1)
        seen = model.capture(tokens, [stream, site])
        assert torch.equal(seen[stream], seen[site])
        return
    seen = model.capture(tokens, [norm.stream, site])
    scale = norm.scale(seen[norm.stream], seen[site])
    torch.testing.assert_close(scale[..., None] * norm.fold(seen[norm.stream]) + norm.bias, seen[site], rtol=1e-4, atol=1e-5)
    centred = seen[norm.stream] - (seen[norm.stream].mean(-1, keepdim=True) if norm.centres else 0)
    torch.testing.assert_close(scale, 1 / centred.square().mean(-1).sqrt(), rtol=1e-2, atol=0)
