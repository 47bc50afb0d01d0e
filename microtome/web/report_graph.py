"""The report's section on the graph of one prompt: what it explains, and what happened when its nodes were changed in the model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np

from microtome.artifacts import Workspace
from microtome.circuits import STREAM_ERROR, Graph, Scores, node_name, scores, tried
from microtome.web.charts import Series, curves
from microtome.web.markup import Markup, join, tag

_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class TriedGraph:
    """A graph and its trial, as the report shows them."""

    name: str
    graph: Graph
    scores: Scores
    trial: Mapping[str, Any]


def tried_graph(workspace: Workspace, name: str, *, dictionary: str) -> TriedGraph | None:
    """The graph of that name with its trial, where both are there and the graph is of the dictionary with this id."""
    if name not in workspace.names("graph"):
        return None
    graph, trial = Graph.open(workspace.place("graph", name)), tried(workspace, name).trial
    if trial is None or dictionary not in graph.dictionaries:
        return None
    return TriedGraph(name=name, graph=graph, scores=scores(graph), trial=trial)


def graph_section(shown: TriedGraph) -> Markup:
    """The section."""
    graph, trial = shown.graph, shown.trial
    nodes: Sequence[Mapping[str, Any]] = trial["nodes"]
    through = bool((graph.nodes.feature[graph.nodes.where("error")] == STREAM_ERROR).any())
    made = "all MLPs are errors, and what passes the layer that the dictionary reads is its features, its error and its bias"
    made = made if through else "features take the place of MLPs"
    page = f"/g/{quote(shown.name)}"
    link = tag("a", "graph page", href=f"http://localhost:8765{page}")
    return join(
        tag("h2", "Why did it say that?"),
        tag(
            "p",
            f"“{graph.prompt}” → {trial['target']}, probability {float(graph.target_weight[0]):.0%}. In this graph {made}."
            f" {graph.n_features:,} features are active, {len(graph.rows) - graph.n_targets:,} were traced back, and every row adds up within"
            f" {graph.balance() or 0:.0e}. Of the influence {shown.scores.error_share:.0%} comes from errors, which the dictionary does not explain.",
        ),
        tag("p", _verdict(trial)),
        tag("div", _picture(nodes), _table(graph, nodes), class_="pair"),
        tag("p", "With microtome serve running, the ", link, f" shows it whole (graph “{shown.name}”).", class_="soft"),
    )


def _verdict(trial: Mapping[str, Any]) -> str:
    """Predicted against measured, in a sentence each for strong and random nodes."""
    said: list[str] = []
    for group, which in (("strong", "strongest features"), ("random", "random active ones")):
        found = next((each for each in trial["results"] if each["name"] == f"ablated, {group}"), None)
        if found is None:
            said.append(f"for {which} no correlation exists")
            continue
        beyond = "beyond" if found["value"] > found["baselines"]["shuffled, high"] else "within"
        interval = f" [{found['low']:.2f}, {found['high']:.2f}]" if found["low"] is not None else ""
        said.append(f"of {found['n']} {which} {found['value']:.2f}{interval}, {beyond} what shuffled predictions reach")
    return f"Predicted against measured: features were set to 0 in the model, one at a time. Rank correlation {'; '.join(said)}."


def _picture(nodes: Sequence[Mapping[str, Any]]) -> Markup:
    series: list[Series] = []
    for group in ("strong", "random"):
        here = sorted((-node["total"], node["ablated"]) for node in nodes if node["group"] == group)
        kind = "edit" if group == "strong" else "control-wrong_concept"
        series.append(Series(name=group, x=[x for x, _ in here], y=[y for _, y in here], kind=kind, joined=False))
    picture = curves(series, x_label="predicted change of the logit", y_label="measured", dots=True)
    return tag("figure", picture, tag("figcaption", "Each point is a feature that was set to 0."))


def _table(graph: Graph, nodes: Sequence[Mapping[str, Any]]) -> Markup:
    """The largest predicted changes."""
    position = {node_name(graph, int(node)): int(graph.nodes.position[node]) for node in graph.nodes.where("feature")}
    best = sorted(nodes, key=lambda node: -abs(node["total"]))[:_SHOWN]
    rows = [
        tag(
            "tr",
            tag("td", node["node"]),
            tag("td", graph.pieces[position[node["node"]]].strip()),
            *(tag("td", f"{value:+.3f}", class_="num") for value in (-node["total"], node["ablated"])),
        )
        for node in best
    ]
    heads = (tag("th", "feature"), tag("th", "on"), tag("th", "predicted", class_="num"), tag("th", "measured", class_="num"))
    agree = int(np.sum([np.sign(-node["total"]) == np.sign(node["ablated"]) for node in best]))
    caption = tag("caption", f"Set to 0: the largest predicted changes. {agree} of {len(best)} have the predicted sign.")
    return tag("table", caption, tag("thead", tag("tr", *heads)), tag("tbody", *rows))
