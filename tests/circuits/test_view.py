"""What pages and the terminal show of a graph: the pruned nodes and edges by name, as JSON that reads back."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from microtome.circuits import Graph
from microtome.circuits.graph import BIAS, FEATURE, KINDS
from microtome.circuits.names import find_node, node_name
from microtome.circuits.prune import prune
from microtome.circuits.scores import scores
from microtome.circuits.view import GraphView, view
from microtome.errors import ConfigError, GraphInvalid, NodeNotFound
from tests.circuits.made import random_graph


@pytest.fixture(scope="module")
def graph() -> Graph:
    return random_graph(1, biases=True, unexpanded=3)


def test_it_holds_what_pruning_leaves(graph: Graph) -> None:
    shown, pruned = view(graph), prune(graph)
    kept = np.flatnonzero(pruned.nodes)
    assert [find_node(graph, node.id) for node in shown.nodes] == kept.tolist()
    assert [node.kind for node in shown.nodes] == [KINDS[i] for i in graph.nodes.kind[kept]]
    ends = {(find_node(graph, shown.nodes[s].id), find_node(graph, shown.nodes[t].id)): weight for s, t, weight in shown.edges}
    pairs = list(zip(graph.edges.source[pruned.edges], graph.rows[pruned.edge_rows], strict=True))
    assert ends == pytest.approx(dict(zip([(int(s), int(t)) for s, t in pairs], graph.edges.weight[pruned.edges], strict=True)))
    assert shown.hidden.nodes == len(graph.nodes) - len(kept)
    assert shown.hidden.edges == len(graph.edges.source) - len(shown.edges)
    assert shown.scores.replacement == scores(graph).replacement
    assert shown.scores.balance == graph.balance() < 1e-5


def test_at_one_only_that_is_hidden_which_has_no_influence_or_nothing_that_feeds_it(graph: Graph) -> None:
    shown, found = view(graph, node_threshold=1, edge_threshold=1), prune(graph, node_threshold=1, edge_threshold=1)
    inputs = {int(node): len(graph.edges.row(row)[0]) for row, node in enumerate(graph.rows)}
    away = [int(i) for i in np.flatnonzero(~found.nodes & (graph.nodes.kind != BIAS))]
    assert all(found.influence[i] == 0 or inputs.get(i) == 0 for i in away)
    counted = graph.nodes.kind != BIAS
    assert shown.hidden.influence == pytest.approx(found.influence[away].sum() / found.influence[counted].sum())
    assert not all(node.expanded for node in shown.nodes)


def test_labels_stand_at_their_features_and_tokens_at_their_embeddings(graph: Graph) -> None:
    first = int(np.flatnonzero(prune(graph).nodes & (graph.nodes.kind == FEATURE))[0])
    key = (int(graph.nodes.layer[first]), int(graph.nodes.feature[first]))
    shown = {node.id: node for node in view(graph, labels={key: "capital cities"}).nodes}
    assert shown[node_name(graph, first)].label == "capital cities"
    assert shown["E@1"].label == " capital"
    assert shown['logit." word0"@2'].probability == pytest.approx(0.7)
    assert shown['logit." word0"@2'].influence == 0
    assert shown['logit." word0"@2'].label == " word0"


def test_names_are_unique_and_found_again(graph: Graph) -> None:
    names = [node_name(graph, i) for i in range(len(graph.nodes))]
    assert len(set(names)) == len(names)
    assert {"L0.f0@0", "L1.error@2", "L2.bias.attention", "E@0"} <= {name.replace(names[0], "L0.f0@0") for name in names}
    assert [find_node(graph, name) for name in names[::7]] == list(range(0, len(names), 7))


def test_targets_of_one_name_are_told_apart(graph: Graph) -> None:
    same = replace(graph, target_labels=('logit."Paris"@2', 'logit."Paris"@2'))
    assert [node_name(same, int(i)) for i in same.nodes.where("target")] == ['logit."Paris"@2#0', 'logit."Paris"@2#1']


def test_a_name_that_is_not_there_gets_the_nearest(graph: Graph) -> None:
    with pytest.raises(NodeNotFound) as caught:
        find_node(graph, "L2.error@9")
    assert "L2.error@" in caught.value.do


def test_it_is_json_and_reads_back(graph: Graph) -> None:
    shown = view(graph, slug="one", tested={"correlation": 0.5})
    spelt = json.loads(json.dumps(shown.to_json(), allow_nan=False))
    assert GraphView.from_json(spelt) == shown
    assert set(spelt) == {
        "slug",
        "prompt",
        "tokens",
        "model",
        "dictionaries",
        "thresholds",
        "scores",
        "hidden",
        "nodes",
        "edges",
        "tested",
        "columns",
    }


@pytest.mark.parametrize("edge", [[0, 10_000, 1.0], [0, 1], [0, 1, float("nan")], "0-1", [-1, 0, 1.0]])
def test_an_edge_that_leads_nowhere_is_refused(graph: Graph, edge: object) -> None:
    with pytest.raises(GraphInvalid, match=r"edges\[0\] is no edge"):
        GraphView.from_json({**view(graph).to_json(), "edges": [edge]})


def test_an_unknown_field_is_refused(graph: Graph) -> None:
    with pytest.raises(ConfigError, match="promt"):
        GraphView.from_json({**view(graph).to_json(), "promt": "x"})


def test_a_slug_is_of_the_prompt_and_differs_with_the_targets(graph: Graph) -> None:
    one, other = view(graph).slug, view(replace(graph, target_labels=("a", "b"))).slug
    assert one.startswith("the-capital-is-")
    assert one != other


def test_a_notebook_shows_it_with_every_text_escaped(graph: Graph) -> None:
    hostile = replace(graph, prompt="<script>alert(1)</script>", pieces=("<b>", "&", '"'))
    html = view(hostile)._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert html.count("<circle") == len(view(hostile).nodes)
    assert "replacement" in html


def problems(value: Any, schema: Mapping[str, Any], where: str = "view") -> list[str]:
    """What of a value does not fit a JSON schema, for the keywords that ours uses."""
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}
    known = {"type", "enum", "required", "properties", "additionalProperties", "items", "prefixItems", "minItems", "maxItems"}
    known |= {"minimum", "maximum", "exclusiveMinimum", "description", "title", "$schema"}
    found = [f"{where}: unknown keyword {key}" for key in schema if key not in known]
    wanted = schema.get("type", list(kinds))
    names = [wanted] if isinstance(wanted, str) else wanted
    if not any(isinstance(value, kinds[name]) and (not isinstance(value, bool) or name == "boolean") for name in names):
        return [*found, f"{where} is no {names}"]
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where} is not one of {schema['enum']}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high, above = (schema.get(name) for name in ("minimum", "maximum", "exclusiveMinimum"))
        if (low is not None and value < low) or (high is not None and value > high) or (above is not None and value <= above):
            found.append(f"{where} = {value} is out of range")
    if isinstance(value, dict):
        found += [f"{where} lacks {name}" for name in schema.get("required", ()) if name not in value]
        if schema.get("additionalProperties") is False:
            found += [f"{where} has {name}" for name in value if name not in schema["properties"]]
        for name, inner in schema.get("properties", {}).items():
            found += problems(value[name], inner, f"{where}.{name}") if name in value else []
    if isinstance(value, list):
        found += [f"{where} has a length of {len(value)}"] if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**9) else []
        inners = schema.get("prefixItems") or [schema.get("items", {})] * len(value)
        found += [each for i, (item, inner) in enumerate(zip(value, inners, strict=False)) for each in problems(item, inner, f"{where}[{i}]")]
    return found


def test_it_is_what_the_published_schema_says(graph: Graph) -> None:
    schema = json.loads((Path(__file__).parents[2] / "docs" / "reference" / "graph.schema.json").read_text())
    spelt = view(graph, tested={"correlation": 0.5}).to_json()
    assert problems(spelt, schema) == []
    assert problems({**spelt, "extra": 1}, schema) == ["view has extra"]
    assert problems({**spelt, "edges": [[0, 1]]}, schema) == ["view.edges[0] has a length of 2"]
    assert problems({**spelt, "nodes": [{**spelt["nodes"][0], "influence": 2}]}, schema) == ["view.nodes[0].influence = 2 is out of range"]
    assert problems({**spelt, "slug": 3}, schema) == ["view.slug is no ['string']"]


def test_a_graph_shows_itself_as_its_view(graph: Graph) -> None:
    assert graph._repr_html_() == view(graph)._repr_html_()
