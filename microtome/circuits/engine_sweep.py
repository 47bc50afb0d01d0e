"""The fast engine: one linear backward over the causal cone, three matrix products a layer.

Per layer the path through attention is the transpose of  stream → value map → pattern → output map → stream.  Norm gains are folded into the two
maps and norm scales into the pattern, once a prompt, so that a layer is

    Z = G · W_out,   V = Aᵀ Z (query heads of one key head side by side),   G += V · W_value

for all rows and positions at once. Rows are sorted by position into batches, which therefore end at their last position, and inside a batch by place:
a row joins the sweep where it is read. No weight names are known: the value map is a gradient, the output map the projection's weight.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, cast, final

import torch
from torch import nn

from microtome.circuits.replacement import Replacement
from microtome.circuits.sources import Sources
from microtome.circuits.targets import Rows
from microtome.devices import Scratch
from microtome.models import Site, value_maps
from microtome.shapes import Float, Tensor

_KEPT_BYTES = 1 << 30
"""Patterns that are kept for the whole trace; beyond, each layer's is computed anew for every batch."""
_STRIPE = 512
"""Positions written at that are taken together: what comes after them is not in the product, and no long pattern is ever there as a whole."""


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """One layer's way back from what attention adds to what it reads."""

    out: Float[Tensor, "d_model heads_width"]
    """Output map, with a post-norm's gain and centring and the block's multiplier."""
    value: Float[Tensor, "kv_width d_model"]
    """Value map, with the input norm's gain and centring."""
    scale_out: Float[Tensor, "pos"] | None
    """Of the post-norm, by the position written."""
    scale_in: Float[Tensor, "pos"] | None
    """Of the input norm, by the position read."""


class _Stripe(NamedTuple):
    """A layer's pattern at some positions written at, with the norms' scales."""

    first: int
    last: int
    pattern: Float[Tensor, "kv query written read"]
    """Key heads, the query heads of each, positions from `first` to `last`, positions read up to `last`."""


