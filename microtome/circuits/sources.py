"""The sources of a graph: every vector that was written to the residual stream, grouped by where, so that a sweep can score them all.

A gradient that arrives at a write is turned into effects by one product for each (layer, position): features, the error and the constants there
stand side by side as rows of one matrix. Nothing is gathered by row.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import torch

from microtome.circuits.graph import BIAS, BIASES, EMBEDDING, ERROR, FEATURE, STREAM_ERROR
from microtome.circuits.replacement import Replacement
from microtome.models import Site
from microtome.shapes import Float, Int, Tensor

_KEPT_BYTES = 1 << 30
"""Vectors of all writes that are kept for the whole trace; beyond, each layer's are put together anew for every batch."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Where each kind of source stands among the nodes."""

    kind: npt.NDArray[np.int8]
    layer: npt.NDArray[np.int16]
    position: npt.NDArray[np.int32]
    feature: npt.NDArray[np.int32]
    activation: npt.NDArray[np.float32]
    first_error: int
    first_embedding: int
    attention: dict[int, int]
    """By layer, the bias node; layers whose constant is nothing have none."""
    mlp: dict[int, int]
    read: dict[int, int]
    """By layer (the number of layers: the final norm), the bias node of what is read there."""
    stream: dict[int, int]
    """By the place of an SAE of the stream (see `Reading`), the first of its errors."""
    stream_bias: dict[int, int]
    """The same, its bias node."""
    first_position: int | None

    def __len__(self) -> int:
        return len(self.kind)


class Group:
    """Vectors written at one place of the stream, by position."""

    def __init__(
        self, nodes: Int[Tensor, "m"], positions: Int[Tensor, "m"], make: Callable[[], list[Float[Tensor, "part d_model"]]], *, n_tokens: int
    ) -> None:
        order = torch.argsort(positions, stable=True)
        self.nodes = nodes[order]
        counts = torch.bincount(positions, minlength=n_tokens).tolist()
        self.starts = [0, *np.cumsum(counts).tolist()]
        self.each = counts[0] if len(set(counts)) == 1 else None
        """How many there are at every position, if at each the same."""
        self._make = make
        """Their vectors, in parts that stand in the order in which `nodes` were given."""
        self._place = torch.argsort(order)
        self._kept: Tensor | None = None
        self.keeps = False

    def vectors(self) -> Float[Tensor, "m d_model"]:
        """One a node, in the order of `nodes`."""
        if self._kept is not None:
            return self._kept
        parts, done = self._make(), 0
        made = parts[0].new_empty(len(self.nodes), parts[0].shape[1])
        for part in parts:
            made.index_copy_(0, self._place[done : done + len(part)], part)
            done += len(part)
        if self.keeps:
            self._kept = made
        return made

    def score(self, gradient: Float[Tensor, "n pos d_model"], block: Float[Tensor, "n columns"]) -> None:
        """Add to each row's columns ⟨gradient at its position, vector⟩ of all nodes at positions that the gradient has."""
        n_tokens = gradient.shape[1]
        last = self.starts[n_tokens]
        if not last or not len(gradient):
            return
        vectors, nodes = self.vectors()[:last], self.nodes[:last]
        by_position = gradient.transpose(0, 1)
        if self.each is not None:
            scores = torch.bmm(by_position, vectors.view(n_tokens, self.each, -1).transpose(1, 2)).transpose(0, 1).flatten(1)
        else:
            parts = [by_position[i] @ vectors[self.starts[i] : self.starts[i + 1]].T for i in range(n_tokens)]
            scores = torch.cat(parts, 1)
        block.index_add_(1, nodes, scores)


@final
class Sources:
    """All sources of a replacement model."""

    def __init__(self, replacement: Replacement) -> None:
        self.columns = columns_of(replacement)
        self._mlp = [_written_by_mlp(replacement, self.columns, layer) for layer in range(replacement.n_layers)]
        self._stream = {place: _written_anew(replacement, self.columns, place) for place in replacement.cuts}
        self._start = _start(replacement, self.columns)
        self._attention = {layer: replacement.attention_constants[layer] for layer in self.columns.attention}
        width = replacement.model.d_model
        groups = (*self._mlp, *self._stream.values())
        keeps = sum(len(group.nodes) for group in groups) * width * 4 <= _KEPT_BYTES
        for group in (*groups, self._start):
            group.keeps = keeps

    def score_mlp(self, layer: int, gradient: Float[Tensor, "n pos d_model"], block: Float[Tensor, "n columns"]) -> None:
        """Add the effects of what the MLP of a layer wrote, given the gradient by it."""
        self._mlp[layer].score(gradient, block)

    @property
    def cuts(self) -> Collection[int]:
        """Places where an SAE writes the stream anew."""
        return self._stream

    def score_stream(self, place: int, gradient: Float[Tensor, "n pos d_model"], block: Float[Tensor, "n columns"]) -> None:
        """Add the effects of what an SAE wrote at a place of the stream, given the gradient by it."""
        self._stream[place].score(gradient, block)

    def score_attention(self, layer: int, gradient: Float[Tensor, "n pos d_model"], block: Float[Tensor, "n columns"]) -> None:
        """Add the effect of the constants that a layer's attention wrote."""
        constant = self._attention.get(layer)
        if constant is not None:
            block[:, self.columns.attention[layer]] += torch.einsum("npd,pd->n", gradient, constant[: gradient.shape[1]])

    def score_start(self, gradient: Float[Tensor, "n pos d_model"], block: Float[Tensor, "n columns"]) -> None:
        """Add the effects of embeddings and positions."""
        self._start.score(gradient, block)


