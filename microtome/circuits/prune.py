"""Pruning: the nodes and edges that carry most of the influence.

As circuit-tracer does it, on stored edges instead of nodes × nodes: nodes down to a share of all influence, then edges among these down to a
share of theirs, then what has lost its outputs or inputs. Where a share of 1 is asked for, everything above 0 stays and nothing else.
"""

from dataclasses import dataclass

import numpy as np

from microtome.circuits.graph import BIAS, EMBEDDING, FEATURE, TARGET, Graph
from microtome.circuits.influence import Floats, Ints, Mask, edges_of, influence, unexpanded
from microtome.errors import ConfigError

NODE_THRESHOLD, EDGE_THRESHOLD = 0.8, 0.98
_SORTED_AT_ONCE = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What is left of a graph at two thresholds."""

    nodes: Mask
    """Kept, a node."""
    edges: Ints
    """Indices of the kept edges in `graph.edges`, ascending."""
    edge_rows: Ints
    """The row of each kept edge."""
    edge_scores: Floats
    """Influence through each kept edge, in the graph of the kept nodes."""
    influence: Floats
    """Influence of each node in the whole graph, in units of target weight."""
    cumulative: Floats
    """For each node the share of all influence that it and the nodes above it have: small is important. 1 for what has none."""


def prune(
    graph: Graph,
    *,
    node_threshold: float = NODE_THRESHOLD,
    edge_threshold: float = EDGE_THRESHOLD,
    traced_only: bool = False,
    biases: bool = False,
) -> Pruned:
    """The nodes that make up `node_threshold` of all influence, and the edges among them that make up `edge_threshold` of theirs.

    Embeddings and targets stay in any case; errors, biases and features need an output that stays, expanded features an input too (those that were
    never expanded have none to lose). `traced_only` and `biases` as in `influence`: a bias that does not count is kept where its own influence
    reaches what the others had to reach. Raises `ConfigError` for a threshold outside (0, 1].
    """
    for name, value in (("node_threshold", node_threshold), ("edge_threshold", edge_threshold)):
        if not 0 < value <= 1:
            raise ConfigError(f"{name} is a share of influence.", got=value, wanted="above 0, at most 1", do="Give for example 0.8.")
    kind = graph.nodes.kind
    found = influence(graph, traced_only=traced_only, biases=biases).nodes
    counted = np.ones(len(kind), dtype=np.bool_) if biases else kind != BIAS
    kept = found >= cut(found[counted], node_threshold)
    kept |= (kind == EMBEDDING) | (kind == TARGET)
    if traced_only:
        kept &= ~unexpanded(graph)
    edges, rows = _edges_among(graph, kept)
    source = graph.edges.source[edges].astype(np.int64)
    inner = influence(graph, kept=kept, traced_only=traced_only, biases=biases)
    scores = np.abs(graph.edges.weight[edges]).astype(np.float64) * (inner.through / inner.total)[rows]
    stays = scores >= cut(scores[counted[source]], edge_threshold)
    stays &= scores > 0
    kept, stays = _connected(graph, kept, source=source, target=graph.rows[rows].astype(np.int64), stays=stays)
    cumulative = _cumulative(found, counted)
    return Pruned(nodes=kept, edges=edges[stays], edge_rows=rows[stays], edge_scores=scores[stays], influence=found, cumulative=cumulative)


def cut(scores: Floats, share: float) -> float:
    """The score at which the descending cumulative share of positive `scores` first reaches `share`; infinite where none is positive.

    Found by histograms of ever smaller ranges, so that hundreds of millions of scores need no sort.
    """
    rest = scores[scores > 0]
    if len(rest) == 0:
        return float("inf")
    if share >= 1:
        return float(rest.min())
    wanted = float(rest.sum()) * share
    while len(rest) > _SORTED_AT_ONCE:
        keys = rest.view(np.int64)  # positive floats order as their bits
        low, high = int(keys.min()), int(keys.max())
        if low == high:
            return float(rest[0])
        shift = max(0, (high - low).bit_length() - 12)
        bins = (keys - low) >> shift
        above = np.cumsum(np.bincount(bins, weights=rest)[::-1])
        place = min(int(np.searchsorted(above, wanted)), len(above) - 1)
        wanted -= float(above[place - 1]) if place else 0.0
        rest = rest[bins == len(above) - 1 - place]
    ordered = np.sort(rest)[::-1]
    return float(ordered[min(int(np.searchsorted(np.cumsum(ordered), wanted)), len(ordered) - 1)])


def _edges_among(graph: Graph, kept: Mask) -> tuple[Ints, Ints]:
    """Indices and rows of the edges between kept nodes."""
    rows = np.flatnonzero(kept[graph.rows])
    edges, local = edges_of(graph, rows)
    among = kept[graph.edges.source[edges]]
    return edges[among], rows[local[among]]


def _connected(graph: Graph, kept: Mask, *, source: Ints, target: Ints, stays: Mask) -> tuple[Mask, Mask]:
    """Without what lost its outputs or inputs, until nothing changes."""
    kind = graph.nodes.kind
    free_of_output = (kind == EMBEDDING) | (kind == TARGET)
    free_of_input = (kind != FEATURE) | unexpanded(graph)
    while True:
        has_output, has_input = np.zeros(len(kind), dtype=np.bool_), np.zeros(len(kind), dtype=np.bool_)
        has_output[source[stays]] = True
        has_input[target[stays]] = True
        left = kept & (has_output | free_of_output) & (has_input | free_of_input)
        remain = stays & left[source] & left[target]
        if (left == kept).all() and (remain == stays).all():
            return left, remain
        kept, stays = left, remain


def _cumulative(found: Floats, counted: Mask) -> Floats:
    """Share of all counted influence down to each node; one that does not count stands where its influence would."""
    share = np.ones(len(found))
    total = float(found[counted].sum())
    if total <= 0:
        return share
    places = np.flatnonzero(counted)
    order = places[np.argsort(-found[places], kind="stable")]
    summed = np.minimum(np.cumsum(found[order]) / total, 1.0)
    share[order] = np.where(found[order] > 0, summed, 1.0)
    others = np.flatnonzero(~counted & (found > 0))
    place = np.searchsorted(-found[order], -found[others], side="right")
    share[others] = np.where(place > 0, summed[np.maximum(place, 1) - 1], 0.0)
    return share
