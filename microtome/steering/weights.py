"""Ablation as an edit of weights: every matrix that writes to the residual stream forgets one direction."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from microtome.directions import Direction
from microtome.errors import ModelUnsupported
from microtome.models import Model, Site
from microtome.shapes import Float, Tensor

_PROBE = (7, 8, 9, 10, 11)


def residual_writes(model: Model) -> tuple[Site, ...]:
    """The sites at which `Ablate` does what `ablated_weights` does: the stream as the first block gets it, and what each block adds."""
    adds = (Site(kind, layer) for layer in range(model.n_layers) for kind in ("attn_out", "mlp_out"))
    return (Site("resid_pre", 0), *adds)


@contextmanager
def ablated_weights(model: Model, direction: Direction) -> Generator[None]:
    """Within the block W ← W − û ûᵀ W for every W that writes to the residual stream, its bias too; after it the weights are as they were.

    The same as `Ablate(component=direction, sites=residual_writes(model))` (Arditi et al. 2024, eq. 5), up to rounding, at no cost per token.
    All threads see it. Embeddings that are tied to the unembedding are untied meanwhile. A family that normalises what a block adds before
    it is added (Gemma 2 and 3, OLMo 2) has no such weights: `ModelUnsupported`.
    """
    direction.fits(model, site=Site("resid_post", 0))
    unit = direction.unit_vector.to(model.device)
    writers = _writers(model)
    with ExitStack() as restore, torch.no_grad():
        for module in writers:
            for name in ("weight", "bias"):
                held = getattr(module, name, None)
                if isinstance(held, nn.Parameter):
                    restore.callback(setattr, module, name, held)
                    outputs_first = name == "weight" and isinstance(module, nn.Linear)
                    setattr(module, name, nn.Parameter(_without(held, unit, axis=0 if outputs_first else -1), requires_grad=False))
        yield


def _without(weight: Tensor, unit: Float[Tensor, "d_model"], *, axis: int) -> Tensor:
    exact, direction = weight.double(), unit.double()
    rows = exact.movedim(axis, -1)
    return (rows - (rows @ direction)[..., None] * direction).movedim(-1, axis).to(weight.dtype).contiguous()


def _writers(model: Model) -> list[nn.Module]:
    """The modules whose outputs, summed, are the residual stream: found by comparing outputs with the sites in one tiny forward."""
    hf: Any = model.hf
    outs: dict[nn.Module, Tensor] = {}

    def spy(module: nn.Module, _: Any, out: Any) -> None:
        if isinstance(out, Tensor) and out.shape[-1] == model.d_model:
            outs[module] = out.detach().reshape(-1, model.d_model)

    kinds = ("Linear", "Conv1D", "Embedding")
    handles = [module.register_forward_hook(spy) for module in hf.modules() if type(module).__name__.endswith(kinds)]
    tokens = torch.tensor([[token % model.n_vocab for token in _PROBE]])
    sites = residual_writes(model)
    try:
        values = model.capture(tokens, [*sites, Site("resid_post", model.n_layers - 1)])
    finally:
        for handle in handles:
            handle.remove()
    embeddings = [module for module in outs if isinstance(module, nn.Embedding)]
    _require(model, sum(outs[module] for module in embeddings), values[sites[0]][0], what=str(sites[0]))
    found = list[nn.Module](embeddings)
    for site in sites[1:]:
        wanted = values[site][0]
        writer = next((module for module, out in outs.items() if torch.equal(out, wanted)), None)
        if writer is None:
            _require(model, None, wanted, what=str(site))
        assert writer is not None
        found.append(writer)
    return found


def _require(model: Model, sum_of: Any, wanted: Tensor, *, what: str) -> None:
    if not isinstance(sum_of, Tensor) or not torch.allclose(sum_of, wanted, atol=1e-5, rtol=1e-4):
        do = "Use Ablate(component=…, sites=residual_writes(model))."
        raise ModelUnsupported(
            f"{model.ref} has no weights that write {what}: something comes between.", got=model.family, wanted="plain writes", do=do
        )
