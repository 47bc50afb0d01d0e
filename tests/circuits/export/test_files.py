"""Graph files of circuit-tracer and Neuronpedia: there and back with every field, and every way in which one can be wrong."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from microtome.circuits.export import GraphFile, QParams, file_of, parse_graph_file, read_graph_file, read_index, view_from, write_graph_file
from microtome.circuits.view import GraphView, view
from microtome.errors import FormatCannotHold, GraphInvalid, MicrotomeError
from tests.circuits.made import random_graph

PEER: dict[str, Any] = {
    "metadata": {
        "slug": "dallas",
        "scan": "gemma-2-2b",
        "transcoder_list": ["a/b"],
        "prompt_tokens": ["<bos>", "Dallas", " is"],
        "prompt": "Dallas is",
        "node_threshold": 0.8,
        "schema_version": 1,
        "title_prefix": "",
        "feature_details": {"neuronpedia_source_set": "gemmascope-transcoder-16k", "feature_json_base_url": "https://a.example/x"},
        "info": {"description": "d", "creator_name": "c", "generator": {"name": "circuit-tracer", "version": "0.5.1"}, "create_time_ms": 17},
        "generation_settings": {"max_n_logits": 10, "desired_logit_prob": 0.95, "batch_size": 48, "max_feature_nodes": 5000},
        "pruning_settings": {"node_threshold": 0.8, "edge_threshold": 0.85},
    },
    "qParams": {
        "pinnedIds": "0_7_1,27_12_2",
        "supernodes": '[["capital", "0_7_1", "3_-1_2"]]',
        "linkType": "both",
        "clickedId": "0_7_1",
        "sg_pos": "1 2 3 4",
        "pruningThreshold": "0.6",
        "clerps": "[]",
    },
    "nodes": [
        {
            "node_id": "0_7_1",
            "feature": 35,
            "layer": "0",
            "ctx_idx": 1,
            "feature_type": "cross layer transcoder",
            "token_prob": 0,
            "is_target_logit": False,
            "run_idx": 0,
            "reverse_ctx_idx": 0,
            "jsNodeId": "0_7-0",
            "clerp": "capitals",
            "influence": 0.4,
            "activation": 3.5,
            "qk_tracing_results": {"pair_wise_contributors": [["a", "b", 0.5]]},
        },
        {
            "node_id": "3_-1_2",
            "feature": -1,
            "layer": "3",
            "ctx_idx": 2,
            "feature_type": "mlp reconstruction error",
            "jsNodeId": "3_-1-2",
            "clerp": "",
        },
        {"node_id": "E_9_1", "feature": 1, "layer": "E", "ctx_idx": 1, "feature_type": "embedding", "jsNodeId": "E_9-1", "clerp": 'Emb: "Dallas"'},
        {
            "node_id": "27_12_2",
            "feature": 12,
            "layer": "27",
            "ctx_idx": 2,
            "feature_type": "logit",
            "token_prob": 0.451,
            "is_target_logit": True,
            "jsNodeId": "L_12-2",
            "clerp": 'Output " Austin" (p=0.451)',
        },
    ],
    "links": [
        {"source": "0_7_1", "target": "27_12_2", "weight": 1.5},
        {"source": "3_-1_2", "target": "27_12_2", "weight": -0.25},
        {"source": "E_9_1", "target": "0_7_1", "weight": 3},
    ],
    "qk_only_nodes": [{"node_id": "x"}],
}


def changed(**parts: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(PEER)), **parts}


def test_a_target_is_named_once_whatever_it_is_and_however_often_its_file_is_read():
    names = ('logit."6"@2', 'logit." a" − logit." b"@2', "L1.f3@2", 'loss of " x"@2', 'logit."logit"@2')
    graph = random_graph(0)
    for pair in (names[:2], names[2:4], names[3:]):
        shown = view(replace(graph, target_labels=pair))
        assert [node.id for node in shown.nodes if node.kind == "target"] == list(pair)
        again = shown
        for _ in range(2):
            again = view_from(file_of(again, scan="tiny").file)
            told = [(node.id, node.label) for node in again.nodes if node.kind == "target"]
            assert told == [(node.id, node.label) for node in shown.nodes if node.kind == "target"]
    words = changed()
    words["nodes"][3]["clerp"] = 'Output "logit."6"@2" (p=0.451)'
    read = view_from(parse_graph_file(words))
    assert [(node.id, node.label) for node in read.nodes if node.kind == "target"] == [('logit."6"@2', "6")]


def test_a_file_comes_back_with_every_field(tmp_path: Path) -> None:
    file = parse_graph_file(PEER)
    written = write_graph_file(file, tmp_path)
    assert read_graph_file(written) == file
    spelt = json.loads(written.read_text())
    assert spelt["metadata"] == PEER["metadata"]
    assert spelt["qk_only_nodes"] == PEER["qk_only_nodes"]
    assert spelt["links"] == PEER["links"]
    for before, after in zip(PEER["nodes"], spelt["nodes"], strict=True):
        assert {name: after[name] for name in before} == before


def test_what_a_page_saved_as_strings_is_lists() -> None:
    found = parse_graph_file(PEER).q_params
    assert found.pinned_ids == ("0_7_1", "27_12_2")
    assert found.supernodes == (("capital", "0_7_1", "3_-1_2"),)
    assert found.extra == {"pruningThreshold": "0.6", "clerps": "[]"}
    lists = changed(qParams={"pinnedIds": ["0_7_1", "27_12_2"], "supernodes": [["capital", "0_7_1", "3_-1_2"]], "linkType": "both"})
    assert parse_graph_file(lists).q_params.supernodes == found.supernodes


def test_as_a_view_it_has_our_names() -> None:
    shown = view_from(parse_graph_file(PEER))
    assert [node.id for node in shown.nodes] == ["L0.f7@1", "L3.error@2", "E@1", 'logit." Austin"@2']
    assert [node.label for node in shown.nodes] == ["capitals", "", "Dallas", " Austin"]
    assert shown.nodes[3].probability == 0.451
    assert shown.nodes[3].layer == 26
    assert shown.edges == ((0, 3, 1.5), (1, 3, -0.25), (2, 0, 3.0))
    assert shown.scores.replacement is None
    assert "Dallas is" in shown._repr_html_()


@pytest.mark.parametrize("generation", ["0.5.1", "0.5.0"])
@pytest.mark.parametrize("seed", range(2))
def test_our_view_comes_back_from_their_file(tmp_path: Path, seed: int, generation: Any) -> None:
    shown = view(random_graph(seed, per_layer=3 if generation == "0.5.0" else 6, layers=4), slug=f"ours-{seed}", edge_threshold=0.9)
    exported = file_of(_without_collisions(shown), scan="demo", generation=generation)
    assert exported.left_out == {}
    back = view_from(read_graph_file(write_graph_file(exported.file, tmp_path)))
    kept = _without_collisions(shown)
    for ours, theirs in zip(kept.nodes, back.nodes, strict=True):
        same = ours if ours.kind == "feature" else replace(ours, activation=None)
        assert replace(theirs, probability=None) == replace(same, probability=None)
        assert (theirs.probability or 0) == pytest.approx(ours.probability or 0)
    assert back.edges == kept.edges
    assert (back.tokens, back.prompt, back.thresholds) == (kept.tokens, kept.prompt, kept.thresholds)


def _without_collisions(shown: GraphView) -> GraphView:
    """Features of layer 0 have other numbers than the errors have layers."""
    nodes = tuple(
        replace(node, feature=node.feature + 50, id=f"L0.f{node.feature + 50}@{node.position}") if node.id.startswith("L0.f") else node
        for node in shown.nodes
    )
    return replace(shown, nodes=nodes)


def test_ids_and_numbers_are_those_of_the_peer() -> None:
    shown = view(random_graph(1), node_threshold=1, edge_threshold=1)
    nodes = {node.node_id: node for node in file_of(shown, scan="demo").file.nodes}
    ours = {node.id: node for node in shown.nodes}
    feature = next(node for node in ours.values() if node.kind == "feature" and node.layer == 2)
    written = nodes[f"2_{feature.feature}_{feature.position}"]
    assert written.feature == (2 + feature.feature) * (3 + feature.feature) // 2 + feature.feature
    assert (written.feature_type, written.js_node_id) == ("cross layer transcoder", f"2_{feature.feature}-0")
    error = next(node for node in ours.values() if node.kind == "error" and node.layer > 0)
    new = nodes[f"{error.layer}_-1_{error.position}"]
    assert (new.feature, new.js_node_id) == (-1, f"{error.layer}_-1-{error.position}")
    older = {node.node_id: node for node in file_of(_without_collisions(shown), scan="demo", generation="0.5.0").file.nodes}
    assert older[f"0_{error.layer}_{error.position}"].js_node_id == f"{error.layer}_{error.position}-0"
    logit = next(node for node in nodes.values() if node.is_target_logit)
    assert (logit.node_id, logit.clerp, logit.layer) == ("5_40_2", 'Output " word0" (p=0.700)', "5")
    assert (nodes["E_101_1"].layer, nodes["E_101_1"].feature) == ("E", 1)


def test_biases_are_left_out_and_counted() -> None:
    shown = view(random_graph(4, biases=True), node_threshold=1, edge_threshold=1)
    exported = file_of(shown, scan="demo")
    biases = [i for i, node in enumerate(shown.nodes) if node.kind == "bias"]
    assert exported.left_out == {"bias nodes": len(biases), "bias edges": sum(edge[0] in biases for edge in shown.edges)}


def test_the_old_ids_are_refused_where_they_collide() -> None:
    shown = view(random_graph(1), node_threshold=1, edge_threshold=1)
    with pytest.raises(FormatCannotHold, match="one id"):
        file_of(shown, scan="demo", generation="0.5.0")


def collided(target_layer: str, *, links: int) -> GraphFile:
    """Feature 3 of layer 0 and the error of layer 3, both `0_3_1`, and a node that `0_3_1` feeds."""
    nodes = [
        {"node_id": "0_3_1", "feature": 9, "layer": "0", "ctx_idx": 1, "feature_type": "cross layer transcoder", "jsNodeId": "0_3-0", "clerp": ""},
        {"node_id": "0_3_1", "feature": -1, "layer": "3", "ctx_idx": 1, "feature_type": "mlp reconstruction error", "jsNodeId": "3_1-0", "clerp": ""},
        {
            "node_id": f"{target_layer}_5_2",
            "feature": 5,
            "layer": target_layer,
            "ctx_idx": 2,
            "feature_type": "cross layer transcoder",
            "jsNodeId": f"{target_layer}_5-0",
            "clerp": "",
        },
    ]
    given = [{"source": "0_3_1", "target": f"{target_layer}_5_2", "weight": float(i + 1)} for i in range(links)]
    return parse_graph_file(changed(nodes=nodes, links=given))


def test_logits_that_look_the_same_are_told_apart() -> None:
    logit = PEER["nodes"][3]
    parts = [{**logit, "node_id": f"27_{i}_2", "feature": i, "clerp": 'Output "�" (p=0.1)'} for i in (3, 4)]
    shown = view_from(parse_graph_file(changed(nodes=[*PEER["nodes"], *parts])))
    assert [node.id for node in shown.nodes[3:]] == ['logit." Austin"@2', 'logit."�"@2#0', 'logit."�"@2#1']


def test_a_collision_of_old_ids_is_resolved_where_it_can_be() -> None:
    early, both, unsure = collided("2", links=1), collided("5", links=2), collided("5", links=1)
    assert (early.links, early.ambiguous_links) == (((0, 2, 1.0),), 0)
    assert (both.links, both.ambiguous_links) == (((0, 2, 1.0), (1, 2, 2.0)), 0)
    assert (unsure.links, unsure.ambiguous_links) == (((0, 2, 1.0),), 1)


def _node(**fields: Any) -> list[dict[str, Any]]:
    first = {**PEER["nodes"][0], **fields}
    return [{name: value for name, value in first.items() if value != "GONE"}, *PEER["nodes"][1:]]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"nodes": "x"}, "nodes is no list"),
        ({"nodes": [1]}, r"nodes\[0\] is no object"),
        ({"nodes": _node(node_id="GONE")}, 'nodes\\[0\\] lacks the field "node_id"'),
        ({"nodes": _node(ctx_idx=1.5)}, r"nodes\[0\].ctx_idx is no whole number"),
        ({"nodes": _node(activation="big")}, r"nodes\[0\].activation is no finite number"),
        ({"nodes": _node(influence=10**400)}, r"nodes\[0\].influence is no finite number"),
        ({"nodes": _node(layer="three")}, "has no layer"),
        ({"nodes": [*PEER["nodes"], PEER["nodes"][2]]}, '2 nodes have the id "E_9_1"'),
        ({"links": [{"source": "nowhere", "target": "0_7_1", "weight": 1}]}, r"links\[0\].source names a node that is not there"),
        ({"links": [{"source": "0_7_1", "target": "27_12_2"}]}, r"links\[0\].weight is no finite number"),
        ({"links": {}}, "links is no list"),
        ({"metadata": {"slug": "x"}}, "metadata.prompt is no text"),
        ({"metadata": {"slug": "x", "prompt": "y"}}, "metadata.prompt_tokens is no list"),
        ({"qParams": {"supernodes": "[["}}, "qParams.supernodes is not JSON"),
        ({"qParams": {"pinnedIds": [1]}}, r"qParams.pinnedIds\[0\] is no text"),
    ],
)
def test_a_malformed_file_is_named_at_its_place(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphInvalid, match=message) as caught:
        parse_graph_file(changed(**parts))
    assert caught.value.got is not None
    assert caught.value.wanted is not None
    assert caught.value.do


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (_node(feature_type="novel"), "unknown kind"),
        (_node(ctx_idx=99), "at a token that is not there"),
        (_node(node_id="0_seven_1"), "does not say what it is"),
    ],
)
def test_what_means_nothing_here_is_refused_as_a_view(nodes: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(GraphInvalid, match=message):
        view_from(parse_graph_file(changed(nodes=nodes, links=[])))


@pytest.mark.parametrize("text", ["", "[1", '{"metadata": {"slug": NaN}}', "[" * 100_000, "null"])
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "graph.json"
    path.write_text(text)
    with pytest.raises(GraphInvalid):
        read_graph_file(path)


def test_the_index_lists_each_slug_once(tmp_path: Path) -> None:
    file = parse_graph_file(PEER)
    other = replace(file, metadata={**file.metadata, "slug": "other"})
    again = replace(file, metadata={**file.metadata, "prompt": "Dallas, again"})
    for each in (file, other, again):
        write_graph_file(each, tmp_path)
    assert [each["slug"] for each in read_index(tmp_path)] == ["other", "dallas"]
    assert read_index(tmp_path)[1]["prompt"] == "Dallas, again"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dallas.json", "graph-metadata.json", "other.json"]


@pytest.mark.parametrize("slug", ["../up", "a/b", ".hidden", "", "graph-metadata", "x" * 300])
def test_a_slug_that_is_no_file_name_writes_nothing(tmp_path: Path, slug: str) -> None:
    file = parse_graph_file(PEER)
    with pytest.raises(GraphInvalid, match="cannot name a file"):
        write_graph_file(replace(file, metadata={**file.metadata, "slug": slug}), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["[]", '{"graphs": [{}]}', "{", '{"graphs": 3}'])
def test_beside_a_damaged_index_nothing_is_written(tmp_path: Path, text: str) -> None:
    (tmp_path / "graph-metadata.json").write_text(text)
    with pytest.raises(GraphInvalid):
        write_graph_file(parse_graph_file(PEER), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["graph-metadata.json"]
    assert (tmp_path / "graph-metadata.json").read_text() == text


def test_a_file_that_json_cannot_spell_leaves_what_was_there(tmp_path: Path) -> None:
    file = parse_graph_file(PEER)
    written = write_graph_file(file, tmp_path).read_text()
    with pytest.raises(ValueError, match="JSON"):
        write_graph_file(replace(file, extra={"x": float("nan")}), tmp_path)
    assert (tmp_path / "dallas.json").read_text() == written


def test_every_error_of_the_room_has_four_parts() -> None:
    with pytest.raises(MicrotomeError) as caught:
        parse_graph_file([])
    assert all(caught.value.to_json().values())
    assert QParams().to_json()["linkType"] == "both"
