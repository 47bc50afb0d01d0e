"""The lines under the graph page that give the same from Python and from the shell."""

from collections.abc import Sequence
from pathlib import Path

from microtome.circuits import Supernode
from microtome.features import FeatureIndex
from microtome.web.recipes import show_line

_ROOM = "microtome.circuits"


def list_lines(workspace: Path) -> dict[str, str]:
    """The lines of the list of graphs."""
    python = f"from microtome.artifacts import Workspace\n\nWorkspace({str(workspace)!r}).names('graph')"
    return {"python": python, "shell": show_line(workspace)}


def graph_lines(workspace: Path, name: str, index: FeatureIndex | None, *, node: float, edge: float, density: float, shell: str) -> dict[str, str]:
    """The lines of a graph at thresholds, with the labels of an index where there is one."""
    given = [f"node_threshold={node!r}", f"edge_threshold={edge!r}"]
    labels = [] if index is None else ["labels=labels_from(index, graph)"]
    if density >= 1 or index is None:
        names = ["Graph", *(["labels_from"] if labels else []), "view"]
        body = [f"view(graph, {', '.join([*given, *labels, f'slug={name!r}'])})"]
    else:
        names = ["Graph", "Thresholds", "densities_from", "labels_from", "prune", "view_of", "without"]
        body = [
            f"pruned = prune(graph, {', '.join(given)})",
            f"pruned = without(graph, pruned, left_out=densities_from(index, graph) > {density!r})",
            f"view_of(graph, pruned, thresholds=Thresholds(node={node!r}, edge={edge!r}), {', '.join([*labels, f'slug={name!r}'])})",
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


def _opened(workspace: Path, name: str, *, names: Sequence[str], index: FeatureIndex | None = None) -> list[str]:
    lines = ["from microtome.artifacts import Workspace", f"from {_ROOM} import {', '.join(names)}"]
    lines += ["from microtome.features import FeatureIndex"] if index is not None else []
    lines += ["", f"workspace = Workspace({str(workspace)!r})", f'graph = Graph.open(workspace.find("graph", {name!r}))']
    return lines + ([f'index = FeatureIndex.open(workspace.find("index", {index.name!r}), workspace)'] if index is not None else [])
