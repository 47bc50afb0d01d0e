"""Paths against all paths, listed by brute force."""

import numpy as np
import pytest

from microtome.circuits.graph import TARGET, Graph
from microtome.circuits.paths import paths, target_paths
from microtome.errors import NodeNotFound
from tests.circuits.made import dense, normalised, random_graph


def all_paths(graph: Graph, target: int, ends: set[int]) -> list[tuple[float, tuple[int, ...]]]:
    shares, found = normalised(dense(graph)), []

    def walk(chain: tuple[int, ...], strength: float) -> None:
        for source in map(int, np.flatnonzero(shares[chain[-1]])):
            if source in ends:
                found.append((strength * shares[chain[-1], source], (source, *reversed(chain))))
            else:
                walk((*chain, source), strength * shares[chain[-1], source])

    walk((target,), 1.0)
    return sorted(found, reverse=True)


@pytest.mark.parametrize("seed", range(4))
def test_they_are_the_strongest_of_all(seed: int) -> None:
    graph = random_graph(seed, layers=3, per_layer=5)
    embeddings = set(map(int, graph.nodes.where("embedding")))
    wanted = all_paths(graph, int(graph.nodes.where("target")[1]), embeddings)[:20]
    found = target_paths(graph, target=1, count=20)
    assert [path.strength for path in found] == pytest.approx([strength for strength, _ in wanted], abs=1e-7)
    assert {path.nodes for path in found[:10]} == {nodes for _, nodes in wanted[:10]}


def test_weights_and_sign_are_those_of_the_edges() -> None:
    graph = random_graph(1)
    matrix = dense(graph)
    for path in target_paths(graph, target=0, count=10):
        weights = [matrix[t, s] for s, t in zip(path.nodes, path.nodes[1:], strict=False)]
        assert path.weights == pytest.approx(weights)
        assert path.sign == np.sign(np.prod(weights))


def test_fewer_where_there_are_no_more_and_none_from_what_does_not_reach() -> None:
    graph = random_graph(2, layers=2, per_layer=2)
    target = int(np.flatnonzero(graph.nodes.kind == TARGET)[0])
    errors = [int(i) for i in graph.nodes.where("error")]
    every = all_paths(graph, target, set(errors))
    assert len(paths(graph, target=target, sources=errors, count=10_000)) == len(every)
    assert paths(graph, target=target, sources=[int(graph.nodes.where("target")[1])]) == ()


def test_from_a_node_that_was_not_expanded_there_is_no_way_down() -> None:
    graph = random_graph(3)
    with pytest.raises(NodeNotFound, match="has no inputs"):
        paths(graph, target=int(graph.nodes.where("embedding")[0]), sources=[0])
    with pytest.raises(NodeNotFound, match="there is no node"):
        paths(graph, target=10_000, sources=[0])
