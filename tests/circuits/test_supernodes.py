"""Supernodes: edges between groups by hand, and groups that were planted."""

import numpy as np
import pytest

from microtome.circuits import Graph
from microtome.circuits.graph import EMBEDDING, FEATURE, TARGET
from microtome.circuits.influence import influence
from microtome.circuits.names import node_name
from microtome.circuits.supernodes import Supernode, group_edges, name_groups, suggest
from microtome.errors import GraphInvalid, NodeNotFound
from tests.circuits.made import dense, graph_of, normalised, own, random_graph


def planted() -> Graph:
    """Two tokens feed six features of layer 0; 0-2 feed feature 6, 3-5 feed feature 7; both feed the target."""
    n = 11
    matrix = np.zeros((n, n))
    matrix[0:3, 8] = [1, 2, 3]
    matrix[3:6, 9] = [1, 1, 1]
    matrix[6, 0:3] = [2, 1, -1]
    matrix[7, 3:6] = [1, 1, 2]
    matrix[7, 0] = 0.1
    matrix[10, 6], matrix[10, 7] = 3, 1
    kind = [FEATURE] * 8 + [EMBEDDING] * 2 + [TARGET]
    layer, position = [0] * 6 + [1, 1, -1, -1, 2], [0, 0, 0, 1, 1, 1, 1, 1, 0, 1, 1]
    feature = [*range(8), 100, 101, 40]
    rows = [*range(8), 10]
    pieces = (" a", " b")
    return graph_of(matrix, kind=kind, layer=layer, position=position, feature=feature, rows=rows, target_weight=[1.0], pieces=pieces, n_layers=2)


def test_an_edge_is_the_share_averaged_by_influence() -> None:
    graph = planted()
    first = Supernode(name="first", members=("L0.f0@0", "L0.f1@0", "L0.f2@0"))
    upper = Supernode(name="upper", members=("L1.f6@1", "L1.f7@1"))
    (edge,) = group_edges(graph, [first, upper])
    assert (edge.source, edge.target) == ("first", "upper")
    assert edge.share == pytest.approx(0.75 * 1 + 0.25 * 0.1 / 4.1)
    assert edge.signed == pytest.approx(0.75 * 2 / 4 + 0.25 * 0.1 / 4.1)
    assert edge.weight == pytest.approx(2 + 1 - 1 + 0.1)


def test_groups_of_one_node_have_the_shares_of_the_graph() -> None:
    graph = random_graph(1)
    nodes = [int(i) for i in range(len(graph.nodes))]
    groups = name_groups(graph, [[node] for node in nodes], [node_name(graph, node) for node in nodes])
    found = {(edge.source, edge.target): edge.share for edge in group_edges(graph, groups)}
    shares = normalised(dense(graph))
    through = influence(graph).nodes + own(graph)
    wanted = {(node_name(graph, s), node_name(graph, t)): shares[t, s] for t in nodes for s in nodes if shares[t, s] > 0}
    assert through.shape == (len(nodes),)
    assert found == pytest.approx(wanted, abs=1e-6)


def test_planted_groups_are_suggested() -> None:
    """Feature 2 inhibits what 0 and 1 support, so it stays alone; 6 and 7 both feed the target."""
    assert set(suggest(planted(), range(8))) == {(0, 1), (3, 4, 5), (6, 7)}


def test_corpus_coactivation_decides_where_it_is_given() -> None:
    graph = planted()
    together = {(0, 0): {(0, 1): 0.9, (0, 3): 0.0}, (0, 3): {(0, 4): 0.0, (0, 5): 0.0}, (0, 4): {(0, 5): 0.9}}
    found = suggest(graph, [0, 1, 3, 4, 5], coactivation=together, similarity=0.9)
    assert set(found) == {(0, 1), (4, 5)}


def test_one_feature_at_several_positions_fires_together_with_itself() -> None:
    graph = planted()
    graph.nodes.feature[4] = 3
    assert (3, 4) in suggest(graph, [3, 4, 5], coactivation={}, similarity=0.9)


def test_too_few_features_make_no_group() -> None:
    assert suggest(planted(), [0]) == ()
    assert suggest(planted(), [8, 9, 10]) == ()


def test_members_are_there_once_and_in_one_group() -> None:
    with pytest.raises(GraphInvalid, match="once each"):
        Supernode(name="none", members=())
    one, other = Supernode(name="one", members=("L0.f0@0",)), Supernode(name="other", members=("L0.f0@0", "L0.f1@0"))
    with pytest.raises(GraphInvalid, match="in two supernodes"):
        group_edges(planted(), [one, other])
    with pytest.raises(NodeNotFound):
        group_edges(planted(), [Supernode(name="gone", members=("L0.f99@0",))])
