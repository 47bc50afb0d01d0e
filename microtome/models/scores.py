"""One head's attention score as a product of two linear maps, around a held forward."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from microtome.errors import ModelUnsupported
from microtome.models.discover import is_norm
from microtome.models.frozen import Frozen, Live
from microtome.models.model import gain_of
from microtome.models.sites import Site
from microtome.shapes import Float, Tensor


@dataclass(frozen=True, kw_only=True)
class ScoreMaps:
    """score = scaling · ⟨query · x + query_rest, key · y + key_rest⟩, x and y what attention reads at the two positions.

    Rotations by position and the scales of query and key norms are inside the maps, as they were in the clean forward.
    """

    query: Float[Tensor, "width d_model"]
    query_rest: Float[Tensor, "width"]
    key: Float[Tensor, "width d_model"]
    key_rest: Float[Tensor, "width"]
    scaling: float
    inputs: Float[Tensor, "2 d_model"]
    """x and y in the clean forward."""

    @property
    def score(self) -> float:
        """Before the mask and the softmax."""
        q, k = self.query @ self.inputs[0] + self.query_rest, self.key @ self.inputs[1] + self.key_rest
        return float(q @ k) * self.scaling


def score_maps(frozen: Frozen, layer: int, *, head: int, query: int, key: int) -> ScoreMaps:
    """The maps of a query head's score between two positions; keys of grouped heads are found.

    Raises `ModelUnsupported` where the score is not such a product: scores that are softly capped (Gemma 2), or query norms that centre.
    """
    model, module = frozen.model, frozen._attention[layer]
    kwargs = frozen._held.attended[module].kwargs
    if kwargs.get("softcap"):
        raise _refused(frozen, f"its scores are capped softly at {kwargs['softcap']:g}")
    site, leaves = Site("attn_in", layer), list[Tensor]()

    def leaf(x: Tensor) -> Tensor:
        leaves.append(x.detach().clone().requires_grad_())
        return leaves[-1]

    inputs = model._inputs(frozen.tokens[None], None)
    with torch.enable_grad(), frozen._open(), _norms_held(frozen, module), model.tap(edit={site: leaf}):
        model.hf(**inputs, use_cache=False, logits_to_keep=1)
        live: Live = frozen._held.live[module]
        group = live.query.shape[1] // live.key.shape[1]
        q_map, q_rest, x = _map(live.query[0, head, query], leaves[0], query)
        k_map, k_rest, y = _map(live.key[0, head // group, key], leaves[0], key)
    scaling = kwargs.get("scaling")
    return ScoreMaps(
        query=q_map,
        query_rest=q_rest,
        key=k_map,
        key_rest=k_rest,
        scaling=live.query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        inputs=torch.stack([x, y]),
    )


def _map(vector: Tensor, leaf: Tensor, position: int) -> tuple[Tensor, Tensor, Tensor]:
    seeds = torch.eye(len(vector), dtype=vector.dtype, device=vector.device)
    (found,) = torch.autograd.grad(vector, leaf, seeds, is_grads_batched=True, retain_graph=True)
    map, x = found[:, 0, position].float(), leaf[0, position].detach().float()
    return map, vector.detach().float() - map @ x, x


@contextmanager
def _norms_held(frozen: Frozen, module: nn.Module) -> Generator[None]:
    """Norms of queries and keys multiply by what they multiplied by."""
    norms = [part for part in module.modules() if is_norm(part)]
    for norm in norms:
        weight = next(norm.parameters(), None)
        if weight is None:
            raise _refused(frozen, "a norm of its queries has no gain")
        _, bias, centres = gain_of(norm, torch.zeros_like(weight.detach()))
        if centres or bool(bias.any()):
            raise _refused(frozen, "the norm of its queries centres or adds a bias")
    hooks = [norm.register_forward_hook(_multiply) for norm in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _multiply(_: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor:
    x: Tensor = args[0]
    known = x.detach()
    return x * torch.where(known == 0, 0.0, out.detach() / torch.where(known == 0, 1.0, known))


def _refused(frozen: Frozen, why: str) -> ModelUnsupported:
    do = "Trace what the head writes instead, or take a family whose scores are plain products (Llama, Mistral, Qwen, GPT-2, GPT-NeoX, Phi-3)."
    model = frozen.model
    return ModelUnsupported(f"scores of {model.family} cannot be taken apart: {why}.", got=model.ref, wanted="⟨query, key⟩ · scaling", do=do)
