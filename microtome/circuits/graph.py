"""An attribution graph: what fed each traced target, edge by edge, with nothing left out.

Rows are what was traced back (the features that were expanded, then the targets), columns are all nodes; stored sparse. For every row

    sum of weights + dropped = pre

where `pre` is the pre-activation that the model's own forward measured. `Graph.balance` says how far that is missed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from microtome.artifacts import Artifact
from microtome.circuits import storage
from microtome.errors import GraphInvalid, NodeNotFound

KINDS = ("embedding", "error", "bias", "feature", "target")
"""Kinds of nodes; `Nodes.kind` holds their places in this tuple."""
EMBEDDING, ERROR, BIAS, FEATURE, TARGET = range(len(KINDS))
BIASES = ("attention", "mlp", "read", "position", "stream")
"""Kinds of bias nodes; `Nodes.feature` of a bias node is a place in this tuple.

`attention`: what attention adds at a layer whatever it reads. `mlp`: the decoder's bias and what the skip makes of a norm's bias. `read`: what a
target has from its own bias and from the bias of the norm it is read after. `position`: position embeddings. `stream`: the decoder's bias of an SAE
that writes the residual stream anew.
"""
STREAM_ERROR = -2
"""`Nodes.feature` of an error of the stream: what an SAE of the residual stream after a layer leaves. That of an MLP is −1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Nodes:
    """All nodes, an array a column: features by (layer, position, feature), errors by (layer, position), biases, embeddings by position, targets."""

    kind: npt.NDArray[np.int8]
    """Place in `KINDS`."""
    layer: npt.NDArray[np.int16]
    """0-based block; −1 for embeddings and position embeddings, the number of layers for targets and what is read at the final norm."""
    position: npt.NDArray[np.int32]
    """Place of the token in the prompt; −1 for a bias that is summed over positions."""
    feature: npt.NDArray[np.int32]
    """A feature's number in its dictionary, an embedding's or a logit's token, a bias's place in `BIASES`; else −1 (`STREAM_ERROR` of an SAE's)."""
    activation: npt.NDArray[np.float32]
    """A feature's activation; a logit target's probability; 1 for the rest."""

    def __len__(self) -> int:
        return len(self.kind)

    def where(self, kind: str) -> npt.NDArray[np.int64]:
        """The nodes of a kind, in order."""
        return np.flatnonzero(self.kind == KINDS.index(kind))


