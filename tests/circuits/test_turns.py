"""Columns of turns: every row still adds up, and an edge is what changing a feature in the whole turn does to the mean of another."""

from collections import defaultdict
from functools import cache

import numpy as np
import pytest
import torch
from circuits.sets import transcoders

from microtome.circuits import (
    Graph,
    Intervention,
    LogitDifference,
    Logits,
    Patching,
    TokenColumn,
    TraceConfig,
    TurnFeature,
    by_columns,
    missing_edges,
    node_name,
    outcome,
    patch,
    scores,
    trace,
    trial,
    turn_columns,
    view,
)
from microtome.circuits.graph import FEATURE
from microtome.conversation import Conversation, Turn
from microtome.dictionaries import SAE, ReLU
from microtome.errors import GraphInvalid, ShapeMismatch, TargetInvalid
from microtome.models import Frozen, Model, Rendered, Site, render, tiny
from microtome.steering import Row, Window, times_current

TALK = (("user", "the world and the user"), ("assistant", "and so on and on"), ("user", "the end of the world"))
WANTED = 5
"""The feature of the turn dictionary that is explained, in the last turn."""


@cache
def setting() -> tuple[Model, Rendered, SAE]:
    model = tiny("llama")
    draw = torch.Generator().manual_seed(4)
    weights = {name: torch.randn(16, model.d_model, generator=draw) / 4 for name in ("W_enc", "W_dec")}
    weights |= {"b_enc": torch.randn(16, generator=draw), "b_dec": torch.randn(model.d_model, generator=draw)}
    sae = SAE(site=Site("resid_post", 1), nonlinearity=ReLU(), weights=weights, input_scale=1.3, pooling="turn")
    talk = Conversation(turns=tuple(Turn(role=role, content=content) for role, content in TALK))
    return model, render(model, talk, add_generation_prompt=True), sae


@cache
def traced(max_rows: int = 4000) -> tuple[Graph, Graph, tuple[TokenColumn, ...]]:
    """By tokens, by turns, and the columns."""
    model, rendered, sae = setting()
    last = rendered.turns[-1]
    target = TurnFeature(dictionary=sae, feature=WANTED, start=last.content_start, stop=last.content_end)
    graph = trace(model, transcoders(model, skip=True), rendered.tokens, target=[target, Logits(most=2)], config=TraceConfig(max_rows=max_rows))
    columns = turn_columns(rendered.turns, len(rendered.tokens))
    return graph, by_columns(graph, columns), columns


def test_columns_are_turns_and_every_row_adds_up_to_the_mean_of_its_turn():
    model, rendered, sae = setting()
    graph, turns, columns = traced()
    assert [column.label for column in columns if "⟨" not in column.label] == ["1 user", "2 assistant", "3 user"]
    assert columns[0].start == 0
    assert columns[-1].stop == len(rendered.tokens) == sum(c.stop - c.start for c in columns)
    assert turns.pieces == tuple(column.label for column in columns)
    assert graph.balance() < 1e-4
    assert turns.balance() < 1e-4
    assert len(turns.nodes) < len(graph.nodes) / 2
    span = rendered.turns[-1]
    read = model.capture(torch.tensor([rendered.tokens]), [sae.reads])[sae.reads][0, span.content_start : span.content_end].mean(0)
    wanted = sae.encoder_direction(WANTED) @ read + sae.b_enc[WANTED] - sae.W_enc[WANTED] @ sae.b_dec
    row = turns.row_of(int(turns.nodes.where("target")[0]))
    assert row is not None
    assert turns.target_labels[0] == f"L1.resid_post.f{WANTED}@{len(columns) - 2}"
    assert turns.pre[row] == pytest.approx(float(wanted), rel=1e-4)
    assert turns.target_weight[0] == pytest.approx(1.0)
    assert [node.label for node in view(turns).nodes if node.kind == "embedding"] == [turns.pieces[i] for i in sorted(seen_columns(turns))]


def seen_columns(turns: Graph) -> set[int]:
    return {node.position for node in view(turns).nodes if node.kind == "embedding"}


