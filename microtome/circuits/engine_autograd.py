"""The engine that is true for every family: batched autograd through the held forward of the model's own modules."""

from typing import cast, final

import torch

from microtome.circuits.replacement import Replacement
from microtome.circuits.sources import Sources
from microtome.circuits.targets import Rows
from microtome.models import Site
from microtome.shapes import Float, Tensor


@final
class AutogradEngine:
    """Effects by `torch.autograd.grad` with `is_grads_batched`: one held forward, then a vectorised backward a batch of rows."""

    name = "autograd"

    def __init__(self, replacement: Replacement, sources: Sources) -> None:
        self.sources = sources
        n_layers = replacement.n_layers
        self._layers = range(n_layers)
        self._places = {2 * layer: Site("resid_pre", layer) for layer in self._layers} | {2 * n_layers: Site("resid_post", n_layers - 1)}
        if not replacement.model.is_parallel:
            self._places |= {2 * layer + 1: Site("resid_mid", layer) for layer in self._layers}
        self._places |= {place: Site("resid_post", place // 2 - 1) for place in sources.cuts}  # read before it is written anew
        writes = [Site(kind, layer) for kind in ("mlp_out", "attn_out") for layer in self._layers]
        anew = [Site("resid_pre", place // 2) for place in sources.cuts]
        read = list(self._places.values())
        self._run = replacement.frozen.run(read=read, leaves=[Site("resid_pre", 0), *anew, *writes], zeroed=anew)

    def add_effects(self, rows: Rows, block: Float[Tensor, "n columns"]) -> None:
        """Add to each row's columns the direct effect of every source on it."""
        outputs: list[Tensor] = []
        seeds: list[Tensor] = []
        for place in rows.place.unique().tolist():
            value, here = self._run.values[self._places[place]], (rows.place == place).nonzero()[:, 0]
            seed = torch.zeros(len(rows), *value.shape, dtype=value.dtype, device=value.device)
            seed[here, rows.position[here]] = rows.vector[here].to(value.dtype)
            outputs.append(value)
            seeds.append(seed)
        leaves = list(self._run.leaves)
        inputs = [self._run.leaves[leaf] for leaf in leaves]
        made = torch.autograd.grad(outputs, inputs, seeds, is_grads_batched=True, retain_graph=True, allow_unused=True)
        found = cast("tuple[Tensor | None, ...]", made)
        for site, gradient in zip(leaves, found, strict=True):
            if gradient is None:
                continue
            arrived = gradient[:, 0].to(block.dtype)
            if site.kind == "mlp_out":
                assert site.layer is not None
                self.sources.score_mlp(site.layer, arrived, block)
            elif site.kind == "attn_out":
                assert site.layer is not None
                self.sources.score_attention(site.layer, arrived, block)
            elif site.layer:
                self.sources.score_stream(2 * site.layer, arrived, block)
            else:
                self.sources.score_start(arrived, block)
