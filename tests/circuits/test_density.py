"""Features that fire nearly everywhere are left out, and only they and their edges go."""

import numpy as np
import pytest

from microtome.circuits import prune, without
from microtome.circuits.graph import FEATURE
from tests.circuits.made import random_graph


@pytest.mark.parametrize("seed", range(3))
def test_the_edges_that_stay_are_those_between_nodes_that_stay(seed: int) -> None:
    graph = random_graph(seed, biases=True)
    pruned = prune(graph, node_threshold=0.95)
    left_out = np.random.default_rng(seed).random(len(graph.nodes)) < 0.4
    thin = without(graph, pruned, left_out=left_out)
    gone = left_out & (graph.nodes.kind == FEATURE)
    assert np.array_equal(thin.nodes, pruned.nodes & ~gone)
    ends = list(zip(graph.edges.source[pruned.edges], graph.rows[pruned.edge_rows], strict=True))
    stays = [not gone[source] and not gone[target] for source, target in ends]
    assert thin.edges.tolist() == pruned.edges[stays].tolist()
    assert thin.edge_rows.tolist() == pruned.edge_rows[stays].tolist()
    assert 0 < sum(stays) < len(stays)