def test_weights_and_activations_are_those_of_the_tokens_summed_by_hand():
    graph, turns, columns = traced()
    column_of = {at: i for i, column in enumerate(columns) for at in range(column.start, column.stop)}
    first = int(graph.nodes.where("target")[0])

    def name(node: int) -> str:
        if node >= first:
            return graph.target_labels[node - first].rpartition("@")[0]
        base, _, at = node_name(graph, node).partition("@")
        return f"{base}@{column_of[int(at)]}" if at else base

    def new_name(node: int) -> str:
        found = node_name(turns, node)
        return found.rpartition("@")[0] if node in set(turns.nodes.where("target").tolist()) else found

    total: defaultdict[tuple[str, str], float] = defaultdict(float)
    for i, row in enumerate(graph.rows):
        column = columns[column_of[int(graph.nodes.position[row])]]
        target = row >= first
        share = graph.target_weight[row - first] if target and "resid_post" in name(int(row)) else 1.0 if target else 1 / (column.stop - column.start)
        for source, weight in zip(*graph.edges.row(i), strict=True):
            total[name(int(row)), name(int(source))] += float(share * weight)
    found = {
        (new_name(int(row)), new_name(int(source))): float(weight)
        for i, row in enumerate(turns.rows)
        for source, weight in zip(*turns.edges.row(i), strict=True)
    }
    assert set(found) == set(total)
    assert np.allclose([found[key] for key in total], list(total.values()), rtol=1e-4, atol=1e-5)
    mean: defaultdict[str, float] = defaultdict(float)
    for node in graph.nodes.where("feature"):
        column = columns[column_of[int(graph.nodes.position[node])]]
        mean[name(int(node))] += float(graph.nodes.activation[node]) / (column.stop - column.start)
    assert {node_name(turns, int(i)): pytest.approx(float(turns.nodes.activation[i]), rel=1e-4) for i in turns.nodes.where("feature")} == mean


def test_an_edge_is_what_doubling_a_feature_in_a_turn_does_to_the_mean_of_another_turn():
    model, rendered, sae = setting()
    _, turns, columns = traced()
    row = turns.row_of(int(turns.nodes.where("target")[0]))
    assert row is not None
    source, weight = turns.edges.row(row)
    strong = [i for i in np.argsort(-np.abs(weight)) if turns.nodes.kind[source[i]] == FEATURE][:5]
    groups: list[list[Intervention]] = []
    for i in strong:
        column = columns[int(turns.nodes.position[source[i]])]
        layer, feature = int(turns.nodes.layer[source[i]]), int(turns.nodes.feature[source[i]])
        window = Window(start=column.start, stop=column.stop)
        groups.append([Intervention(layer=layer, feature=feature, positions=window, operation="multiply", strength=times_current(2.0))])
    made = patch(
        model,
        transcoders(model, skip=True),
        prompt=Row(tokens=rendered.tokens),
        groups=groups,
        patching=Patching(end_layer=model.n_layers - 1),
        read=[sae.reads],
    )
    span = rendered.turns[-1]
    moved = (made.read[sae.reads] - made.clean_read[sae.reads])[:, span.content_start : span.content_end].mean(1)
    assert np.allclose((moved @ sae.encoder_direction(WANTED)).numpy(), weight[strong], rtol=1e-3)


def test_what_was_not_expanded_at_some_tokens_is_dropped_and_counted():
    graph, turns, _ = traced(40)
    assert turns.balance() < 1e-4
    assert (turns.dropped_abs > 0).any()
    whole = scores(traced()[1])
    assert whole.untraced < scores(turns).untraced < 1
    assert set(turns.nodes.activation.tolist()) == set(traced()[1].nodes.activation.tolist())
    assert len(graph.rows) == 40 + graph.n_targets


