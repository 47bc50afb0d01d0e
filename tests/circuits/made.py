"""Graphs made by hand or by lot, and the dense definitions that they are checked against."""

from typing import Any

import numpy as np
import numpy.typing as npt

from microtome.circuits import Edges, Graph, Nodes
from microtome.circuits.graph import BIAS, EMBEDDING, ERROR, FEATURE, TARGET

Floats = npt.NDArray[np.float64]


def graph_of(
    matrix: npt.NDArray[Any],
    *,
    kind: list[int],
    layer: list[int],
    position: list[int],
    feature: list[int],
    rows: list[int],
    target_weight: list[float],
    pieces: tuple[str, ...],
    prompt: str = "",
    tokens: tuple[int, ...] = (),
    dropped_abs: list[float] | None = None,
    labels: tuple[str, ...] = (),
    n_layers: int = 6,
) -> Graph:
    """A graph from a dense matrix [nodes, nodes] (rows: what is affected), of which the `rows` are stored where not 0."""
    weight = np.asarray(matrix, dtype=np.float32)
    stored = [np.flatnonzero(weight[row]) for row in rows]
    indptr = np.cumsum([0, *map(len, stored)]).astype(np.int64)
    source = np.concatenate([*stored, np.zeros(0, dtype=np.int64)]).astype(np.int32)
    values = np.concatenate([*(weight[row][found] for row, found in zip(rows, stored, strict=True)), np.zeros(0, dtype=np.float32)])
    missing = np.array(dropped_abs if dropped_abs is not None else [0.0] * len(rows), dtype=np.float32)
    n_targets = len(target_weight)
    return Graph(
        prompt=prompt or "".join(pieces),
        tokens=tokens or tuple(range(100, 100 + len(pieces))),
        pieces=pieces,
        model="tiny:llama",
        model_fingerprint="f" * 16,
        quantised=None,
        n_layers=n_layers,
        dictionaries=("d" * 16,),
        nodes=Nodes(
            kind=np.array(kind, dtype=np.int8),
            layer=np.array(layer, dtype=np.int16),
            position=np.array(position, dtype=np.int32),
            feature=np.array(feature, dtype=np.int32),
            activation=np.where(np.array(kind) == FEATURE, 1.5, 1).astype(np.float32),
        ),
        rows=np.array(rows, dtype=np.int32),
        edges=Edges(indptr=indptr, source=source, weight=values.astype(np.float32)),
        dropped=np.zeros(len(rows), dtype=np.float32),
        dropped_abs=missing,
        pre=weight[rows].sum(1).astype(np.float32),
        target_weight=np.array(target_weight, dtype=np.float32),
        target_labels=labels or tuple(f'logit." word{i}"@{len(pieces) - 1}' for i in range(n_targets)),
    )


def random_graph(seed: int, *, biases: bool = False, unexpanded: int = 0, dropped: bool = False, layers: int = 4, per_layer: int = 6) -> Graph:
    """A random graph over 3 tokens with features in every layer, errors, perhaps biases, and two targets of weights 0.7 and 0.2."""
    lot = np.random.default_rng(seed)
    kind: list[int] = []
    layer: list[int] = []
    position: list[int] = []
    feature: list[int] = []

    def put(k: int, at: int, *, place: int, number: int) -> None:
        for column, value in zip((kind, layer, position, feature), (k, at, place, number), strict=True):
            column.append(value)

    for at in range(layers):
        places = sorted(lot.integers(0, 3, size=per_layer).tolist())
        for number, place in enumerate(places):
            put(FEATURE, at, place=place, number=number)
    for at in range(layers):
        for place in range(3):
            put(ERROR, at, place=place, number=-1)
    if biases:
        for at in range(layers):
            put(BIAS, at, place=-1, number=0)
    for place in range(3):
        put(EMBEDDING, -1, place=place, number=100 + place)
    for number in (40, 41):
        put(TARGET, layers, place=2, number=number)
    n, kinds, at_layer = len(kind), np.array(kind), np.array(layer)
    matrix = np.zeros((n, n))
    closed = set(lot.permutation(np.flatnonzero(kinds == FEATURE))[:unexpanded].tolist())
    rows = [i for i in range(n) if kinds[i] in (FEATURE, TARGET) and i not in closed]
    for row in rows:
        before = (at_layer < at_layer[row]) & (kinds != TARGET)
        matrix[row] = np.where(before & (lot.random(n) < 0.6), lot.normal(size=n) * lot.exponential(size=n), 0)
    missing = lot.exponential(size=len(rows)).tolist() if dropped else None
    pieces = ("The", " capital", " is")
    return graph_of(
        matrix,
        kind=kind,
        layer=layer,
        position=position,
        feature=feature,
        rows=rows,
        target_weight=[0.7, 0.2],
        pieces=pieces,
        dropped_abs=missing,
        n_layers=layers,
    )


def stored(graph: Graph) -> Floats:
    """The stored weights [rows, nodes]."""
    matrix = np.zeros((len(graph.rows), len(graph.nodes)))
    for i in range(len(graph.rows)):
        source, weight = graph.edges.row(i)
        matrix[i, source] = weight
    return matrix


def dense(graph: Graph) -> Floats:
    """A [nodes, nodes] with the stored weights."""
    matrix = np.zeros((len(graph.nodes), len(graph.nodes)))
    matrix[graph.rows] = stored(graph)
    return matrix


def own(graph: Graph) -> Floats:
    weight = np.zeros(len(graph.nodes))
    weight[graph.nodes.kind == TARGET] = graph.target_weight
    return weight


def normalised(matrix: Floats) -> Floats:
    return np.abs(matrix) / np.maximum(np.abs(matrix).sum(1, keepdims=True), 1e-10)


def closed_form(shares: Floats, weight: Floats) -> Floats:
    """w ((I - A)^-1 - I)."""
    identity = np.eye(len(shares))
    return weight @ (np.linalg.inv(identity - shares) - identity)