@dataclass(frozen=True, kw_only=True, eq=False)
class Edges:
    """Direct effects in compressed rows: row i has the entries `indptr[i]:indptr[i + 1]`, sources ascending."""

    indptr: npt.NDArray[np.int64]
    source: npt.NDArray[np.int32]
    """The node that the effect comes from."""
    weight: npt.NDArray[np.float32]
    """What the source adds to the row's pre-activation, signed, its activation included."""

    def row(self, i: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Sources and weights of a row."""
        here = slice(int(self.indptr[i]), int(self.indptr[i + 1]))
        return self.source[here], self.weight[here]


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """A graph; made by `trace`, kept with `save`, read with `Graph.open`.

    Arrays that do not fit each other raise `GraphInvalid`.
    """

    prompt: str
    tokens: tuple[int, ...]
    pieces: tuple[str, ...]
    """The tokens as shown, one string each."""
    model: str
    """Reference of the model."""
    model_fingerprint: str
    quantised: str | None
    """What the model's weights were rounded to before they came here."""
    n_layers: int
    dictionaries: tuple[str, ...]
    """Ids of the dictionary artifacts; `memory:…` with a hash of the weights where there is none."""
    nodes: Nodes
    rows: npt.NDArray[np.int32]
    """The node that each row is about: the expanded features in the order of nodes, then the targets."""
    edges: Edges
    dropped: npt.NDArray[np.float32]
    """By row, the signed sum of the effects that were not stored; 0 where all are."""
    dropped_abs: npt.NDArray[np.float32]
    """By row, the sum of their sizes."""
    pre: npt.NDArray[np.float32]
    """By row, the pre-activation in the model's forward."""
    target_weight: npt.NDArray[np.float32]
    """By target, how much it counts: a logit's probability, 1 for the others."""
    target_labels: tuple[str, ...]
    """By target, what it is, in words."""
    config: Mapping[str, Any] = field(default_factory=lambda: {})
    """How it was traced."""

    def __post_init__(self) -> None:
        _check(self)

    @property
    def n_features(self) -> int:
        return int((self.nodes.kind == FEATURE).sum())

    @property
    def n_targets(self) -> int:
        return len(self.target_weight)

    def sums(self) -> npt.NDArray[np.float64]:
        """By row, the sum of its stored weights."""
        return self._by_row(np.add)

    def balances(self) -> npt.NDArray[np.float64]:
        """By row, |sum of weights + dropped − pre|, relative to the larger of |pre| and the largest weight of the row."""
        off = np.abs(self.sums() + self.dropped - self.pre)
        largest = np.maximum(self._by_row(np.maximum), -self._by_row(np.minimum))
        return off / np.maximum(np.maximum(np.abs(self.pre), largest), 1e-30)

    def _by_row(self, reduce: np.ufunc) -> npt.NDArray[np.float64]:
        """The weights of each row reduced, in fp64; 0 for a row without edges. Nothing of the edges' size is made."""
        weight = self.edges.weight
        found = [reduce.reduce(weight[first:last], dtype=np.float64) if last > first else 0.0 for first, last in pairwise(self.edges.indptr.tolist())]
        return np.array(found, dtype=np.float64)

    def balance(self) -> float:
        """The largest of `balances`: 0 for a graph whose every row adds up."""
        return float(self.balances().max(initial=0.0))

    def row_of(self, node: int) -> int | None:
        """The row about a node; None where it was not expanded."""
        found = np.flatnonzero(self.rows == node)
        return int(found[0]) if len(found) else None

    def node(self, kind: str, *, layer: int | None = None, position: int | None = None, feature: int | None = None) -> int:
        """The one node of a kind at a place; `NodeNotFound` where there is none, or more than one."""
        nodes = self.nodes
        wanted = {"layer": layer, "position": position, "feature": feature}
        fits = nodes.kind == KINDS.index(kind)
        for name, value in wanted.items():
            if value is not None:
                fits = fits & (getattr(nodes, name) == value)
        found = np.flatnonzero(fits)
        if len(found) != 1:
            got = ", ".join([kind, *(f"{name} {value}" for name, value in wanted.items() if value is not None)])
            raise NodeNotFound(f"{len(found)} nodes of the graph are there.", got=got, wanted="one", do="Give layer, position and feature.")
        return int(found[0])

    def save(self, path: str | Path, *, replace: bool = False) -> Artifact:
        """Write the graph as an artifact at `path`; other work there is refused (`ArtifactConflict`) unless `replace`."""
        facts = {name: getattr(self, name) for name in storage.FACTS}
        arrays = {name: getattr(self, name) for name in storage.ROWS}
        arrays |= {f"nodes.{name}": getattr(self.nodes, name) for name in storage.NODES}
        arrays |= {f"edges.{name}": getattr(self.edges, name) for name in storage.EDGES}
        sizes = {"nodes": len(self.nodes), "edges": len(self.edges.source), "rows": len(self.rows), "targets": self.n_targets}
        summary = {**sizes, "prompt": self.prompt, "model": self.model, "balance": self.balance()}
        return storage.write(path, arrays, facts, summary=summary, replace=replace)

    def _repr_html_(self) -> str:
        from microtome.circuits.view import view  # it is made of graphs

        return view(self)._repr_html_()

    @classmethod
    def open(cls, path: str | Path) -> "Graph":
        """The graph artifact at `path`. Raises `ArtifactMissing`, `ArtifactForeign`, `ArtifactDamaged` or `GraphInvalid`."""
        arrays, facts = storage.read(path)
        nodes = Nodes(**{name: arrays[f"nodes.{name}"] for name in storage.NODES})
        edges = Edges(**{name: arrays[f"edges.{name}"] for name in storage.EDGES})
        return cls(nodes=nodes, edges=edges, **{name: arrays[name] for name in storage.ROWS}, **facts)


def _check(graph: Graph) -> None:
    """Raise `GraphInvalid` unless the arrays of a graph fit each other."""
    nodes, edges, n, rows = graph.nodes, graph.edges, len(graph.nodes), len(graph.rows)
    _require(all(len(getattr(nodes, name)) == n for name in storage.NODES), "the columns of the nodes differ in length")
    _require(_within(nodes.kind, 0, 5), "a node is of an unknown kind")
    _require(_within(nodes.layer, -1, graph.n_layers + 1), "a node is at a layer that is not there")
    _require(_within(nodes.position, -1, len(graph.tokens)), "a node is at a token that is not there")
    _require(len(graph.pieces) == len(graph.tokens), "the tokens and their texts differ in number")
    _require(_within(graph.rows, 0, n) and len(np.unique(graph.rows)) == rows, "a row is about no node, or two about one")
    sized = all(len(getattr(graph, name)) == rows for name in ("dropped", "dropped_abs", "pre"))
    _require(sized and len(edges.indptr) == rows + 1, "the columns of the rows differ in length")
    ends = len(edges.source) == len(edges.weight) == edges.indptr[-1] and edges.indptr[0] == 0
    _require(bool(ends) and bool((np.diff(edges.indptr) >= 0).all()), "the edges are not rows after each other")
    _require(_within(edges.source, 0, n), "an edge comes from no node")
    targets = np.flatnonzero(nodes.kind == 4)
    _require(len(graph.target_labels) == len(graph.target_weight) == len(targets), "the targets and their weights differ in number")
    _require(np.array_equal(graph.rows[rows - len(targets) :], targets), "the last rows are not the targets")
    values = (nodes.activation, edges.weight, graph.dropped, graph.dropped_abs, graph.pre, graph.target_weight)
    _require(all(bool(np.isfinite(array).all()) for array in values), "it holds values that are not finite")


def _within(array: npt.NDArray[Any], low: int, high: int) -> bool:
    return not len(array) or (int(array.min()) >= low and int(array.max()) < high)


def _require(holds: bool, wrong: str) -> None:
    if not holds:
        raise GraphInvalid(
            f"this is no graph: {wrong}.", got="arrays that do not fit each other", wanted="a graph as `trace` makes it", do=storage.AGAIN
        )
