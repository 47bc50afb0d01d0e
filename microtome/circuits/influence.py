"""Influence: how much of the targets goes through each node, along all paths.

With A the edges (rows: what is affected, columns: sources), A_n[t, s] = |A[t, s]| / Σ_s |A[t, s]| and w the weight of each target, the
influence of node s is the sum over all paths, (w B)_s with B = A_n + A_n² + … = (I - A_n)^-1 - I (Ameisen et al. 2025, "Circuit tracing").
The graph has no cycles, so one sweep over its rows from the last layer to the first adds all of it up, on the stored edges: nothing of the
size nodes × nodes is made.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from microtome.circuits.graph import BIAS, FEATURE, TARGET, Graph
from microtome.errors import GraphInvalid

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]

SMALLEST = 1e-10
"""Σ |A[t, s]| below this counts as this."""


@dataclass(frozen=True, kw_only=True)
class Influence:
    """What one sweep over the rows finds."""

    nodes: Floats
    """Influence of each node, in units of target weight; 0 for targets."""
    through: Floats
    """For each row, the influence of the node it is about, plus its own weight if that is a target: what the row hands on to its sources."""
    total: Floats
    """For each row Σ |A[t, s]| over the sources that count, with what was not stored."""
    rest: float
    """Influence that went to what was not stored of rows (`dropped_abs`)."""


def influence(graph: Graph, *, kept: Mask | None = None, traced_only: bool = False, biases: bool = False) -> Influence:
    """The influence of every node.

    `kept`: only these nodes take part; rows are normalised over what is left of them. `traced_only`: features that were never expanded and what was
    not stored take no part, as in circuit-tracer's graphs. A bias is the same for every prompt and has no node in other tools' graphs: it takes
    no share of a row unless `biases`; its own influence is measured beside the others, by the same formula.
    Raises `GraphInvalid` for a graph in which an edge does not lead to a later layer.
    """
    nodes = graph.nodes
    here = np.ones(len(nodes.kind), dtype=np.bool_) if kept is None else kept
    if traced_only:
        here = here & ~unexpanded(graph)
    counts = here & (nodes.kind != BIAS) if not biases else here
    stored_only = traced_only or kept is not None
    own = own_weight(graph)
    found, rest = np.zeros(len(here)), 0.0
    through, total = np.zeros(len(graph.rows)), np.full(len(graph.rows), SMALLEST)
    for rows in sweep(graph):
        at = graph.rows[rows]
        through[rows] = np.where(here[at], found[at] + own[at], 0.0)
        edges, local = edges_of(graph, rows)
        source = graph.edges.source[edges]
        size = np.abs(graph.edges.weight[edges]).astype(np.float64)
        summed = np.bincount(local, weights=size * counts[source], minlength=len(rows))
        missing = np.zeros(len(rows)) if stored_only else graph.dropped_abs[rows].astype(np.float64)
        total[rows] = np.maximum(summed + missing, SMALLEST)
        handed = through[rows] / total[rows]
        found += np.bincount(source, weights=size * handed[local] * here[source], minlength=len(found))
        rest += float(handed @ missing)
    return Influence(nodes=found, through=through, total=total, rest=rest)


def sweep(graph: Graph) -> Iterator[Ints]:
    """The rows in groups, targets first, then features from the last layer to the first: every group before those that feed it."""
    kind, layer = graph.nodes.kind[graph.rows], graph.nodes.layer[graph.rows].astype(np.int64)
    depth = np.where(kind == TARGET, np.iinfo(np.int32).max, layer)
    order = np.argsort(-depth, kind="stable")
    starts = np.flatnonzero(np.diff(depth[order])) + 1
    for group in np.split(order, starts):
        if len(group):
            _check_order(graph, group, depth=int(depth[group[0]]))
            yield group


def edges_of(graph: Graph, rows: Ints) -> tuple[Ints, Ints]:
    """Indices of the edges of some rows, and for each edge the place of its row in `rows`."""
    first, last = graph.edges.indptr[rows], graph.edges.indptr[rows + 1]
    counts = last - first
    local = np.repeat(np.arange(len(rows)), counts)
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(first, counts) + within, local


def own_weight(graph: Graph) -> Floats:
    """w: the weight of each node as a target, 0 for all others."""
    own = np.zeros(len(graph.nodes.kind))
    own[graph.nodes.kind == TARGET] = graph.target_weight
    return own


def unexpanded(graph: Graph) -> Mask:
    """Features without a row: what feeds them was not traced."""
    found = graph.nodes.kind == FEATURE
    found[graph.rows] = False
    return found


def row_of(graph: Graph) -> Ints:
    """The row about each node; -1 where there is none."""
    found = np.full(len(graph.nodes.kind), -1, dtype=np.int64)
    found[graph.rows] = np.arange(len(graph.rows))
    return found


def _check_order(graph: Graph, rows: Ints, *, depth: int) -> None:
    """A feature that feeds a row must be of an earlier layer, else the sweep would miss what reaches it later; nothing comes out of a target."""
    edges, _ = edges_of(graph, rows)
    source = graph.edges.source[edges]
    kind = graph.nodes.kind[source]
    wrong = ((kind == FEATURE) & (graph.nodes.layer[source] >= depth)) | (kind == TARGET)
    if wrong.any():
        worst = int(source[np.flatnonzero(wrong)[0]])
        got = f"node {worst} of layer {int(graph.nodes.layer[worst])} feeds a node of layer {depth}"
        do = "Make the graph again; a graph of another tool may hold features of several kinds in one layer."
        raise GraphInvalid("an edge of the graph does not lead to a later layer.", got=got, wanted="edges from earlier layers to later ones", do=do)
