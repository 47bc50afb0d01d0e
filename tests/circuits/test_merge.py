"""Several prompts beside each other: tokens aligned, values where they are known."""

from dataclasses import replace

import numpy as np
import pytest

from microtome.circuits import Graph
from microtome.circuits.graph import EMBEDDING, FEATURE, TARGET
from microtome.circuits.merge import align, contrast, merge
from microtome.errors import GraphInvalid
from tests.circuits.made import graph_of, random_graph


def chain(tokens: tuple[int, ...], *, strength: float, extra: bool = False, expanded: bool = True) -> Graph:
    """Last token's embedding → feature 5 of layer 0 → target; with `extra` also the first token's → feature 6 → target."""
    last, n = len(tokens) - 1, 6
    matrix = np.zeros((n, n))
    matrix[0, 3], matrix[5, 0] = 1.0, strength
    matrix[1, 2], matrix[5, 1] = (2.0, 0.5) if extra else (0.0, 0.0)
    matrix[5, 4] = 0.01
    kind = [FEATURE, FEATURE, EMBEDDING, EMBEDDING, 1, TARGET]
    pieces = tuple(f" {token}" for token in tokens)
    return graph_of(
        matrix,
        kind=kind,
        layer=[0, 0, -1, -1, 0, 1],
        position=[last, 0, 0, last, last, last],
        feature=[5, 6 if extra else 7, tokens[0], tokens[-1], -1, 40],
        rows=[0, 1, 5] if expanded else [1, 5],
        target_weight=[1.0],
        pieces=pieces,
        tokens=tokens,
        n_layers=1,
    )


@pytest.mark.parametrize(
    ("prompts", "columns"),
    [
        (((1, 2, 3), (1, 2, 3)), [(0, 0), (1, 1), (2, 2)]),
        (((1, 2, 3), (1, 9, 3)), [(0, 0), (1, 1), (2, 2)]),
        (((1, 2, 3), (1, 2, 2, 3)), [(0, 0), (1, 1), (None, 2), (2, 3)]),
        (((1, 2, 5, 3), (1, 3)), [(0, 0), (1, None), (2, None), (3, 1)]),
        (((1, 2), (7, 8, 2), (1, 8, 4)), [(None, 0, None), (0, 1, 0), (None, None, 1), (1, 2, 2)]),
    ],
)
def test_positions_are_laid_beside_each_other_by_their_tokens(prompts: tuple[tuple[int, ...], ...], columns: list[tuple[int | None, ...]]) -> None:
    found, places = align(prompts)
    assert [each for prompt in range(len(prompts)) for each in [c[prompt] for c in found] if each is not None] == [
        i for prompt in prompts for i in range(len(prompt))
    ]
    assert all(found[place][number] == at for number, prompt in enumerate(places) for at, place in enumerate(prompt))
    assert len({place[-1] for place in places}) == 1
    if len(prompts) == 2:
        assert found == columns


def test_a_graph_less_itself_is_nothing() -> None:
    graph = random_graph(1)
    found = contrast(graph, graph)
    assert {edge.difference for edge in found.edges} == {0.0}
    assert all(node.influence[0] == node.influence[1] for node in found.nodes)


def test_a_longer_prompt_is_aligned_and_the_difference_is_what_was_changed() -> None:
    a, b = chain((1, 2, 3), strength=3.0, extra=True), chain((1, 8, 8, 3), strength=1.0)
    found = contrast(a, b, node_threshold=1, edge_threshold=1)
    named = {node.name: node for node in found.nodes}
    assert named["L0.f5@2"].activation == (1.5, 1.5)
    assert named["L0.f6@0"].activation == (1.5, None)
    assert named["L0.f6@0"].influence[1] == 0
    edges = {(found.nodes[edge.source].name, found.nodes[edge.target].kind): edge for edge in found.edges}
    assert edges["L0.f5@2", "target"].difference == pytest.approx(2.0)
    assert edges["L0.f6@0", "target"].weight == pytest.approx((0.5, 0.0))
    assert found.edges[0].difference == max((edge.difference or 0 for edge in found.edges), key=abs)
    assert [column.pieces for column in found.columns][-1] == (" 3", " 3")


def test_what_was_not_expanded_is_not_known() -> None:
    a, b = chain((1, 2, 3), strength=1.0), chain((1, 2, 3), strength=1.0, expanded=False)
    found = contrast(a, b, node_threshold=1, edge_threshold=1)
    edges = {(found.nodes[edge.source].name, found.nodes[edge.target].name): edge for edge in found.edges}
    assert edges["E@2", "L0.f5@2"].weight == (1.0, None)
    assert edges["E@2", "L0.f5@2"].difference is None


def test_many_prompts_merge_into_one_picture() -> None:
    graphs = [chain((1, 2, 3), strength=float(i + 1), extra=i == 0) for i in range(4)]
    found = merge(graphs, node_threshold=1, edge_threshold=1)
    edges = {(found.nodes[edge.source].name, found.nodes[edge.target].kind): edge for edge in found.edges}
    assert edges["L0.f5@2", "target"].mean == pytest.approx(2.5)
    assert {node.name: node.prompts for node in found.nodes}["L0.f6@0"] == 1
    assert len(found.prompts) == 4
    assert found.nodes[0].influence[0] > 0


def test_graphs_of_other_models_are_refused() -> None:
    graph = random_graph(1)
    with pytest.raises(GraphInvalid, match="laid beside each other"):
        contrast(graph, replace(graph, model_fingerprint="other"))
    with pytest.raises(GraphInvalid, match="laid beside each other"):
        merge([])
