"""Names of nodes: `L3.f17@4`, `L3.error@4`, `L3.error.stream@4`, `L3.bias.attention@4`, `E@4`, `logit." Paris"@7`."""

import re

from microtome.circuits.graph import BIAS, BIASES, EMBEDDING, ERROR, FEATURE, STREAM_ERROR, Graph
from microtome.errors import NodeNotFound, nearest

_LOGIT = re.compile(r'logit\."((?:(?!" − logit\.").)*)"@\d+', flags=re.DOTALL)
"""The name of one logit; that of a difference is no such."""


def node_name(graph: Graph, node: int) -> str:
    """The name of a node, the same in files, on pages and on the command line; two nodes of a graph never share one."""
    nodes = graph.nodes
    kind, layer = int(nodes.kind[node]), int(nodes.layer[node])
    position, feature = int(nodes.position[node]), int(nodes.feature[node])
    at = f"@{position}" if position >= 0 else ""
    where = "E" if layer < 0 else "final" if layer >= graph.n_layers else f"L{layer}"
    if kind == FEATURE:
        return f"{where}.f{feature}{at}"
    if kind == ERROR:
        return f"{where}.error{'.stream' if feature == STREAM_ERROR else ''}{at}"
    if kind == BIAS:
        return f"{where}.bias.{BIASES[feature]}{at}"
    if kind == EMBEDDING:
        return f"E{at}"
    return target_name(graph, node - int(graph.nodes.where("target")[0]))


def target_name(graph: Graph, target: int) -> str:
    """The name of the target with that number, which is its label: `logit." Paris"@7`. Targets of one label get a number behind it."""
    label = graph.target_labels[target]
    same = [i for i, other in enumerate(graph.target_labels) if other == label]
    return label if len(same) == 1 else f"{label}#{same.index(target)}"


def target_words(graph: Graph, target: int) -> str:
    """What a target is, for a person: the token of a logit, else its label."""
    return words_of(graph.target_labels[target])


def name_of(words: str, *, position: int) -> str:
    """The name of the target at a position that is shown as these words: of a token the logit's; words that are a name already stay one."""
    return words if re.fullmatch(rf".+@{position}", words, flags=re.DOTALL) else f'logit."{words}"@{position}'


def words_of(name: str) -> str:
    """The token of a logit's name; any other name as it is."""
    found = _LOGIT.fullmatch(name)
    return found[1] if found else name


def find_node(graph: Graph, name: str) -> int:
    """The node of that name. Raises `NodeNotFound`, which offers the nearest name."""
    candidates = range(len(graph.nodes))
    for node in candidates:
        if node_name(graph, node) == name:
            return node
    names = (node_name(graph, node) for node in candidates)
    close = [each for each in names if each.partition("@")[0] == name.partition("@")[0] or each.endswith(f"@{name.rpartition('@')[2]}")]
    do = nearest(name, close[:2000]) if close else "`view(graph)` and `microtome show GRAPH` list the names."
    raise NodeNotFound(f'the graph has no node "{name}".', got=name, wanted="the name of a node, such as L3.f17@4", do=do)
