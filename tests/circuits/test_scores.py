"""Scores against their definitions on dense matrices, and subgraph scores against graphs whose features were merged by hand."""

import numpy as np
import pytest

from microtome.circuits.graph import EMBEDDING, ERROR, FEATURE, Graph
from microtome.circuits.influence import unexpanded
from microtome.circuits.scores import Scores, merge_into_errors, scores, subgraph_scores
from tests.circuits.made import closed_form, dense, normalised, own, random_graph


def defined(graph: Graph, matrix: np.ndarray) -> tuple[float, float]:
    """Replacement score and completeness of the literature."""
    kind, shares, weight = graph.nodes.kind, normalised(matrix), own(graph)
    influence = closed_form(shares, weight)
    tokens, errors = influence[kind == EMBEDDING].sum(), influence[kind == ERROR].sum()
    explained = np.where(np.abs(matrix).sum(1) > 0, 1 - shares[:, kind == ERROR].sum(1), 0)
    through = np.where(np.isin(np.arange(len(kind)), graph.rows), influence + weight, 0)
    return tokens / (tokens + errors), (explained * through).sum() / through.sum()


@pytest.mark.parametrize("seed", range(4))
def test_they_are_as_defined(seed: int) -> None:
    graph = random_graph(seed)
    found = scores(graph)
    assert (found.replacement, found.completeness) == pytest.approx(defined(graph, dense(graph)), abs=1e-6)
    assert found.replacement + found.error_share == pytest.approx(1)


def test_what_was_not_traced_counts_as_unexplained_unless_it_is_left_out() -> None:
    graph = random_graph(1, unexpanded=8, dropped=True)
    found, peer = scores(graph), scores(graph, traced_only=True)
    assert found.replacement + found.error_share + found.untraced == pytest.approx(1)
    assert found.untraced > 0
    assert found.replacement < peer.replacement
    assert found.completeness < peer.completeness
    assert (peer.replacement, peer.completeness) == pytest.approx(defined(graph, dense(graph) * ~unexpanded(graph)), abs=1e-6)


def test_biases_can_be_counted() -> None:
    graph = random_graph(2, biases=True)
    found = scores(graph, biases=True)
    assert found.bias_share > 0
    assert found.replacement + found.error_share + found.bias_share == pytest.approx(1)
    assert scores(graph).bias_share == 0


@pytest.mark.parametrize("seed", range(3))
def test_a_subgraph_is_the_graph_with_the_others_in_their_errors(seed: int) -> None:
    graph = random_graph(seed)
    kept = np.random.default_rng(seed).random(len(graph.nodes)) < 0.5
    gone = np.flatnonzero((graph.nodes.kind == FEATURE) & ~kept)
    matrix = dense(graph)
    for node in gone:
        same = (graph.nodes.kind == ERROR) & (graph.nodes.layer == graph.nodes.layer[node]) & (graph.nodes.position == graph.nodes.position[node])
        matrix[:, same] += matrix[:, [node]]
    matrix[gone] = 0
    matrix[:, gone] = 0
    found = subgraph_scores(graph, kept)
    assert (found.replacement, found.completeness) == pytest.approx(
        defined(merge_into_errors(graph, ~kept & (graph.nodes.kind == FEATURE)), matrix), abs=1e-6
    )


def test_merging_keeps_what_every_row_adds_up_to() -> None:
    graph = random_graph(5)
    gone = (graph.nodes.kind == FEATURE) & (np.random.default_rng(1).random(len(graph.nodes)) < 0.4)
    merged = merge_into_errors(graph, gone)
    assert merged.balance() < 1e-5
    assert len(merged.rows) == len(graph.rows) - int(gone[graph.rows].sum())


def test_a_graph_of_everything_scores_as_itself_and_one_of_nothing_explains_less() -> None:
    graph = random_graph(6)
    everything = np.ones(len(graph.nodes), dtype=np.bool_)
    assert subgraph_scores(graph, everything) == scores(graph)
    assert subgraph_scores(graph, ~everything).replacement < scores(graph).replacement


def test_a_graph_without_any_edge_scores_nothing() -> None:
    graph = random_graph(0)
    empty = merge_into_errors(graph, np.zeros(len(graph.nodes), dtype=np.bool_))
    empty.edges.weight[:] = 0
    assert scores(empty) == Scores(replacement=0, completeness=0, error_share=0, untraced=0)
