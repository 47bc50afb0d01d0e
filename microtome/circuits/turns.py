"""Graphs whose columns are turns: long conversations stay readable, and every row still adds up.

A graph is linear in its rows and sources, so its tokens can be gathered into columns without approximation. With C a column, n_C its tokens, and a
node (column, layer, feature) for all of a feature's nodes in it,

    activation[C, f] = 1/n_C Σ_{t in C} activation[t, f]                 what a feature is on average over the column, 0 where it is silent
    A[(D, g), (C, f)] = 1/n_D Σ_{t in D} Σ_{s in C} A[(t, g), (s, f)]     what the whole of (C, f) adds to the mean pre-activation of (D, g)

so the sum of a row is the mean of the sums of its tokens' rows, and so is `pre`. The feature of a turn-averaged dictionary reads the mean of a turn,
to which each of its n tokens contributes 1/n: the target `TurnFeature` traces the reading at each token, and the mean of these rows is its row; so
are the features of a turn-averaged SAE of the stream (`trace(…, turns=…)`), which stand at each token of their turn until they are gathered.
Influence and total effects of such a graph are those of its own edges: what cancels inside a column is not seen in them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from microtome.circuits.graph import BIAS, EMBEDDING, ERROR, FEATURE, TARGET, Edges, Graph, Nodes
from microtome.circuits.influence import edges_of, unexpanded
from microtome.errors import GraphInvalid
from microtome.models import TurnSpan

_ORDER = (FEATURE, ERROR, BIAS, EMBEDDING, TARGET)
"""Kinds in the order of a graph's nodes."""
TEMPLATE = "⟨tags⟩"
"""What a column is called that holds what the chat template puts around turns."""


@dataclass(frozen=True, kw_only=True)
class TokenColumn:
    """Tokens that stand next to each other and are shown as one column."""

    label: str
    start: int
    stop: int
    """One past the last."""


def turn_columns(turns: Sequence[TurnSpan], n_tokens: int) -> tuple[TokenColumn, ...]:
    """A column for the content of each turn (`1 user`, `2 assistant`), and one for what the template puts before, between and after them."""
    made: list[TokenColumn] = []
    cursor = 0
    for turn in turns:
        made.append(TokenColumn(label=TEMPLATE, start=cursor, stop=turn.content_start))
        made.append(TokenColumn(label=f"{turn.turn + 1} {turn.role}", start=turn.content_start, stop=turn.content_end))
        cursor = turn.content_end
    made.append(TokenColumn(label=TEMPLATE, start=cursor, stop=n_tokens))
    return tuple(each for each in made if each.start < each.stop)


