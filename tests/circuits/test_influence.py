"""Influence by one sweep over sparse rows equals w ((I - A)^-1 - I) of the dense matrix."""

from dataclasses import replace

import numpy as np
import pytest

from microtome.circuits.graph import BIAS, FEATURE, Edges
from microtome.circuits.influence import influence, sweep, unexpanded
from microtome.errors import GraphInvalid
from tests.circuits.made import closed_form, dense, normalised, own, random_graph


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_closed_form(seed: int) -> None:
    graph = random_graph(seed)
    wanted = closed_form(normalised(dense(graph)), own(graph))
    assert influence(graph).nodes == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_sum_over_all_paths(seed: int) -> None:
    graph = random_graph(seed, layers=3, per_layer=3)
    shares, found = normalised(dense(graph)), np.zeros(len(graph.nodes))

    def walk(node: int, strength: float) -> None:
        for source in np.flatnonzero(shares[node]):
            found[source] += strength * shares[node, source]
            walk(int(source), strength * shares[node, source])

    for target, weight in enumerate(own(graph)):
        if weight:
            walk(target, weight)
    assert influence(graph).nodes == pytest.approx(found, abs=1e-6)


def test_all_weight_of_the_targets_ends_where_nothing_is_traced_further() -> None:
    graph = random_graph(1, unexpanded=4, dropped=True)
    found = influence(graph)
    ends = (graph.nodes.kind != FEATURE) | unexpanded(graph)
    dead_ends = (graph.edges.indptr[:-1] == graph.edges.indptr[1:]) & (graph.dropped_abs == 0)
    lost = found.through[dead_ends].sum()
    assert found.nodes[ends].sum() + found.rest + lost == pytest.approx(0.9, abs=1e-6)


def test_what_was_not_stored_takes_its_share_of_a_row() -> None:
    graph = random_graph(2, dropped=True)
    shares = np.zeros((len(graph.nodes), len(graph.nodes)))
    matrix = dense(graph)
    for i, row in enumerate(graph.rows):
        shares[row] = np.abs(matrix[row]) / (np.abs(matrix[row]).sum() + graph.dropped_abs[i])
    assert influence(graph).nodes == pytest.approx(closed_form(shares, own(graph)), abs=1e-6)
    assert influence(graph, traced_only=True).nodes == pytest.approx(closed_form(normalised(matrix), own(graph)), abs=1e-6)


def test_a_bias_takes_no_share_unless_asked() -> None:
    graph = random_graph(3, biases=True)
    matrix, bias = dense(graph), graph.nodes.kind == BIAS
    without = np.where(bias, 0, matrix)
    aside = influence(graph).nodes
    assert aside[~bias] == pytest.approx(closed_form(normalised(without), own(graph))[~bias], abs=1e-6)
    counted = influence(graph, biases=True).nodes
    assert counted == pytest.approx(closed_form(normalised(matrix), own(graph)), abs=1e-6)
    assert aside[bias].sum() > counted[bias].sum() > 0


def test_only_the_kept_nodes_take_part() -> None:
    graph = random_graph(4)
    kept = np.random.default_rng(0).random(len(graph.nodes)) < 0.7
    kept[graph.nodes.kind == 4] = True
    matrix = dense(graph) * kept * kept[:, None]
    assert influence(graph, kept=kept).nodes == pytest.approx(closed_form(normalised(matrix), own(graph)), abs=1e-6)


def test_features_that_were_not_expanded_can_be_left_out() -> None:
    graph = random_graph(5, unexpanded=6)
    matrix = dense(graph) * ~unexpanded(graph)
    assert influence(graph, traced_only=True).nodes == pytest.approx(closed_form(normalised(matrix), own(graph)), abs=1e-6)


def test_a_group_comes_before_all_that_feed_it() -> None:
    graph = random_graph(6)
    seen: set[int] = set()
    matrix = dense(graph)
    for rows in sweep(graph):
        at = graph.rows[rows]
        assert not any(matrix[later, node] for later in set(map(int, graph.rows)) - seen - set(map(int, at)) for node in at)
        seen |= set(map(int, at))
    assert seen == set(map(int, graph.rows))


def test_an_edge_to_an_earlier_layer_is_refused() -> None:
    graph = random_graph(7)
    first = int(np.flatnonzero(graph.nodes.layer[graph.rows] == 1)[0])
    later = int(np.flatnonzero((graph.nodes.kind == FEATURE) & (graph.nodes.layer == 3))[0])
    source = graph.edges.source.copy()
    source[graph.edges.indptr[first]] = later
    wrong = replace(graph, edges=Edges(indptr=graph.edges.indptr, source=source, weight=graph.edges.weight))
    with pytest.raises(GraphInvalid, match="does not lead to a later layer"):
        influence(wrong)