@final
class SweepEngine:
    """See the top of this file; `SweepEngine.of` is None for a family that its three products do not describe."""

    name = "sweep"

    def __init__(self, replacement: Replacement, sources: Sources, layers: list[_Layer]) -> None:
        self.sources = sources
        self._replacement = replacement
        self._layers = layers
        self._skips = {layer: skip.to(replacement.dtype) for layer, skip in replacement.frozen.skips.items()}
        self._parallel = replacement.model.is_parallel
        n_heads = len(replacement.frozen.pattern(0, last=1))
        self._n_kv = [part.value.shape[0] // (part.out.shape[1] // n_heads) for part in layers]
        self._keeps = len(layers) * n_heads * replacement.n_tokens**2 * 4 <= _KEPT_BYTES
        self._kept: dict[int, list[_Stripe]] = {}
        self._scratch = Scratch()

    @classmethod
    def of(cls, replacement: Replacement, sources: Sources) -> "SweepEngine | None":
        """The engine, if every layer's attention is a value map, a pattern and an output map."""
        values = value_maps(replacement.model)
        if values is None:
            return None
        layers: list[_Layer] = []
        for layer, value in enumerate(values):
            made = _layer(replacement, layer, value.to(replacement.dtype))
            if made is None:
                return None
            layers.append(made)
        return cls(replacement, sources, layers)

    def add_effects(self, rows: Rows, block: Float[Tensor, "n columns"], *, heads: dict[int, Tensor] | None = None) -> None:
        """Add to each row's columns the direct effect of every source on it. Rows must be sorted by place, the last first.

        `heads` gets, by layer, what arrived at each head's output, `[rows that read later, pos, kv head, query head of it, width]`.
        """
        n_tokens, n = int(rows.position.max()) + 1, len(rows)
        gradient = self._scratch.take("gradient", n, n_tokens, rows.vector.shape[1], like=block).zero_()
        gradient[torch.arange(n, device=block.device), rows.position] = rows.vector.to(block.dtype)
        places = rows.place.tolist()
        for layer in reversed(range(len(self._layers))):
            beyond, after, mid = (sum(place >= 2 * layer + step for place in places) for step in (3, 2, 1))
            if beyond and 2 * layer + 2 in self.sources.cuts:
                self.sources.score_stream(2 * layer + 2, gradient[:beyond], block[:beyond])
                gradient[:beyond] = 0
            if after:
                self.sources.score_mlp(layer, gradient[:after], block[:after])
            skipped = self._skip(layer, gradient[:after]) if after and layer in self._skips else None
            if skipped is not None and not self._parallel:
                gradient[:after] += skipped
            if mid:
                self.sources.score_attention(layer, gradient[:mid], block[:mid])
                self._attend(layer, gradient[:mid], heads=heads)
            if skipped is not None and self._parallel:
                gradient[:after] += skipped
        self.sources.score_start(gradient, block)

    def spread(
        self, layer: int, stream: Float[Tensor, "n pos d_model"]
    ) -> tuple[Float[Tensor, "n pos kv query width"], Float[Tensor, "n pos d_model"]]:
        """The way forward: what heads make of a change of the stream before a layer, and what they add to the stream together."""
        part, n_kv = self._layers[layer], self._n_kv[layer]
        values = (stream @ part.value.T).unflatten(-1, (n_kv, -1))
        stripes = self._stripes(layer, stream.shape[1])
        mixed = torch.cat([torch.einsum("kqst,ntkh->nskqh", each.pattern, values[:, : each.last]) for each in stripes], 1)
        return mixed, mixed.flatten(2) @ part.out.T

    def skipped(self, layer: int, stream: Float[Tensor, "n pos d_model"]) -> Float[Tensor, "n pos d_model"] | None:
        """The way forward through a transcoder's skip, from a change of the stream that it reads; None where there is none."""
        if layer not in self._skips:
            return None
        reading = self._replacement.reading(self._replacement.members[layer].reads)
        assert reading is not None
        read = stream if reading.norm is None else reading.norm.forward(stream) - reading.norm.bias
        return read @ self._skips[layer].T

    def _attend(self, layer: int, gradient: Float[Tensor, "n pos d_model"], *, heads: dict[int, Tensor] | None) -> None:
        """Add what comes back through a layer's attention, in place."""
        part, n_kv, (n, n_tokens, width), take = self._layers[layer], self._n_kv[layer], gradient.shape, self._scratch.take
        flat, n_all = gradient.view(n * n_tokens, width), part.out.shape[1]
        arrived = flat.new_empty(len(flat), n_all) if heads is not None else take("arrived", len(flat), n_all, like=flat)
        arrived = torch.mm(flat, part.out, out=arrived).view(n, n_tokens, n_kv, -1, part.value.shape[0] // n_kv)
        if heads is not None:
            heads[layer] = arrived
        n_queries, head = arrived.shape[3:]
        back = take("back", n_kv, n_tokens, n * head, like=flat).zero_()
        for first, last, pattern in self._stripes(layer, n_tokens):
            by_head = take("by head", n_kv, n_queries, last - first, n, head, like=flat).copy_(arrived[:, first:last].permute(2, 3, 1, 0, 4))
            back[:, :last].baddbmm_(pattern.flatten(1, 2).transpose(1, 2), by_head.view(n_kv, -1, n * head))
        read = take("by head", n, n_tokens, n_kv, head, like=flat).copy_(back.view(n_kv, n_tokens, n, head).permute(2, 1, 0, 3))
        flat.addmm_(read.view(len(flat), -1), part.value)

    def _skip(self, layer: int, gradient: Float[Tensor, "n pos d_model"]) -> Float[Tensor, "n pos d_model"]:
        """What comes back through a transcoder's skip."""
        member = self._replacement.members[layer]
        reading = self._replacement.reading(member.reads)
        assert reading is not None
        arrived = gradient @ self._skips[layer]
        if reading.norm is None:
            return arrived
        back = reading.norm.back(arrived.flatten(0, 1)).view_as(arrived)
        return back * reading.norm.scale[: gradient.shape[1], None]

    def _stripes(self, layer: int, n_tokens: int) -> Iterator[_Stripe]:
        """A layer's pattern of the first tokens, in stripes."""
        whole = self._replacement.n_tokens
        if self._keeps and layer not in self._kept:
            self._kept[layer] = [self._stripe(layer, first, min(first + _STRIPE, whole)) for first in range(0, whole, _STRIPE)]
        for first in range(0, n_tokens, _STRIPE):
            last = min(first + _STRIPE, whole)
            stripe = self._kept[layer][first // _STRIPE] if self._keeps else self._stripe(layer, first, last)
            end = min(last, n_tokens)
            yield stripe if end == last else _Stripe(first, end, stripe.pattern[:, :, : end - first, :end])

    def _stripe(self, layer: int, first: int, last: int) -> _Stripe:
        part, pattern = self._layers[layer], self._replacement.frozen.pattern(layer, first=first, last=last).to(self._replacement.dtype)
        if part.scale_out is not None:
            pattern = pattern * part.scale_out[first:last, None]
        if part.scale_in is not None:
            pattern = pattern * part.scale_in[:last]
        return _Stripe(first, last, pattern.unflatten(0, (self._n_kv[layer], -1)))


def _layer(replacement: Replacement, layer: int, value: Float[Tensor, "kv_width d_model"]) -> _Layer | None:
    model, frozen = replacement.model, replacement.frozen
    heads = Site("attn_heads", layer)
    if not model.has(heads):
        return None
    projection = model.module(heads)
    if isinstance(projection, nn.Linear):
        out = projection.weight.detach().to(replacement.dtype)
    elif type(projection).__name__ == "Conv1D":
        out = cast("Tensor", projection.weight).detach().T.to(replacement.dtype)
    else:
        return None
    if (multiplier := model.multiplier(Site("attn_out", layer))) != 1:
        out = out * multiplier
    before, after = frozen.norm(Site("attn_in", layer)), frozen.norm(Site("attn_out", layer))
    if before is not None:
        value = before.back(value)
    if after is not None:
        out = after.gain[:, None].to(out) * (out - out.mean(0) if after.centres else out)
    return _Layer(
        out=out.contiguous(),
        value=value.contiguous(),
        scale_out=None if after is None else after.scale,
        scale_in=None if before is None else before.scale,
    )
