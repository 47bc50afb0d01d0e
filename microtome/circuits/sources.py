"""The sources of a graph: every vector that was written to the residual stream, grouped by where, so that a sweep can score them all.

A gradient that arrives at a write is turned into effects by one product for each (layer, position): features, the error and the constants there
stand side by side as rows of one matrix. Nothing is gathered by row.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt
import torch

from microtome.circuits.graph import BIAS, BIASES, EMBEDDING, ERROR, FEATURE, STREAM_ERROR
from microtome.circuits.replacement import Replacement
from microtome.devices import Scratch
from microtome.models import Site
from microtome.shapes import Float, Int, Tensor

_KEPT_BYTES = 1 << 30
"""Vectors of all writes that are kept for the whole trace; beyond, each layer's are put together anew for every batch,"""
_MADE_BYTES = 1 << 24
"""so many at once."""


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


class Part(NamedTuple):
    """Some of what is written at one place of the stream."""

    nodes: Int[Tensor, "part"]
    positions: Int[Tensor, "part"]
    """Ascending."""
    vectors: Callable[[slice], Float[Tensor, "some d_model"]]
    """Those of some of the nodes."""


class Group:
    """Vectors written at one place of the stream, by position."""

    def __init__(self, parts: Sequence[Part], *, n_tokens: int, width: int, scratch: Scratch) -> None:
        positions = torch.cat([part.positions for part in parts])
        order = torch.argsort(positions, stable=True)
        self.nodes = torch.cat([part.nodes for part in parts])[order]
        counts = torch.bincount(positions, minlength=n_tokens).tolist()
        self.starts = [0, *np.cumsum(counts).tolist()]
        self.each = counts[0] if len(set(counts)) == 1 else None
        """How many there are at every position, if at each the same."""
        self._n_tokens, self._width, self._scratch = n_tokens, width, scratch
        places = torch.argsort(order).split([len(part.nodes) for part in parts])
        self._parts = [(part.vectors, part.positions.cpu().numpy(), place) for part, place in zip(parts, places, strict=True)]
        """Of each part also where its vectors stand in the order of `nodes`."""
        self._kept: Tensor | None = None
        self.keeps = False

    def score(self, gradient: Float[Tensor, "n pos d_model"], block: Float[Tensor, "n columns"]) -> None:
        """Add to each row's columns ⟨gradient at its position, vector⟩ of all nodes at positions that the gradient has."""
        if not self.starts[gradient.shape[1]] or not len(gradient):
            return
        for first, last in self._stretches(gradient.shape[1]):
            vectors, nodes = self._vectors(first, last), self.nodes[self.starts[first] : self.starts[last]]
            by_position = gradient[:, first:last].transpose(0, 1)
            if self.each is not None:
                scores = torch.bmm(by_position, vectors.view(last - first, self.each, -1).transpose(1, 2)).transpose(0, 1).flatten(1)
            else:
                ends = [start - self.starts[first] for start in self.starts[first : last + 1]]
                scores = torch.cat([by_position[i] @ vectors[low:high].T for i, (low, high) in enumerate(pairwise(ends))], 1)
            block.index_add_(1, nodes, scores)

    def _stretches(self, n_tokens: int) -> Iterator[tuple[int, int]]:
        """Positions that are scored together: all where vectors are kept; elsewhere as many as `_MADE_BYTES` hold."""
        most = len(self.nodes) if self.keeps else max(_MADE_BYTES // (4 * self._width), 1)
        first = 0
        while first < n_tokens:
            last = bisect_right(self.starts, self.starts[first] + most, lo=first + 1, hi=n_tokens + 1) - 1
            yield first, (last := max(last, first + 1))
            first = last

    def _vectors(self, first: int, last: int) -> Float[Tensor, "m d_model"]:
        """Those at some positions, in the order of `nodes`; unless they are kept, gone when the thread asks for others."""
        if self.keeps:
            if self._kept is None:
                self._kept = self._made(0, self._n_tokens)
            return self._kept[self.starts[first] : self.starts[last]]
        return self._made(first, last)

    def _made(self, first: int, last: int) -> Float[Tensor, "m d_model"]:
        before, made = self.starts[first], None
        for vectors, positions, place in self._parts:
            low, high = np.searchsorted(positions, (first, last)).tolist()
            part = vectors(slice(low, high))
            if made is None:
                shape = self.starts[last] - before, self._width
                made = part.new_empty(shape) if self.keeps else self._scratch.take("vectors", *shape, like=part)
            made.index_copy_(0, place[low:high] - before, part)
        assert made is not None
        return made


@final
class Sources:
    """All sources of a replacement model."""

    def __init__(self, replacement: Replacement) -> None:
        self.columns = columns_of(replacement)
        scratch = Scratch()
        self._mlp = [_written_by_mlp(replacement, self.columns, layer, scratch=scratch) for layer in range(replacement.n_layers)]
        self._stream = {place: _written_anew(replacement, self.columns, place, scratch=scratch) for place in replacement.cuts}
        self._start = _start(replacement, self.columns, scratch)
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


def _written_by_mlp(replacement: Replacement, columns: Columns, layer: int, *, scratch: Scratch) -> Group:
    """Features that write at a layer, its errors and its constant, at every position."""
    constant = replacement.mlp_constants[layer]
    bias = None if constant is None else (columns.mlp[layer], constant)
    first_error = columns.first_error + layer * replacement.n_tokens
    return _group(replacement, Site("mlp_out", layer), errors=(first_error, replacement.errors[layer]), bias=bias, scratch=scratch)


def _written_anew(replacement: Replacement, columns: Columns, place: int, *, scratch: Scratch) -> Group:
    """The same of an SAE of the stream."""
    cut = replacement.cuts[place]
    bias = None if cut.constant is None else (columns.stream_bias[place], cut.constant)
    return _group(replacement, cut.site, errors=(columns.stream[place], cut.error), bias=bias, scratch=scratch)


def _group(replacement: Replacement, site: Site, *, errors: tuple[int, Tensor], bias: tuple[int, Tensor] | None, scratch: Scratch) -> Group:
    """What is written at a site: features, errors (the first's node, and all vectors) and perhaps a constant (node and vector)."""
    n_tokens, device, features = replacement.n_tokens, replacement.model.device, replacement.features
    each, parts = torch.arange(n_tokens, device=device), list[Part]()
    for source in replacement.writers(site):
        first, last = replacement.span(source)
        nodes = torch.arange(first, last, device=device)
        parts.append(Part(nodes, features.position[first:last], partial(replacement.written, source, site)))
    parts.append(Part(errors[0] + each, each, errors[1].__getitem__))
    if bias is not None:
        parts.append(Part(torch.full_like(each, bias[0]), each, bias[1].expand(n_tokens, -1).__getitem__))
    return Group(parts, n_tokens=n_tokens, width=replacement.model.d_model, scratch=scratch)


def _start(replacement: Replacement, columns: Columns, scratch: Scratch) -> Group:
    each = torch.arange(replacement.n_tokens, device=replacement.model.device)
    parts = [Part(columns.first_embedding + each, each, replacement.embedding.__getitem__)]
    if replacement.position is not None and columns.first_position is not None:
        parts.append(Part(columns.first_position + each, each, replacement.position.__getitem__))
    return Group(parts, n_tokens=replacement.n_tokens, width=replacement.model.d_model, scratch=scratch)
