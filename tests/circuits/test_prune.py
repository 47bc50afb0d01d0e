"""Pruning on stored edges equals the algorithm of circuit-tracer, written here densely from its description."""

from typing import NamedTuple

import numpy as np
import pytest

from microtome.circuits.graph import BIAS, EMBEDDING, ERROR, FEATURE, TARGET, Graph
from microtome.circuits.influence import influence, unexpanded
from microtome.circuits.prune import cut, prune
from microtome.errors import ConfigError
from tests.circuits.made import Floats, closed_form, dense, normalised, own, random_graph


class Wanted(NamedTuple):
    nodes: np.ndarray
    edges: set[tuple[int, int]]
    cumulative: Floats


def first_reaching(scores: Floats, share: float) -> float:
    ordered = np.sort(scores)[::-1]
    cumulative = np.cumsum(ordered) / ordered.sum()
    return float(ordered[min(int(np.searchsorted(cumulative, share)), len(ordered) - 1)])


def as_the_peer_does(graph: Graph, *, node_threshold: float, edge_threshold: float) -> Wanted:
    matrix, weight, kind = dense(graph), own(graph), graph.nodes.kind
    influence = closed_form(normalised(matrix), weight)
    nodes = influence >= first_reaching(influence, node_threshold)
    nodes |= (kind == EMBEDDING) | (kind == TARGET)
    inner = normalised(matrix * nodes * nodes[:, None])
    scores = inner * (closed_form(inner, weight) + weight)[:, None]
    edges = scores >= first_reaching(scores.ravel(), edge_threshold)
    while True:
        before = nodes.copy()
        nodes &= edges.any(0) | ~np.isin(kind, (FEATURE, ERROR))
        nodes &= edges.any(1) | (kind != FEATURE)
        edges &= nodes & nodes[:, None]
        if (nodes == before).all():
            break
    order = np.argsort(-influence, kind="stable")
    cumulative = np.zeros(len(influence))
    cumulative[order] = np.cumsum(influence[order]) / influence.sum()
    return Wanted(nodes, {(int(s), int(t)) for t, s in zip(*np.nonzero(edges), strict=True)}, cumulative)


@pytest.mark.parametrize(("node_threshold", "edge_threshold"), [(0.8, 0.98), (0.5, 0.9), (0.95, 0.5), (0.3, 0.99)])
@pytest.mark.parametrize("seed", range(4))
def test_the_same_nodes_and_edges_as_the_peer(seed: int, node_threshold: float, edge_threshold: float) -> None:
    graph = random_graph(seed)
    found = prune(graph, node_threshold=node_threshold, edge_threshold=edge_threshold)
    wanted = as_the_peer_does(graph, node_threshold=node_threshold, edge_threshold=edge_threshold)
    assert np.flatnonzero(found.nodes).tolist() == np.flatnonzero(wanted.nodes).tolist()
    pairs = zip(graph.edges.source[found.edges], graph.rows[found.edge_rows], strict=True)
    assert {(int(s), int(t)) for s, t in pairs} == wanted.edges
    assert found.cumulative[found.influence > 0] == pytest.approx(wanted.cumulative[found.influence > 0], abs=1e-6)


def test_features_that_were_not_expanded_are_left_out_where_the_peer_drops_them() -> None:
    graph = random_graph(1, unexpanded=5)
    found = prune(graph, traced_only=True)
    assert not found.nodes[unexpanded(graph)].any()
    assert prune(graph, node_threshold=1, edge_threshold=1).nodes[unexpanded(graph)].any()


def test_a_threshold_of_one_keeps_no_edge_without_influence() -> None:
    """A peer's cumulative sum that never quite reached 1 kept every pair of nodes, edge or not."""
    graph = random_graph(2)
    found = prune(graph, node_threshold=1, edge_threshold=1)
    assert (found.edge_scores > 0).all()
    assert len(found.edges) <= len(graph.edges.source)
    reached = influence(graph).nodes > 0
    assert (found.nodes == reached | (graph.nodes.kind == EMBEDDING) | (graph.nodes.kind == TARGET)).all()


def test_every_feature_that_is_left_has_an_input_and_an_output() -> None:
    graph = random_graph(3)
    found = prune(graph, node_threshold=0.4, edge_threshold=0.6)
    features = set(np.flatnonzero(found.nodes & (graph.nodes.kind == FEATURE)).tolist())
    assert features <= set(map(int, graph.edges.source[found.edges]))
    assert features <= set(map(int, graph.rows[found.edge_rows]))


def test_biases_leave_the_others_as_they_were_and_are_kept_by_the_same_measure() -> None:
    graph = random_graph(4, biases=True)
    found = prune(graph, node_threshold=0.98, edge_threshold=0.999)
    bias = graph.nodes.kind == BIAS
    assert found.nodes[bias].any()
    weakest = found.influence[found.nodes & ~bias & (graph.nodes.kind != EMBEDDING) & (graph.nodes.kind != TARGET)].min()
    strong = bias & (found.influence >= weakest)
    assert (found.nodes[bias] <= strong[bias]).all()
    assert found.cumulative[~bias].max() <= 1
    assert found.cumulative[~bias & (found.influence > 0)].max() == pytest.approx(1)


@pytest.mark.parametrize("size", [10, 200_000])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.8, 0.98, 0.9999])
def test_the_cut_is_the_sorted_one(size: int, share: float) -> None:
    scores = np.random.default_rng(size).exponential(size=size) ** 3
    assert cut(scores, share) == first_reaching(scores, share)


def test_equal_scores_and_none_at_all() -> None:
    assert cut(np.full(100_000, 0.5), 0.3) == 0.5
    assert cut(np.zeros(5), 0.8) == float("inf")
    assert cut(np.array([0.0, 2.0, 1.0]), 1.0) == 1.0


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, float("nan")])
def test_a_threshold_outside_its_range_is_refused(threshold: float) -> None:
    with pytest.raises(ConfigError, match="share of influence"):
        prune(random_graph(0), node_threshold=threshold)
