import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from circuits.made import dense, random_graph
from circuits.sets import transcoders

from microtome.circuits import FeatureTarget, Graph, Logits, TraceConfig, trace
from microtome.circuits.graph import FEATURE
from microtome.circuits.intervene import Patching
from microtome.circuits.names import node_name
from microtome.circuits.predict import TrialConfig, effects_on, trial
from microtome.config import canonical_json
from microtome.errors import GraphInvalid
from microtome.models import Model, tiny

PROMPT = "the world and the user"


@cache
def traced(kind: str = "layers") -> tuple[Model, Graph]:
    model = tiny("llama")
    dictionaries = transcoders(model, kind="layers" if kind == "layers" else "cross-layer", skip=True)
    return model, trace(model, dictionaries, PROMPT, target=Logits(most=2), config=TraceConfig(max_rows=400))


@pytest.mark.parametrize("seed", range(3))
def test_total_effects_are_the_sum_over_all_paths(seed: int):
    """With B[t, s] = A[t, s] / a_t in the rows of expanded features, total = A[T] (I − B)^-1."""
    graph = random_graph(seed, unexpanded=3, biases=True)
    matrix, passes = dense(graph), np.zeros(len(graph.nodes))
    expanded = graph.rows[graph.nodes.kind[graph.rows] == FEATURE]
    passes[expanded] = 1 / graph.nodes.activation[expanded]
    for node in (int(graph.nodes.where("target")[1]), int(expanded[-1])):
        found = effects_on(graph, node)
        assert np.allclose(found.direct, matrix[node])
        assert np.allclose(found.total, matrix[node] @ np.linalg.inv(np.eye(len(matrix)) - passes[:, None] * matrix), rtol=1e-5, atol=1e-6)
    closed = set(graph.nodes.where("feature").tolist()) - set(graph.rows.tolist())
    with pytest.raises(GraphInvalid, match="traced back"):
        effects_on(graph, closed.pop())


@pytest.mark.parametrize("kind", ["layers", "cross-layer"])
def test_with_all_held_every_node_does_what_its_edge_says(kind: str):
    """The edge is checked against the model that it speaks of: ablation measures −direct, doubling +direct, on a logit and on a feature."""
    model, graph = traced(kind)
    dictionaries = transcoders(model, kind="layers" if kind == "layers" else "cross-layer", skip=True)
    nodes = graph.nodes
    late = [
        int(node) for node in graph.rows if nodes.kind[node] == FEATURE and nodes.layer[node] == 2 and nodes.position[node] == nodes.position.max()
    ]
    for target in (None, late[0]):
        config = TrialConfig(strong=12, random=12, target=target, patching=Patching(end_layer=2))
        found = trial(model, dictionaries, graph=graph, config=config)
        direct = np.array([node.direct for node in found.nodes])
        assert len(direct) == 24
        assert np.count_nonzero(direct) > 8
        size = np.abs(direct).max()
        assert np.allclose([node.ablated for node in found.nodes], -direct, rtol=1e-3, atol=1e-4 * size)
        assert np.allclose([node.doubled for node in found.nodes], direct, rtol=1e-3, atol=1e-4 * size)


def test_a_trial_says_how_well_the_graph_predicts_beside_shuffled_predictions():
    model, graph = traced()
    dictionaries = transcoders(model, skip=True)
    found = trial(model, dictionaries, graph=graph, config=TrialConfig(strong=15, random=25, seed=3))
    groups = [node.group for node in found.nodes]
    assert groups == ["strong"] * 15 + ["random"] * 25
    assert len({node.node for node in found.nodes}) == 40
    assert min(node.influence for node in found.nodes[:15]) >= max(node.influence for node in found.nodes[15:])
    for name in ("ablated, strong", "doubled, strong", "ablated, random", "divergence, random", "sign, random"):
        result = found.result(name)
        assert result is not None
        assert result.low is not None
        assert result.high is not None
        assert result.low <= result.value <= result.high
        if "sign" not in name:
            assert result.baselines["shuffled, low"] < result.baselines["shuffled"] < result.baselines["shuffled, high"]
            assert abs(result.baselines["shuffled"]) < 0.15
    again = trial(model, dictionaries, graph=graph, config=TrialConfig(strong=15, random=25, seed=3))
    assert canonical_json(again.to_json()) == canonical_json(found.to_json())
    read = json.loads(canonical_json(found.to_json()))
    assert read["nodes"][0]["node"] == found.nodes[0].node
    assert read["patching"] == {"attention": "frozen", "end_layer": None}


def test_a_trial_refuses_what_the_graph_is_not_about():
    model, graph = traced()
    with pytest.raises(GraphInvalid, match="another activation"):
        trial(model, transcoders(model, seed=1), graph=graph)
    with pytest.raises(GraphInvalid, match="another model"):
        trial(tiny("llama", seed=1), transcoders(model, skip=True), graph=graph)
    error = int(graph.nodes.where("error")[0])
    with pytest.raises(GraphInvalid, match="cannot be measured"):
        trial(model, transcoders(model, skip=True), graph=graph, config=TrialConfig(target=error))


def test_a_feature_that_was_traced_as_a_target_is_tried_like_a_logit():
    model, graph = traced()
    node = next(int(n) for n in graph.rows if graph.nodes.kind[n] == FEATURE and graph.nodes.layer[n] == 1)
    place = {name: int(getattr(graph.nodes, name)[node]) for name in ("layer", "feature", "position")}
    dictionaries = transcoders(model, skip=True)
    own = trace(model, dictionaries, PROMPT, target=FeatureTarget(**place))
    config = TrialConfig(strong=6, random=4, patching=Patching(end_layer=2))
    as_target, as_node = (
        trial(model, dictionaries, graph=own, config=config),
        trial(model, dictionaries, graph=graph, config=replace(config, target=node)),
    )
    assert as_target.target == as_node.target == node_name(graph, node)
    assert np.allclose([each.ablated for each in as_target.nodes], [-each.direct for each in as_target.nodes], rtol=1e-3, atol=1e-5)
    assert max(abs(each.direct) for each in as_target.nodes) > 1e-3
    shared = {each.node: each for each in as_node.nodes}
    for each in as_target.nodes:
        if each.node in shared:
            assert each.doubled == pytest.approx(shared[each.node].doubled, rel=1e-3, abs=1e-5)
