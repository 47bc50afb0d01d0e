"""The JSON twins of the graph page say what the circuits room says, and errors keep their four parts."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

import microtome.web
from microtome.artifacts import Workspace
from microtome.circuits import (
    Graph,
    GraphView,
    NodeView,
    Supernode,
    densities_from,
    find_node,
    group_edges,
    labels_from,
    node_name,
    paths,
    prune,
    subgraph_scores,
    suggest,
    view,
)
from microtome.features import FeatureIndex
from microtome.models import Model
from microtome.web import create_app
from tests.web.answers import ran, said
from tests.web.graphs import CLOSED, GRAPH, HOSTILE, PROMPTS


@pytest.fixture(scope="module")
def client(circuits: Path, model: Model) -> TestClient:
    return TestClient(create_app(circuits, model_loader=lambda ref, progress: model), base_url="http://127.0.0.1")


@pytest.fixture(scope="module")
def graph(circuits: Path) -> Graph:
    return Graph.open(Workspace(circuits).find("graph", GRAPH))


@pytest.fixture(scope="module")
def index(circuits: Path) -> FeatureIndex:
    return FeatureIndex.open(Workspace(circuits).find("index", "layers"), circuits)


def test_the_graphs_are_listed_with_what_their_manifests_say(client: TestClient, graph: Graph) -> None:
    entries = {entry["name"]: entry for entry in client.get("/api/graphs").json()["graphs"]}
    assert set(entries) == set(PROMPTS)
    assert entries[GRAPH]["summary"]["prompt"] == graph.prompt
    assert entries[GRAPH]["summary"]["nodes"] == len(graph.nodes)


@pytest.mark.parametrize(("node", "edge"), [(0.8, 0.98), (0.4, 0.6), (1.0, 1.0)])
def test_the_page_s_json_is_the_view(client: TestClient, graph: Graph, index: FeatureIndex, *, node: float, edge: float) -> None:
    content = client.get(f"/api/graphs/{GRAPH}", params={"node": node, "edge": edge}).json()
    wanted = view(graph, node_threshold=node, edge_threshold=edge, labels=labels_from(index, graph), slug=GRAPH)
    assert {name: content[name] for name in wanted.to_json()} == said(wanted.to_json())
    layer = str(int(graph.nodes.layer[graph.nodes.where("feature")[0]]))
    assert content["cards"][layer]["index"] == "layers"
    assert content["cards"][layer]["first"] == index.feature(f"L{layer}.mlp_in", 0)


@pytest.mark.parametrize("query", ["", "?node=0.5&edge=0.9", "?density=0.2"])
def test_the_python_line_of_a_graph_runs_and_gives_it(client: TestClient, query: str) -> None:
    content = client.get(f"/api/graphs/{GRAPH}{query}").json()
    made = said(ran(content["reproduce"]["python"]).to_json())
    assert made == {name: content[name] for name in made}


def test_dense_features_are_left_out_and_counted_as_hidden(client: TestClient, index: FeatureIndex, graph: Graph) -> None:
    whole = client.get(f"/api/graphs/{GRAPH}?node=1&edge=1").json()
    thin = client.get(f"/api/graphs/{GRAPH}?node=1&edge=1&density=0.2").json()

    def dense(node: dict[str, Any]) -> bool:
        if node["kind"] != "feature":
            return False
        return index.card(index.feature(f"L{node['layer']}.mlp_in", node["feature"])).statistics.density > 0.2

    known = densities_from(index, graph)
    features = graph.nodes.where("feature")
    cards = [index.card(index.feature(f"L{graph.nodes.layer[i]}.mlp_in", int(graph.nodes.feature[i]))) for i in features]
    assert known[features].tolist() == [card.statistics.density for card in cards]
    assert np.isnan(np.delete(known, features)).all()
    gone = [node["id"] for node in whole["nodes"] if dense(node)]
    assert 0 < len(gone) < sum(node["kind"] == "feature" for node in whole["nodes"])
    assert {node["id"] for node in thin["nodes"]} == {node["id"] for node in whole["nodes"]} - set(gone)
    assert thin["hidden"]["nodes"] == whole["hidden"]["nodes"] + len(gone)
    touched = sum(whole["nodes"][s]["id"] in gone or whole["nodes"][t]["id"] in gone for s, t, _ in whole["edges"])
    assert thin["hidden"]["edges"] == whole["hidden"]["edges"] + touched
    assert thin["hidden"]["influence"] > whole["hidden"]["influence"]


def test_a_subgraph_has_the_edges_and_scores_of_its_groups(client: TestClient, graph: Graph) -> None:
    strong = np.argsort(-prune(graph).influence * (graph.nodes.kind == 3))[:4]
    target = node_name(graph, int(graph.nodes.where("target")[0]))
    groups = (
        Supernode(name="two, and more", members=tuple(node_name(graph, int(i)) for i in strong[:2])),
        Supernode(name="one", members=(node_name(graph, int(strong[2])),)),
        Supernode(name="out", members=(target,)),
    )
    content = client.get(f"/api/graphs/{GRAPH}/subgraph", params={"groups": json.dumps(said(groups))}).json()
    kept = np.zeros(len(graph.nodes), dtype=np.bool_)
    kept[strong[:3]] = kept[find_node(graph, target)] = True
    assert content["edges"] == said(group_edges(graph, groups)) != []
    assert content["scores"] == said(subgraph_scores(graph, kept))
    assert said(ran(content["reproduce"]["python"])) == content["edges"]


def test_paths_and_suggestions_are_told_by_names(client: TestClient, graph: Graph) -> None:
    source, target = node_name(graph, int(graph.nodes.where("embedding")[0])), node_name(graph, int(graph.nodes.where("target")[0]))
    content = client.get(f"/api/graphs/{GRAPH}/paths", params={"source": source, "target": target, "count": 3}).json()
    best = paths(graph, target=find_node(graph, target), sources=[find_node(graph, source)], count=3)
    assert [path["strength"] for path in content["paths"]] == [path.strength for path in best]
    assert [path["nodes"] for path in content["paths"]] == [[node_name(graph, i) for i in path.nodes] for path in best]
    assert [path["strength"] for path in said(ran(content["reproduce"]["python"]))] == [path.strength for path in best]

    alike = client.get(f"/api/graphs/{GRAPH}/suggest?node=1&edge=1").json()
    shown = np.flatnonzero(prune(graph, node_threshold=1.0, edge_threshold=1.0).nodes).tolist()
    assert alike["groups"] == [[node_name(graph, i) for i in group] for group in suggest(graph, shown)]
    assert said(ran(alike["reproduce"]["python"])) == alike["groups"]


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("shp", 404, GRAPH),
        (f"{GRAPH}?node=0", 422, "node"),
        (f"{GRAPH}?edge=nan", 422, "edge"),
        (f"{GRAPH}?density=2", 422, "density"),
        (f"{GRAPH}/subgraph?groups=[", 422, "members"),
        (f'{GRAPH}/subgraph?groups=[{{"name":"x","members":[]}}]', 422, "members"),
        (f'{GRAPH}/subgraph?groups=[{{"name":"x","members":["L0.f999@0"]}}]', 404, "L0.f999@0"),
        (f"{GRAPH}/paths?source=E@0&target=nothing", 404, "nothing"),
    ],
)
def test_what_is_not_there_or_cannot_be_read_is_told_in_four_parts(client: TestClient, path: str, *, status: int, told: str) -> None:
    answer = client.get(f"/api/graphs/{path}")
    assert answer.status_code == status, answer.text
    assert set(answer.json()) >= {"error", "what", "got", "wanted", "do"}
    assert told in answer.text


def test_a_damaged_graph_is_listed_with_its_error_and_a_new_one_is_opened_anew(circuits: Path, tmp_path: Path, graph: Graph) -> None:
    place = Workspace(tmp_path)
    graph.save(place.place("graph", "again"))
    (tmp_path / "graphs" / "broken").mkdir(parents=True)
    (tmp_path / "graphs" / "broken" / "manifest.json").write_text("{")
    client = TestClient(create_app(tmp_path), base_url="http://127.0.0.1")
    entries = {entry["name"]: entry for entry in client.get("/api/graphs").json()["graphs"]}
    assert entries["broken"]["error"]["do"]
    assert client.get("/api/graphs/again").json()["cards"] == {}, "there is no index here"
    other = Graph.open(Workspace(circuits).find("graph", HOSTILE))
    other.save(place.place("graph", "again"), replace=True)
    assert client.get("/api/graphs/again").json()["prompt"] == other.prompt


def test_the_types_of_the_page_name_what_the_records_hold() -> None:
    source = (Path(microtome.web.__file__).parent / "static" / "graph" / "view.js").read_text()
    node = re.search(r"@typedef \{\{(.*?)\}\} NodeView", source)
    assert node is not None
    assert set(re.findall(r"readonly (\w+):", node[1])) == {field.name for field in dataclasses.fields(NodeView)}
    whole = source.partition("@typedef {object} GraphView")[2].partition("*/")[0]
    assert set(re.findall(r"@property \{.*\} (\w+)", whole)) == {field.name for field in dataclasses.fields(GraphView)}


def test_a_graph_without_expanded_features_has_a_page(client: TestClient) -> None:
    content = client.get(f"/api/graphs/{CLOSED}?node=1&edge=1").json()
    assert {node["expanded"] for node in content["nodes"] if node["kind"] == "feature"} == {False}
    assert content["scores"]["untraced"] > 0
