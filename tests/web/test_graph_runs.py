"""What the graph page does with the model: its answers are those of the circuits room, its lines run, and the model stays as it was."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from microtome.artifacts import Workspace
from microtome.circuits import (
    Graph,
    Patching,
    SwapConfig,
    TrialConfig,
    Tried,
    contrast,
    find_node,
    interventions,
    labels_from,
    missing_edges,
    node_name,
    outcome,
    trial,
    tried,
)
from microtome.dictionaries import DictionarySet, load_any
from microtome.features import FeatureIndex
from microtome.models import Model
from microtome.steering import Sampling, raw, times_current
from microtome.web import create_app
from tests.web.answers import WRITE, ran, said
from tests.web.graphs import GRAPH, HOSTILE


@pytest.fixture(scope="module")
def place(circuits: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace of its own: what is tried here is kept in it."""
    return Workspace(shutil.copytree(circuits, tmp_path_factory.mktemp("tried") / "workspace"))


@pytest.fixture(scope="module")
def client(place: Workspace, model: Model) -> TestClient:
    return TestClient(create_app(place.path, model_loader=lambda ref, progress: model), base_url="http://127.0.0.1")


@pytest.fixture(scope="module")
def graph(place: Workspace) -> Graph:
    return Graph.open(place.find("graph", GRAPH))


@pytest.fixture(scope="module")
def dictionaries(place: Workspace, graph: Graph) -> DictionarySet:
    found = load_any(place.by_id("dictionary", graph.dictionaries[0]))
    assert isinstance(found, DictionarySet)
    return found


def some_features(graph: Graph) -> list[str]:
    """The most active feature of each layer."""
    nodes = graph.nodes
    best = [max(np.flatnonzero((nodes.kind == 3) & (nodes.layer == layer)), key=lambda i: nodes.activation[i]) for layer in range(2)]
    return [node_name(graph, int(i)) for i in best]


def test_an_intervention_is_the_outcome_and_leaves_the_model_as_it_was(
    client: TestClient, model: Model, *, graph: Graph, dictionaries: DictionarySet
) -> None:
    tokens, nodes = torch.tensor([graph.tokens]), some_features(graph)
    before = model.logits(tokens)
    target = node_name(graph, int(graph.nodes.where("target")[1]))
    asked = {"nodes": nodes, "operation": "multiply", "value": -4.0, "target": target, "attention": "live", "new_tokens": 5, "seed": 3}
    made = client.post(f"/api/graphs/{GRAPH}/intervene", json=asked, headers=WRITE).json()
    group = interventions(nodes, times_current(-4.0), operation="multiply")
    sampling = Sampling(max_new_tokens=5, seed=3)
    wanted = outcome(
        model, dictionaries, graph=graph, group=group, target=find_node(graph, target), patching=Patching(attention="live"), sampling=sampling
    )
    lines = made.pop("reproduce")["python"]
    assert made == said(wanted.to_json()) == said(ran(lines).to_json())
    assert made["predicted"] != 0 != made["measured"]
    added = client.post(
        f"/api/graphs/{GRAPH}/intervene", json={"nodes": nodes, "operation": "set", "value": 1.5, "end_layer": 2}, headers=WRITE
    ).json()
    alone = outcome(model, dictionaries, graph=graph, group=interventions(nodes, raw(1.5), operation="set"), patching=Patching(end_layer=2))
    assert added["measured"] == said(alone.to_json())["measured"]
    assert added["edited"] is None
    assert torch.equal(model.logits(tokens), before)


