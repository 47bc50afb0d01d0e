"""The strongest paths between two nodes: their strength is the product of the shares along them."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count as counter
from itertools import pairwise

import numpy as np

from microtome.circuits.graph import TARGET, Graph
from microtome.circuits.influence import Floats, Ints, edges_of, influence, row_of, sweep
from microtome.circuits.names import node_name
from microtome.errors import NodeNotFound


@dataclass(frozen=True, kw_only=True)
class FoundPath:
    """One chain of direct effects."""

    nodes: tuple[int, ...]
    """From the source to the target."""
    weights: tuple[float, ...]
    """The direct effect of each step, one less than nodes."""
    strength: float
    """Π |A[t, s]| / Σ_s |A[t, s]|: the share of the target's input that comes along here."""
    sign: int
    """1 where more of the source means more of the target, −1 where it means less, as long as all else stays."""


def paths(graph: Graph, *, target: int, sources: Sequence[int], count: int = 5, biases: bool = False) -> tuple[FoundPath, ...]:
    """The `count` strongest paths from any of `sources` to `target`, strongest first; fewer where there are no more.

    One sweep finds the best way down from every node; a best-first search with that as its bound then meets the paths in their order, and no
    path is looked at that is weaker than the last one returned. `biases` as in `influence`. Raises `NodeNotFound` for a node without a row.
    """
    rows = row_of(graph)
    if not 0 <= target < len(rows) or rows[target] < 0:
        what = f"{node_name(graph, target)} has no inputs in this graph." if 0 <= target < len(rows) else f"there is no node {target}."
        raise NodeNotFound(what, got=target, wanted="a target, or a feature that was expanded", do="Give a target or an expanded feature.")
    search = _Search(graph, sources=sources, biases=biases)
    return search.best(target, count=count)


def target_paths(graph: Graph, *, target: int, count: int = 5, to: str = "embedding") -> tuple[FoundPath, ...]:
    """The strongest paths to a target (by its number among targets) from nodes of one kind."""
    node = int(np.flatnonzero(graph.nodes.kind == TARGET)[target])
    return paths(graph, target=node, sources=[int(i) for i in graph.nodes.where(to)], count=count)


class _Search:
    """Best-first over partial paths that grow from the target down."""

    def __init__(self, graph: Graph, *, sources: Sequence[int], biases: bool) -> None:
        self._graph = graph
        self._rows = row_of(graph)
        self._total = influence(graph, biases=biases).total
        self._ends = np.zeros(len(graph.nodes), dtype=np.bool_)
        self._ends[list(sources)] = True
        self._bound = self._best_down()
        self._children: dict[int, tuple[Ints, Floats, Floats]] = {}

    def best(self, target: int, *, count: int) -> tuple[FoundPath, ...]:
        """Each entry is a partial path with the place of the next child to try: children come by falling bound, so one at a time will do."""
        order = counter()
        queue: list[tuple[float, int, tuple[int, ...], float, int]] = []
        found: list[FoundPath] = []

        def offer(chain: tuple[int, ...], strength: float, child: int) -> None:
            nodes, shares, _ = self._fed(chain[-1])
            if child < len(nodes):
                bound = strength * shares[child] * self._below(int(nodes[child]))
                heapq.heappush(queue, (-bound, next(order), chain, strength, child))

        offer((target,), 1.0, 0)
        while queue and len(found) < count:
            _, _, chain, strength, child = heapq.heappop(queue)
            nodes, shares, _ = self._fed(chain[-1])
            longer, along = (*chain, int(nodes[child])), strength * float(shares[child])
            offer(chain, strength, child + 1)
            if self._ends[longer[-1]]:
                found.append(self._path(longer, along))
            else:
                offer(longer, along, 0)
        return tuple(found)

    def _below(self, node: int) -> float:
        return 1.0 if self._ends[node] else float(self._bound[node])

    def _fed(self, node: int) -> tuple[Ints, Floats, Floats]:
        """The sources of a node from which an end is reached, with shares and weights, by falling bound."""
        if node not in self._children:
            row = int(self._rows[node])
            if row < 0:
                self._children[node] = (np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))
            else:
                source, weight = self._graph.edges.row(row)
                share = np.abs(weight).astype(np.float64) / self._total[row]
                reach = share * np.where(self._ends[source], 1.0, self._bound[source])
                kept = np.flatnonzero(reach > 0)
                kept = kept[np.argsort(-reach[kept], kind="stable")]
                self._children[node] = (source[kept].astype(np.int64), share[kept], weight[kept].astype(np.float64))
        return self._children[node]

    def _best_down(self) -> Floats:
        """For each node the strength of its best way down to an end; rows from the first layer up."""
        best = np.zeros(len(self._graph.nodes))
        for rows in reversed(list(sweep(self._graph))):
            edges, local = edges_of(self._graph, rows)
            source = self._graph.edges.source[edges]
            share = np.abs(self._graph.edges.weight[edges]).astype(np.float64) / self._total[rows][local]
            reach = share * np.where(self._ends[source], 1.0, best[source])
            top = np.zeros(len(rows))
            np.maximum.at(top, local, reach)
            best[self._graph.rows[rows]] = top
        return best

    def _path(self, chain: tuple[int, ...], strength: float) -> FoundPath:
        weights: list[float] = []
        for target, source in pairwise(chain):
            nodes, _, given = self._fed(target)
            weights.append(float(given[int(np.flatnonzero(nodes == source)[0])]))
        sign = -1 if sum(weight < 0 for weight in weights) % 2 else 1
        return FoundPath(nodes=tuple(reversed(chain)), weights=tuple(reversed(weights)), strength=strength, sign=sign)
