"""An intervention, predicted by the graph and measured in the model."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from circuits.made import dense, random_graph
from circuits.sets import transcoders

from microtome.circuits import (
    Graph,
    Intervention,
    LogitDifference,
    Logits,
    Patching,
    TraceConfig,
    effects_on,
    interventions,
    node_name,
    outcome,
    predicted_change,
    trace,
)
from microtome.circuits.graph import FEATURE
from microtome.circuits.intervene import Operation
from microtome.errors import EditsConflict, GraphInvalid, NodeNotFound
from microtome.models import Model, tiny
from microtome.steering import Sampling, Strength, raw, times_current

PROMPT = "the world and the user"
LAST = 2
"""The last layer of a tiny model: what is changed there reaches the logits straight."""


@cache
def traced() -> tuple[Model, Graph]:
    model = tiny("llama")
    targets = [Logits(most=2), LogitDifference(token=" the", against=" of")]
    return model, trace(model, transcoders(model, skip=True), PROMPT, target=targets, config=TraceConfig(max_rows=400))


def late(graph: Graph, n: int) -> list[str]:
    """Features of the last layer at the last token."""
    nodes = graph.nodes
    found = np.flatnonzero((nodes.kind == FEATURE) & (nodes.layer == LAST) & (nodes.position == len(graph.tokens) - 1))
    return [node_name(graph, int(i)) for i in found[:n]]


@pytest.mark.parametrize("seed", range(3))
def test_one_node_is_predicted_by_its_total_effect_and_several_by_the_graph_read_forwards(seed: int):
    graph = random_graph(seed, unexpanded=3, biases=True)
    features, target = graph.nodes.where("feature"), int(graph.nodes.where("target")[0])
    total = effects_on(graph, target).total
    for node in map(int, features):
        for factor in (0.0, 2.0, -3.0):
            group = interventions([node_name(graph, node)], times_current(factor), operation="multiply")
            assert predicted_change(graph, group, target=target) == pytest.approx((factor - 1) * total[node], rel=1e-4, abs=1e-6)

    chosen = [int(node) for node in np.random.default_rng(seed).permutation(features)[:4]]
    made: list[tuple[int, Strength, Operation]] = [
        (chosen[0], times_current(3.0), "multiply"),
        (chosen[1], raw(0.25), "set"),
        (chosen[2], raw(-2.0), "add"),
        (chosen[3], times_current(0.5), "add"),
    ]
    group = [Intervention.on(node_name(graph, node), strength, operation=operation) for node, strength, operation in made]
    matrix, change = dense(graph), np.zeros(len(graph.nodes))
    activation = graph.nodes.activation
    for _ in range(graph.n_layers + 1):  # as many times as a path is long: then nothing moves any more
        change = np.where(graph.nodes.kind == FEATURE, (matrix @ change) / activation, 0)
        change[chosen[0]] = 3 * (1 + change[chosen[0]]) - 1
        change[chosen[1]] = 0.25 / activation[chosen[1]] - 1
        change[chosen[2]] -= 2 / activation[chosen[2]]
        change[chosen[3]] += 0.5 * (1 + change[chosen[3]])
    assert predicted_change(graph, group, target=target) == pytest.approx(float((matrix @ change)[target]), rel=1e-4)


def test_what_reaches_the_target_straight_is_measured_as_predicted_and_the_model_stays_as_it_was():
    model, graph = traced()
    dictionaries, tokens = transcoders(model, skip=True), torch.tensor([graph.tokens])
    before = model.logits(tokens)
    nodes = late(graph, 3)
    group = [
        Intervention.on(nodes[0], times_current(-4.0), operation="multiply"),
        Intervention.on(nodes[1], raw(0.3), operation="set"),
        Intervention.on(nodes[2], raw(1.5), operation="add"),
    ]
    for target in graph.nodes.where("target"):
        found = outcome(model, dictionaries, graph=graph, group=group, target=int(target), patching=Patching(end_layer=LAST))
        assert found.measured == pytest.approx(found.predicted, rel=1e-3)
        assert abs(found.predicted) > 1e-3
        assert found.nodes == tuple(nodes)
        assert (found.unedited, found.edited) == (None, None)
        assert found.clean == pytest.approx(float(graph.pre[graph.row_of(int(target)) or 0]))
        json.dumps(found.to_json(), allow_nan=False)
    assert torch.equal(model.logits(tokens), before)


def test_shifts_are_probabilities_and_the_prompt_goes_on_both_ways():
    model, graph = traced()
    nodes = late(graph, 6)
    group = interventions(nodes, times_current(-10.0), operation="multiply")
    found = outcome(model, transcoders(model, skip=True), graph=graph, group=group, sampling=Sampling(max_new_tokens=6))
    clean = model.logits(torch.tensor([graph.tokens]))[0, -1].softmax(-1)
    for shift in found.shifts:
        assert shift.before == pytest.approx(float(clean[shift.token]), abs=1e-5)
    assert int(clean.argmax()) in {shift.token for shift in found.shifts}
    sizes = [abs(shift.after - shift.before) for shift in found.shifts]
    assert sizes == sorted(sizes, reverse=True)
    assert found.kl > 0
    assert found.edited != found.unedited
    nothing = outcome(model, transcoders(model, skip=True), graph=graph, group=interventions(nodes, times_current(1.0), operation="multiply"))
    assert (nothing.predicted, nothing.measured, nothing.kl) == pytest.approx((0, 0, 0), abs=1e-6)


def test_what_is_no_node_or_changed_twice_is_refused():
    model, graph = traced()
    dictionaries = transcoders(model, skip=True)
    node = late(graph, 1)[0]
    twice = interventions([node, node], times_current(0.0), operation="multiply")
    silent = next(i for i in range(24) if f"L2.f{i}@0" not in {node_name(graph, int(each)) for each in graph.nodes.where("feature")})
    with pytest.raises(EditsConflict):
        outcome(model, dictionaries, graph=graph, group=twice)
    with pytest.raises(NodeNotFound):
        outcome(model, dictionaries, graph=graph, group=interventions([f"L2.f{silent}@0"], raw(1.0), operation="set"))
    with pytest.raises(GraphInvalid, match="nothing to change"):
        outcome(model, dictionaries, graph=graph, group=[])
    with pytest.raises(GraphInvalid, match="another activation"):
        outcome(model, transcoders(model, skip=True, seed=1), graph=graph, group=interventions([node], raw(1.0), operation="set"))
    with pytest.raises(GraphInvalid, match="traced back"):
        predicted_change(graph, interventions([node], raw(1.0), operation="set"), target=int(graph.nodes.where("error")[0]))