@pytest.mark.parametrize(
    ("asked", "status", "told"),
    [
        ({"nodes": []}, 422, "nodes"),
        ({"nodes": ["E@0"]}, 400, "E@0"),
        ({"nodes": ["L0.f999@0"]}, 404, "0 nodes"),
        ({"nodes": ["L0.f1@0"], "operation": "shout"}, 422, "operation"),
        ({"nodes": ["L0.f1@0"], "target": "nothing"}, 404, "nothing"),
        ({"nodes": ["L0.f1@0"], "value": 1e9}, 422, "value"),
        ({"nodes": ["L0.f1@0"], "new_tokens": 10_000}, 422, "new_tokens"),
    ],
)
def test_an_intervention_that_cannot_be_is_told_in_four_parts(client: TestClient, asked: dict[str, object], *, status: int, told: str) -> None:
    answer = client.post(f"/api/graphs/{GRAPH}/intervene", json=asked, headers=WRITE)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) >= {"error", "what", "got", "wanted", "do"}
    assert told in answer.text


def test_trials_and_swaps_are_run_on_demand_kept_and_shown(
    client: TestClient, place: Workspace, *, model: Model, graph: Graph, dictionaries: DictionarySet
) -> None:
    path = f"/api/graphs/{GRAPH}"
    assert client.get(path).json()["tested"] is None
    nothing = client.get(f"{path}/tested").json()
    assert (nothing["trial"], nothing["missing"]) == (None, None)
    assert client.post(f"{path}/trial", json={"strong": 4, "random": 3}).status_code == 403, "a write needs the header"

    made = client.post(f"{path}/trial", json={"strong": 4, "random": 3, "seed": 2}, headers=WRITE).json()
    wanted = trial(model, dictionaries, graph=graph, config=TrialConfig(strong=4, random=3, seed=2))
    assert made["trial"] == said(wanted.to_json())
    assert client.get(path).json()["tested"] == made["trial"]
    swapped = client.post(f"{path}/missing", json={"swaps": 2, "ends": True}, headers=WRITE).json()
    assert swapped["missing"] == said(missing_edges(model, graph, config=SwapConfig(swaps=2, ends=True)).to_json())
    both = client.get(f"{path}/tested").json()
    assert {name: both[name] for name in ("trial", "missing")} == {"trial": made["trial"], "missing": swapped["missing"]}
    for lines in (both, made, swapped):
        assert said(ran(lines["reproduce"]["python"])) == {"trial": made["trial"], "missing": swapped["missing"]}
    assert tried(place, HOSTILE) == Tried()
    shown = client.get(path).json()
    assert said(ran(shown["reproduce"]["python"]).to_json())["tested"] == made["trial"]


def test_a_graph_whose_dictionaries_are_gone_says_so(model: Model, graph: Graph, *, tmp_path: Path) -> None:
    alone = Workspace(tmp_path)
    graph.save(alone.place("graph", GRAPH))
    client = TestClient(create_app(tmp_path, model_loader=lambda ref, progress: model), base_url="http://127.0.0.1")
    answer = client.post(f"/api/graphs/{GRAPH}/trial", json={}, headers=WRITE)
    assert answer.status_code == 404
    assert graph.dictionaries[0] in answer.text


def test_a_contrast_is_the_two_graphs_subtracted(client: TestClient, place: Workspace, graph: Graph) -> None:
    other = Graph.open(place.find("graph", HOSTILE))
    index = FeatureIndex.open(place.find("index", "layers"), place)
    content = client.get(f"/api/graphs/{GRAPH}/contrast/{HOSTILE}?node=0.6&edge=0.9").json()
    wanted = contrast(graph, other, node_threshold=0.6, edge_threshold=0.9, labels={**labels_from(index, graph), **labels_from(index, other)})
    assert content["nodes"] == said(wanted.nodes)
    assert content["columns"] == said(wanted.columns)
    assert [(edge["source"], edge["target"], edge["weight"]) for edge in content["edges"]] == [
        (e.source, e.target, list(e.weight)) for e in wanted.edges
    ]
    assert [edge["difference"] for edge in content["edges"]] == [edge.difference for edge in wanted.edges]
    assert said(ran(content["reproduce"]["python"])) == said(wanted)
    assert client.get(f"/api/graphs/{GRAPH}/contrast/nothing").status_code == 404
