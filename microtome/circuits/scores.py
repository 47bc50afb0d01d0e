"""How much of a prediction a graph explains."""

from dataclasses import dataclass, replace

import numpy as np

from microtome.circuits.graph import BIAS, EMBEDDING, ERROR, FEATURE, Edges, Graph
from microtome.circuits.influence import SMALLEST, Floats, Ints, Mask, edges_of, influence, sweep, unexpanded


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Shares of influence, each between 0 and 1. `replacement`, `error_share` and `untraced` (and `bias_share`, where biases count) sum to 1."""

    replacement: float
    """Influence that comes from the tokens' embeddings, along all paths through features."""
    completeness: float
    """Σ_t (1 - error share of t's inputs) (I_t + w_t) / Σ_t (I_t + w_t) over all rows t: how much of each input is explained."""
    error_share: float
    """Influence that comes from what the dictionaries leave unexplained."""
    untraced: float
    """Influence that comes from features that were never expanded, or from edges that were not stored."""
    bias_share: float = 0.0
    """Influence of the model's constants, where they count."""


def scores(graph: Graph, *, traced_only: bool = False, biases: bool = False) -> Scores:
    """The scores of a whole graph (Ameisen et al. 2025; field names of circuit-tracer).

    What was not expanded or not stored counts as unexplained, as in the paper. `traced_only` leaves it out before anything is normalised, as
    circuit-tracer does: its scores are then ours to rounding. With no influence at all everything is 0.
    """
    return _scores(graph, merged=None, traced_only=traced_only, biases=biases)


def subgraph_scores(graph: Graph, kept: Mask, *, biases: bool = False) -> Scores:
    """The scores of the part of a graph that a person sees: `kept` says which nodes.

    Features outside are merged, signed, into the error of the same layer and position: what they write counts as unexplained. Embeddings, errors,
    biases and targets always stay.
    """
    return _scores(graph, merged=(graph.nodes.kind == FEATURE) & ~kept, traced_only=False, biases=biases)


def _scores(graph: Graph, *, merged: Mask | None, traced_only: bool, biases: bool) -> Scores:
    reduced = graph if merged is None else merge_into_errors(graph, merged)
    found = influence(reduced, traced_only=traced_only, biases=biases)
    kind = reduced.nodes.kind
    sums = {code: float(found.nodes[kind == code].sum()) for code in (EMBEDDING, ERROR)}
    bias = float(found.nodes[kind == BIAS].sum()) if biases else 0.0
    open_ends = 0.0 if traced_only else float(found.nodes[unexpanded(reduced)].sum()) + found.rest
    total = sums[EMBEDDING] + sums[ERROR] + bias + open_ends
    if total <= 0:
        return Scores(replacement=0.0, completeness=0.0, error_share=0.0, untraced=0.0)
    return Scores(
        replacement=sums[EMBEDDING] / total,
        completeness=_completeness(reduced, through=found.through, total=found.total, stored_only=traced_only),
        error_share=sums[ERROR] / total,
        untraced=open_ends / total,
        bias_share=bias / total,
    )


def _completeness(graph: Graph, *, through: Floats, total: Floats, stored_only: bool) -> float:
    """Rows without any counted input explain nothing."""
    kind = graph.nodes.kind
    bad = kind == ERROR
    if not stored_only:
        bad |= unexpanded(graph)
    unexplained = np.zeros(len(graph.rows)) if stored_only else graph.dropped_abs.astype(np.float64)
    for rows in sweep(graph):
        edges, local = edges_of(graph, rows)
        size = np.abs(graph.edges.weight[edges]).astype(np.float64) * bad[graph.edges.source[edges]]
        unexplained[rows] += np.bincount(local, weights=size, minlength=len(rows))
    share = np.where(total > SMALLEST, 1 - unexplained / total, 0.0)
    weight = float(through.sum())
    return float(share @ through) / weight if weight > 0 else 0.0


def merge_into_errors(graph: Graph, merged: Mask) -> Graph:
    """The graph without some features: what they write is added, signed, to the error of the same layer and position.

    Where there is no such error one is made. Rows of merged features go; all others keep their sum.
    """
    nodes = graph.nodes
    place = nodes.layer.astype(np.int64) * (len(graph.tokens) + 1) + nodes.position
    errors = np.flatnonzero(nodes.kind == ERROR)
    known = {int(place[i]): int(i) for i in errors}
    new = [int(i) for i in np.flatnonzero(merged) if int(place[i]) not in known]
    for i in new:
        known.setdefault(int(place[i]), i)  # this feature's entry becomes the error
    mapped = np.arange(len(nodes), dtype=np.int64)
    gone = np.flatnonzero(merged)
    mapped[gone] = [known[int(place[i])] for i in gone]
    kind = nodes.kind.copy()
    kind[sorted({known[int(place[i])] for i in gone})] = ERROR
    rows = np.flatnonzero(~merged[graph.rows])
    return replace(
        graph,
        nodes=replace(nodes, kind=kind),
        rows=graph.rows[rows],
        edges=_mapped_edges(graph, rows, mapped),
        dropped=graph.dropped[rows],
        dropped_abs=graph.dropped_abs[rows],
        pre=graph.pre[rows],
    )


def _mapped_edges(graph: Graph, rows: Ints, mapped: Ints) -> Edges:
    """The edges of `rows` with their sources renamed; those that now come from one source are added."""
    edges, local = edges_of(graph, rows)
    n = len(mapped)
    keys = local * n + mapped[graph.edges.source[edges]]
    found, place = np.unique(keys, return_inverse=True)
    weight = np.bincount(place, weights=graph.edges.weight[edges].astype(np.float64), minlength=len(found))
    indptr = np.searchsorted(found, np.arange(len(rows) + 1) * n).astype(np.int64)
    return Edges(indptr=indptr, source=(found % n).astype(np.int32), weight=weight.astype(np.float32))