def by_columns(graph: Graph, columns: Sequence[TokenColumn]) -> Graph:
    """The graph with its tokens gathered into columns, see the top of this file; its positions are columns.

    A feature is expanded in a column if it is at one of its tokens; what it is at others is `dropped` there, its size in proportion. Targets of one
    name are gathered by their weights. Raises `GraphInvalid` unless every token is in one column.
    """
    columns_of = _columns_of(graph, columns)
    sizes = np.bincount(columns_of, minlength=len(columns))
    nodes, new, labels = _gathered(graph, columns_of, sizes)
    rows, group = np.unique(new[graph.rows], return_inverse=True)
    share = _share_of_row(graph, new, nodes=nodes, sizes=sizes)
    edges, size = _edges(graph, new=new, group=group, share=share, n=len(rows))

    def summed(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        return np.bincount(group, weights=share * values, minlength=len(rows)).astype(np.float64)

    silent = _unexpanded(graph, new, rows=rows, nodes=nodes, sizes=sizes)
    expanded = nodes.activation[rows] - silent
    grows = np.where((silent > 0) & (expanded > 0), silent / np.where(expanded > 0, expanded, 1), 0.0)
    weights = np.bincount(new[graph.nodes.where("target")] - int(nodes.where("target")[0]), weights=graph.target_weight, minlength=len(labels))
    missing_abs = summed(graph.dropped_abs)
    return replace(
        graph,
        tokens=tuple(range(len(columns))),
        pieces=tuple(column.label for column in columns),
        nodes=nodes,
        rows=rows.astype(np.int32),
        edges=edges,
        dropped=(summed(graph.dropped) + silent).astype(np.float32),
        dropped_abs=(missing_abs + grows * (size + missing_abs)).astype(np.float32),
        pre=(summed(graph.pre) + silent).astype(np.float32),
        target_weight=weights.astype(np.float32),
        target_labels=labels,
        config={**graph.config, "columns": [[column.label, column.start, column.stop] for column in columns]},
    )


def _columns_of(graph: Graph, columns: Sequence[TokenColumn]) -> npt.NDArray[np.int64]:
    """By token its column."""
    n = len(graph.tokens)
    found = np.full(n, -1, dtype=np.int64)
    times = np.zeros(n, dtype=np.int64)
    for i, column in enumerate(columns):
        found[max(0, column.start) : column.stop] = i
        times[max(0, column.start) : column.stop] += 1
    if "columns" in graph.config or (times != 1).any() or any(column.stop > n for column in columns):
        got = "columns already" if "columns" in graph.config else f"{int((times != 1).sum())} tokens in none or in several"
        raise GraphInvalid("these are no columns of the graph's tokens.", got=got, wanted="each token in one column", do="Use turn_columns.")
    return found


def _gathered(graph: Graph, columns_of: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> tuple[Nodes, npt.NDArray[np.int64], tuple[str, ...]]:
    """The nodes of the new graph, the new node of each old one, and the labels of the targets."""
    old, targets = graph.nodes, graph.nodes.where("target")
    position = np.where(old.position >= 0, columns_of[np.maximum(old.position, 0)], -1)
    feature = np.where(np.isin(old.kind, (EMBEDDING, TARGET)), -1, old.feature).astype(np.int64)
    names = [f"{label.rpartition('@')[0]}@{position[node]}" for label, node in zip(graph.target_labels, targets, strict=True)]
    alike = list(zip(names, old.feature[targets].tolist(), strict=True))  # two tokens may look the same
    apart = list(dict.fromkeys(alike))
    feature[targets] = [apart.index(each) for each in alike]
    rank = np.argsort(_ORDER)[old.kind]
    keys = np.stack([rank, old.layer, np.where(old.kind == TARGET, 0, position), feature], axis=1)
    _, first, new = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    new = new.reshape(-1)
    kind = old.kind[first]
    total = np.bincount(new, weights=old.activation, minlength=len(first))
    size = np.where(kind == FEATURE, sizes[np.maximum(position[first], 0)], np.bincount(new, minlength=len(first)))
    nodes = Nodes(
        kind=kind,
        layer=old.layer[first],
        position=position[first].astype(np.int32),
        feature=np.where(kind == EMBEDDING, -1, old.feature[first]).astype(np.int32),
        activation=(total / size).astype(np.float32),
    )
    return nodes, new, tuple(name for name, _ in apart)


def _share_of_row(graph: Graph, new: npt.NDArray[np.int64], *, nodes: Nodes, sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """How much of each old row goes into its new one: 1/n of a feature's, of targets by their weights."""
    at = new[graph.rows]
    share = 1.0 / sizes[np.maximum(nodes.position[at], 0)]
    targets = graph.nodes.where("target")
    weight = graph.target_weight.astype(np.float64)
    total = np.bincount(new[targets], weights=weight, minlength=len(nodes))
    many = np.bincount(new[targets], minlength=len(nodes))
    share[len(share) - len(targets) :] = np.where(total[new[targets]] > 0, weight / np.maximum(total[new[targets]], 1e-30), 1.0 / many[new[targets]])
    return share


def _edges(
    graph: Graph, *, new: npt.NDArray[np.int64], group: npt.NDArray[np.int64], share: npt.NDArray[np.float64], n: int
) -> tuple[Edges, npt.NDArray[np.float64]]:
    """The edges between columns, and by row the sum of their sizes."""
    width = int(new.max(initial=0)) + 1
    found, old = edges_of(graph, np.arange(len(graph.rows)))
    key, place = np.unique(group[old] * width + new[graph.edges.source[found]], return_inverse=True)
    weight = np.bincount(place.reshape(-1), weights=share[old] * graph.edges.weight[found], minlength=len(key))
    row = key // width
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n))]).astype(np.int64)
    size = np.bincount(row, weights=np.abs(weight), minlength=n).astype(np.float64)
    return Edges(indptr=indptr, source=(key % width).astype(np.int32), weight=weight.astype(np.float32)), size


def _unexpanded(
    graph: Graph, new: npt.NDArray[np.int64], *, rows: npt.NDArray[np.int64], nodes: Nodes, sizes: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """By new row, what its feature is at tokens where it was not expanded: its share of the mean activation."""
    closed = unexpanded(graph)
    total = np.bincount(new[closed], weights=graph.nodes.activation[closed], minlength=len(nodes))[rows]
    return total / sizes[np.maximum(nodes.position[rows], 0)]
