"""The lines under the graph page that give the same from Python and from the shell."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from microtome.circuits import Supernode, SwapConfig, TrialConfig
from microtome.features import FeatureIndex

_ROOM = "microtome.circuits"


def graph_lines(workspace: Path, name: str, index: FeatureIndex | None, *, node: float, edge: float, density: float, shell: str) -> dict[str, str]:
    """The lines of a graph at thresholds, with the labels of an index where there is one, and what was tried on it."""
    given = [f"node_threshold={node!r}", f"edge_threshold={edge!r}"]
    labels = [] if index is None else ["labels=labels_from(index, graph)"]
    labels += [f"slug={name!r}", f"tested=tried(workspace, {name!r}).trial"]
    if density >= 1 or index is None:
        names = ["Graph", *(["labels_from"] if index is not None else []), "tried", "view"]
        body = [f"view(graph, {', '.join([*given, *labels])})"]
    else:
        names = ["Graph", "Thresholds", "densities_from", "labels_from", "prune", "tried", "view_of", "without"]
        body = [
            f"pruned = prune(graph, {', '.join(given)})",
            f"pruned = without(graph, pruned, left_out=densities_from(index, graph) > {density!r})",
            f"view_of(graph, pruned, thresholds=Thresholds(node={node!r}, edge={edge!r}), {', '.join(labels)})",
        ]
    return {"python": "\n".join([*_opened(workspace, name, names=names, index=index), *body]), "shell": shell}


def suggest_lines(workspace: Path, name: str, *, node: float, edge: float, shell: str) -> dict[str, str]:
    body = [
        f"shown = prune(graph, node_threshold={node!r}, edge_threshold={edge!r}).nodes.nonzero()[0].tolist()",
        "[[node_name(graph, node) for node in group] for group in suggest(graph, shown)]",
    ]
    return {"python": "\n".join([*_opened(workspace, name, names=["Graph", "node_name", "prune", "suggest"]), *body]), "shell": shell}


def subgraph_lines(workspace: Path, name: str, groups: Sequence[Supernode], *, shell: str) -> dict[str, str]:
    made = ", ".join(f"Supernode(name={group.name!r}, members={group.members!r})" for group in groups)
    body = [f"group_edges(graph, [{made}])"]
    return {"python": "\n".join([*_opened(workspace, name, names=["Graph", "Supernode", "group_edges"]), *body]), "shell": shell}


def paths_lines(workspace: Path, name: str, *, source: str, target: str, count: int, shell: str) -> dict[str, str]:
    body = [f"paths(graph, target=find_node(graph, {target!r}), sources=[find_node(graph, {source!r})], count={count})"]
    return {"python": "\n".join([*_opened(workspace, name, names=["Graph", "find_node", "paths"]), *body]), "shell": shell}


def contrast_lines(workspace: Path, names: tuple[str, str], index: FeatureIndex | None, *, node: float, edge: float, shell: str) -> dict[str, str]:
    given = [f"node_threshold={node!r}", f"edge_threshold={edge!r}"]
    given += [] if index is None else ["labels={**labels_from(index, graph), **labels_from(index, other)}"]
    known = ["Graph", "contrast", *(["labels_from"] if index is not None else [])]
    body = [f'other = Graph.open(workspace.find("graph", {names[1]!r}))', f"contrast(graph, other, {', '.join(given)})"]
    return {"python": "\n".join([*_opened(workspace, names[0], names=known, index=index), *body]), "shell": shell}


def outcome_lines(workspace: Path, name: str, asked: Mapping[str, Any], *, shell: str) -> dict[str, str]:
    """An intervention; `asked` is the body of the request."""
    unit = "times_current" if asked["operation"] == "multiply" else "raw"
    nodes = f"{asked['nodes']!r}, {unit}({asked['value']!r}), operation={asked['operation']!r}"
    given = [f"group=interventions({nodes})"]
    given += [f"target=find_node(graph, {asked['target']!r})"] if asked["target"] is not None else []
    given += [f"patching=Patching(attention={asked['attention']!r}, end_layer={asked['end_layer']!r})"]
    sampling = ", ".join(
        f"{key}={asked[kept]!r}" for key, kept in (("max_new_tokens", "new_tokens"), ("temperature", "temperature"), ("seed", "seed"))
    )
    given += [f"sampling=Sampling({sampling})"] if asked["new_tokens"] else []
    names = ["Graph", "Patching", *(["find_node"] if asked["target"] is not None else []), "interventions", "outcome"]
    steering = f"from microtome.steering import {', '.join([*(['Sampling'] if asked['new_tokens'] else []), unit])}"
    body = [f"outcome(model, dictionaries, graph=graph, {', '.join(given)})"]
    return {"python": "\n".join([steering, *_opened(workspace, name, names=names), *_RUNS, *body]), "shell": shell}


def trial_lines(workspace: Path, name: str, *, trial: TrialConfig | None = None, swaps: SwapConfig | None = None, shell: str) -> dict[str, str]:
    """What was tried on a graph: read, or tried anew."""
    if trial is not None:
        names, lines = ["Graph", "TrialConfig", "keep_tried", "trial"], list(_RUNS)
        config = f"strong={trial.strong}, random={trial.random}, seed={trial.seed}, target={trial.target}"
        lines += [f"made = trial(model, dictionaries, graph=graph, config=TrialConfig({config}))", f"keep_tried(workspace, {name!r}, trial=made)"]
    elif swaps is not None:
        names, lines = ["Graph", "SwapConfig", "keep_tried", "missing_edges"], [*_RUNS[:2]]
        config = f"swaps={swaps.swaps}, ends={swaps.ends}, seed={swaps.seed}"
        lines += [f"made = missing_edges(model, graph, config=SwapConfig({config}))", f"keep_tried(workspace, {name!r}, missing=made)"]
    else:
        names, lines = ["Graph", "tried"], [f"tried(workspace, {name!r})"]
    return {"python": "\n".join([*_opened(workspace, name, names=names), *lines]), "shell": shell}


_RUNS = (
    "from microtome.models import load",
    "model = load(graph.model)",
    "from microtome.dictionaries import load_any",
    'dictionaries = load_any(workspace.by_id("dictionary", graph.dictionaries[0]))',
)
"""Model and dictionaries of a graph."""


def _opened(workspace: Path, name: str, *, names: Sequence[str], index: FeatureIndex | None = None) -> list[str]:
    lines = ["from microtome.artifacts import Workspace", f"from {_ROOM} import {', '.join(names)}"]
    lines += ["from microtome.features import FeatureIndex"] if index is not None else []
    lines += ["", f"workspace = Workspace({str(workspace)!r})", f'graph = Graph.open(workspace.find("graph", {name!r}))']
    return lines + ([f'index = FeatureIndex.open(workspace.find("index", {index.name!r}), workspace)'] if index is not None else [])
