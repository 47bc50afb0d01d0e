"""Supernodes: nodes of a graph that a person treats as one, and the edges between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from microtome.circuits.graph import FEATURE, Graph
from microtome.circuits.influence import Floats, Ints, edges_of, influence, row_of
from microtome.circuits.names import find_node, node_name
from microtome.errors import GraphInvalid

_MOST = 400
"""Features that are compared with each other at most: a table of similarities of this side is made."""


@dataclass(frozen=True, kw_only=True)
class Supernode:
    """A named group of nodes, by their names: it outlives the numbers of one graph."""

    name: str
    members: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.members or len(set(self.members)) != len(self.members):
            got = ", ".join(self.members) or "none"
            raise GraphInvalid(f'supernode "{self.name}" does not have members once each.', got=got, wanted="names of nodes", do="Name each once.")

    def nodes(self, graph: Graph) -> Ints:
        """Its nodes in a graph, ascending. Raises `NodeNotFound`."""
        return np.array(sorted(find_node(graph, member) for member in self.members), dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class GroupEdge:
    """How one supernode feeds another."""

    source: str
    target: str
    share: float
    """Σ_t (I_t + w_t) Σ_s |A[t, s]| / Σ|A[t]|, over Σ_t (I_t + w_t): the share of a target's input that comes from the source, averaged over the
    targets by their influence (Ameisen et al. 2025)."""
    signed: float
    """The same with signs: what supports less what inhibits."""
    weight: float
    """Σ_t Σ_s A[t, s]: the sum of the direct effects."""


def group_edges(graph: Graph, supernodes: Sequence[Supernode], *, biases: bool = False) -> tuple[GroupEdge, ...]:
    """The edges between all pairs of supernodes that have one, strongest first. A target without influence counts as the others of its group do
    where the whole group has none. Raises `NodeNotFound`, and `GraphInvalid` where a node is in two groups."""
    groups = [group.nodes(graph) for group in supernodes]
    member = np.full(len(graph.nodes), -1, dtype=np.int64)
    for i, nodes in enumerate(groups):
        if (member[nodes] >= 0).any():
            do = "Take it out of one of them."
            raise GraphInvalid("a node is in two supernodes.", got=supernodes[i].name, wanted="each node in one", do=do)
        member[nodes] = i
    found = influence(graph, biases=biases)
    made: list[GroupEdge] = []
    rows_by_node = row_of(graph)
    for place, nodes in enumerate(groups):
        rows = rows_by_node[nodes]
        rows = rows[rows >= 0]
        if len(rows) == 0:
            continue
        importance = found.through[rows]
        importance = importance / importance.sum() if importance.sum() > 0 else np.full(len(rows), 1 / len(rows))
        edges, local = edges_of(graph, rows)
        origin = member[graph.edges.source[edges]]
        inside = origin >= 0
        weight = graph.edges.weight[edges][inside].astype(np.float64)
        part = weight / found.total[rows][local[inside]] * importance[local[inside]]
        sums = [np.bincount(origin[inside], weights=values, minlength=len(groups)) for values in (np.abs(part), part, weight)]
        for other in range(len(groups)):
            if other != place and sums[0][other] > 0:
                share, signed, total = (float(values[other]) for values in sums)
                edge = GroupEdge(source=supernodes[other].name, target=supernodes[place].name, share=share, signed=signed, weight=total)
                made.append(edge)
    return tuple(sorted(made, key=lambda edge: -edge.share))


def suggest(
    graph: Graph,
    nodes: Sequence[int],
    *,
    coactivation: Mapping[tuple[int, int], Mapping[tuple[int, int], float]] | None = None,
    similarity: float = 0.6,
    most: int = _MOST,
) -> tuple[tuple[int, ...], ...]:
    """Groups of feature nodes that look alike, largest influence first; only groups of two and more.

    Two nodes are as similar as the mean of: the cosine of what they feed (their shares in the rows of the graph, rows weighted by influence), and
    how far they fire together: `coactivation[(layer, feature)][(layer, feature)]` from a corpus where given (see `FeatureIndex.coactive`), else
    the cosine of their activations over the prompt's positions; a feature fires fully together with itself. Groups are joined while their mean
    similarity is at least `similarity` (average linkage). Of more than `most` features those with most influence are grouped.
    """
    found = influence(graph)
    chosen = [i for i in nodes if graph.nodes.kind[i] == FEATURE]
    chosen = sorted(chosen, key=lambda i: -found.nodes[i])[:most]
    if len(chosen) < 2:
        return ()
    picked = np.array(chosen, dtype=np.int64)
    alike = (_downstream(graph, picked, through=found.through, total=found.total) + _together(graph, picked, coactivation)) / 2
    groups = [group for group in _linked(alike, at_least=similarity) if len(group) > 1]
    numbered = [tuple(sorted(chosen[i] for i in group)) for group in groups]
    return tuple(sorted(numbered, key=lambda group: -float(found.nodes[list(group)].sum())))


def name_groups(graph: Graph, groups: Sequence[Sequence[int]], names: Sequence[str]) -> tuple[Supernode, ...]:
    """Groups of node numbers as supernodes."""
    return tuple(Supernode(name=name, members=tuple(node_name(graph, node) for node in group)) for group, name in zip(groups, names, strict=True))


def _downstream(graph: Graph, nodes: Ints, *, through: Floats, total: Floats) -> Floats:
    """Cosines of what the nodes feed: signed shares of the rows, times the square root of the row's influence."""
    place = np.full(len(graph.nodes), -1, dtype=np.int64)
    place[nodes] = np.arange(len(nodes))
    rows = np.arange(len(graph.rows))
    gram = np.zeros((len(nodes), len(nodes)))
    for block in np.array_split(rows, max(1, len(rows) // 256)):
        edges, local = edges_of(graph, block)
        origin = place[graph.edges.source[edges]]
        inside = origin >= 0
        profile = np.zeros((len(block), len(nodes)))
        scale = np.sqrt(through[block]) / total[block]
        profile[local[inside], origin[inside]] = graph.edges.weight[edges][inside] * scale[local[inside]]
        gram += profile.T @ profile
    return _cosines(gram)


def _together(graph: Graph, nodes: Ints, given: Mapping[tuple[int, int], Mapping[tuple[int, int], float]] | None) -> Floats:
    keys = [(int(graph.nodes.layer[i]), int(graph.nodes.feature[i])) for i in nodes]
    same = np.array([[a == b for b in keys] for a in keys])
    if given is not None:
        table = np.array([[given.get(a, {}).get(b, given.get(b, {}).get(a, 0.0)) for b in keys] for a in keys], dtype=np.float64)
    else:
        at: dict[tuple[int, int], Any] = {key: np.zeros(len(graph.tokens)) for key in keys}
        for i in graph.nodes.where("feature"):
            key = (int(graph.nodes.layer[i]), int(graph.nodes.feature[i]))
            if key in at:
                at[key][int(graph.nodes.position[i])] = graph.nodes.activation[i]
        fired = np.stack([at[key] for key in keys])
        table = _cosines(fired @ fired.T)
    return np.where(same, 1.0, table)


def _cosines(gram: Floats) -> Floats:
    length = np.sqrt(np.diag(gram))
    return gram / np.maximum(np.outer(length, length), 1e-30)


def _linked(alike: Floats, *, at_least: float) -> list[list[int]]:
    """Average linkage: the two groups with the largest mean similarity are joined, while it is at least `at_least`."""
    table = alike.copy()
    np.fill_diagonal(table, -np.inf)
    groups = [[i] for i in range(len(table))]
    while len(table) > 1:
        best = int(table.argmax())
        i, j = sorted(divmod(best, len(table)))
        if table[i, j] < at_least:
            break
        a, b = len(groups[i]), len(groups[j])
        joined = (a * table[i] + b * table[j]) / (a + b)
        table[i], table[:, i] = joined, joined
        table[i, i] = -np.inf
        groups[i] += groups.pop(j)
        table = np.delete(np.delete(table, j, axis=0), j, axis=1)
    return groups