def test_a_dictionary_of_turns_has_a_node_for_each_feature_of_a_turn():
    """Its activations are its codes of the means; edges are measured by moving the held stream at all tokens of a turn."""
    model, rendered, sae = setting()
    spans = [range(turn.content_start, turn.content_end) for turn in rendered.turns]
    target = LogitDifference(token=" the", against=" of")
    graph = trace(model, sae, rendered.tokens, target=target, turns=rendered.turns)
    assert graph.balance() < 1e-4
    frozen = Frozen(model, torch.tensor(rendered.tokens), read=[Site("final_norm"), sae.reads, Site("resid_pre", 0)])
    read = frozen.clean[sae.reads]
    codes = sae.encode(torch.stack([read[list(span)].mean(0) for span in spans]))
    wanted = {(turn, int(f)): float(a) for turn in range(3) for f, a in zip(codes.indices[turn], codes.values[turn], strict=True) if a}
    column = {2 * turn + 1: turn for turn in range(3)}
    nodes = graph.nodes
    found = {(column[int(nodes.position[i])], int(nodes.feature[i])): int(i) for i in nodes.where("feature")}
    assert {key: pytest.approx(float(nodes.activation[node]), rel=1e-5) for key, node in found.items()} == wanted
    rows = {int(node): i for i, node in enumerate(graph.rows)}
    assert all(graph.pre[rows[node]] == pytest.approx(wanted[key], rel=1e-4, abs=1e-5) for key, node in found.items() if node in rows)

    head, final = model.hf.get_output_embeddings(), Site("final_norm")
    ids = [model.tokenizer.encode(text)[0] for text in (" the", " of")]
    direct = dict(zip(*(each.tolist() for each in graph.edges.row(len(graph.rows) - 1)), strict=True))
    still = frozen.run(read=[final, sae.reads])
    for (turn, feature), node in list(found.items())[::5]:
        delta = torch.zeros_like(read)
        delta[list(spans[turn])] = sae.direction(feature) * wanted[turn, feature]
        moved = frozen.run(read=[final], bump={Site("resid_pre", 2): delta}).values[final] - still.values[final]
        assert direct.get(node, 0.0) == pytest.approx(float(moved[-1] @ (head.weight[ids[0]] - head.weight[ids[1]])), rel=1e-3, abs=1e-5)  # type: ignore[union-attr]  # it has a head
    (turn, feature), node = next((key, node) for key, node in found.items() if key[0] == 2 and node in rows)
    into = dict(zip(*(each.tolist() for each in graph.edges.row(rows[node])), strict=True))
    delta = torch.zeros_like(read)
    delta[list(spans[0])] = frozen.clean[Site("resid_pre", 0)][list(spans[0])]
    moved = (frozen.run(read=[sae.reads], bump={Site("resid_pre", 0): delta}).values[sae.reads] - still.values[sae.reads])[list(spans[turn])].mean(0)
    assert into[graph.node("embedding", position=1)] == pytest.approx(float(moved @ sae.encoder_direction(feature)), rel=1e-3, abs=1e-5)

    few = trace(model, sae, rendered.tokens, target=target, turns=rendered.turns, config=TraceConfig(max_rows=1))
    assert len(few.rows) == 2, "all tokens of one feature in one turn, and the target"
    assert not few.dropped.any()
    with pytest.raises(ShapeMismatch, match="through this SAE"):
        trace(model, sae, rendered.tokens)


def test_what_has_no_turns_is_refused():
    model, rendered, sae = setting()
    graph, turns, columns = traced()
    for wrong in (columns[1:], (*columns, columns[0]), [TokenColumn(label="all", start=0, stop=999)]):
        with pytest.raises(GraphInvalid, match="no columns"):
            by_columns(graph, wrong)
    dictionaries = transcoders(model, skip=True)
    group = [Intervention.on("L0.f1@1", times_current(0.0), operation="multiply")]
    with pytest.raises(GraphInvalid, match="columns"):
        by_columns(turns, columns)
    with pytest.raises(GraphInvalid, match="columns of this graph are turns"):
        trial(model, dictionaries, graph=turns)
    with pytest.raises(GraphInvalid, match="columns of this graph are turns"):
        missing_edges(model, turns)
    with pytest.raises(GraphInvalid, match="columns of this graph are turns"):
        outcome(model, dictionaries, graph=turns, group=group)
    tokenwise = SAE(site=sae.reads, nonlinearity=ReLU(), weights=sae.weights(), input_scale=1.0)
    for dictionary, stop in ((tokenwise, 3), (sae, 999), (sae, 1)):
        with pytest.raises(TargetInvalid, match=r"of a turn|position"):
            trace(model, dictionaries, rendered.tokens, target=TurnFeature(dictionary=dictionary, feature=0, start=1, stop=stop))