def columns_of(replacement: Replacement) -> Columns:
    """The nodes of a graph without its targets, in order."""
    features, n_layers, n_tokens = replacement.features, replacement.n_layers, replacement.n_tokens
    cuts = replacement.cuts.values()
    streams = {cut.layer: cut.constant for cut in cuts}
    biases: list[tuple[int, int, int]] = []  # place in BIASES, layer, position
    constants = {"attention": enumerate(replacement.attention_constants), "mlp": enumerate(replacement.mlp_constants), "stream": streams.items()}
    for name, by_layer in constants.items():
        biases += [(BIASES.index(name), layer, -1) for layer, constant in by_layer if constant is not None]
    biases += [(BIASES.index("read"), layer, -1) for layer in range(n_layers + 1)]
    if replacement.position is not None:
        biases += [(BIASES.index("position"), -1, position) for position in range(n_tokens)]
    in_mlps, in_stream = n_layers * n_tokens, len(cuts) * n_tokens
    n_errors, n_features = in_mlps + in_stream, len(features)
    of_errors = [*range(n_layers), *streams]
    counts = (n_features, n_errors, len(biases), n_tokens)
    bias = np.array(biases, dtype=np.int32).reshape(-1, 3)
    tokens = replacement.frozen.tokens.cpu().numpy()
    layer = [features.layer.cpu().numpy(), np.repeat(np.array(of_errors), n_tokens), bias[:, 1], np.full(n_tokens, -1)]
    position = [features.position.cpu().numpy(), np.tile(np.arange(n_tokens), len(of_errors)), bias[:, 2], np.arange(n_tokens)]
    feature = [features.feature.cpu().numpy(), np.repeat([-1, STREAM_ERROR], [in_mlps, in_stream]), bias[:, 0], tokens]
    at = {key: n_features + n_errors + i for i, key in enumerate((int(kind), int(where)) for kind, where, _ in biases)}
    by_kind = {name: {where: node for (kind, where), node in at.items() if kind == BIASES.index(name)} for name in BIASES}
    return Columns(
        kind=np.repeat(np.array([FEATURE, ERROR, BIAS, EMBEDDING], dtype=np.int8), counts),
        layer=np.concatenate(layer).astype(np.int16),
        position=np.concatenate(position).astype(np.int32),
        feature=np.concatenate(feature).astype(np.int32),
        activation=np.concatenate([features.activation.float().cpu().numpy(), np.ones(sum(counts[1:]), dtype=np.float32)]),
        first_error=n_features,
        first_embedding=n_features + n_errors + len(biases),
        attention=by_kind["attention"],
        mlp=by_kind["mlp"],
        read=by_kind["read"],
        stream={place: n_features + in_mlps + i * n_tokens for i, place in enumerate(replacement.cuts)},
        stream_bias={place: by_kind["stream"][cut.layer] for place, cut in replacement.cuts.items() if cut.constant is not None},
        first_position=None if replacement.position is None else n_features + n_errors + len(biases) - n_tokens,
    )


def _written_by_mlp(replacement: Replacement, columns: Columns, layer: int) -> Group:
    """Features that write at a layer, its errors and its constant, at every position."""
    constant = replacement.mlp_constants[layer]
    bias = None if constant is None else (columns.mlp[layer], constant)
    first_error = columns.first_error + layer * replacement.n_tokens
    return _group(replacement, Site("mlp_out", layer), errors=(first_error, replacement.errors[layer]), bias=bias)


def _written_anew(replacement: Replacement, columns: Columns, place: int) -> Group:
    """The same of an SAE of the stream."""
    cut = replacement.cuts[place]
    bias = None if cut.constant is None else (columns.stream_bias[place], cut.constant)
    return _group(replacement, cut.site, errors=(columns.stream[place], cut.error), bias=bias)


def _group(replacement: Replacement, site: Site, *, errors: tuple[int, Tensor], bias: tuple[int, Tensor] | None) -> Group:
    """What is written at a site: features, errors (the first's node, and all vectors) and perhaps a constant (node and vector)."""
    n_tokens, device = replacement.n_tokens, replacement.model.device
    each = torch.arange(n_tokens, device=device)
    writers = replacement.writers(site)
    spans = [replacement.span(source) for source in writers]
    nodes = [*(torch.arange(first, last, device=device) for first, last in spans), errors[0] + each]
    positions = [*(replacement.features.position[first:last] for first, last in spans), each]
    if bias is not None:
        nodes.append(torch.full_like(each, bias[0]))
        positions.append(each)

    def make() -> list[Tensor]:
        constants = [] if bias is None else [bias[1].expand(n_tokens, -1)]
        return [*(replacement.written(source, site) for source in writers), errors[1], *constants]

    return Group(torch.cat(nodes), torch.cat(positions), make, n_tokens=n_tokens)


def _start(replacement: Replacement, columns: Columns) -> Group:
    each = torch.arange(replacement.n_tokens, device=replacement.model.device)
    nodes, parts = [columns.first_embedding + each], [replacement.embedding]
    if replacement.position is not None and columns.first_position is not None:
        nodes.append(columns.first_position + each)
        parts.append(replacement.position)
    return Group(torch.cat(nodes), each.repeat(len(nodes)), lambda: parts, n_tokens=replacement.n_tokens)
