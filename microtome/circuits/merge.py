"""Graphs of several prompts beside each other: two subtracted, or many merged into one picture.

Nodes are matched by kind, layer, feature and position; positions are matched by the tokens of the prompts. A feature that is not active in a prompt
feeds nothing there, so its edges are 0; the edges into a feature that is active but was not expanded are not known, and stay so.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from statistics import fmean
from typing import TypeAlias

from microtome.circuits.graph import BIAS, EMBEDDING, FEATURE, KINDS, TARGET, Graph
from microtome.circuits.influence import Ints, row_of
from microtome.circuits.labels import Labels
from microtome.circuits.names import node_name, target_words
from microtome.circuits.prune import EDGE_THRESHOLD, NODE_THRESHOLD, Pruned, prune
from microtome.errors import GraphInvalid

Key: TypeAlias = tuple[int, int, int, int]
"""Kind, layer, column and feature: what makes two nodes of two prompts the same."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A place that the prompts share, or that one of them has alone."""

    pieces: tuple[str | None, ...]
    """The token there, a prompt; None where a prompt has none."""


@dataclass(frozen=True, kw_only=True)
class SharedNode:
    """A node in several prompts."""

    name: str
    """Its name in the first prompt that has it."""
    kind: str
    layer: int
    column: int
    """Place in the columns; −1 for a bias of all positions."""
    feature: int
    label: str
    activation: tuple[float | None, ...]
    """By prompt; None where the node is not there: a feature that is not active."""
    influence: tuple[float, ...]
    """Its share of all influence on the targets, by prompt; 0 where it is not there."""

    @property
    def prompts(self) -> int:
        """In how many prompts it is."""
        return sum(value is not None for value in self.activation)


@dataclass(frozen=True, kw_only=True)
class SharedEdge:
    """A direct effect in several prompts."""

    source: int
    """Place in the nodes …"""
    target: int
    weight: tuple[float | None, ...]
    """By prompt: 0 where an end is not active, None where the target was not expanded."""

    @property
    def difference(self) -> float | None:
        """Of two prompts, the first less the second; None where one is not known."""
        first, second = self.weight[0], self.weight[-1]
        return None if first is None or second is None else first - second

    @property
    def mean(self) -> float | None:
        """Over the prompts where it is known."""
        known = [value for value in self.weight if value is not None]
        return fmean(known) if known else None


@dataclass(frozen=True, kw_only=True)
class Merged:
    """Several graphs as one: what is kept in any of them, with its values in all."""

    prompts: tuple[str, ...]
    columns: tuple[Column, ...]
    nodes: tuple[SharedNode, ...]
    """The largest mean influence first; of a contrast the largest difference."""
    edges: tuple[SharedEdge, ...]
    """The largest first, likewise."""


def contrast(
    a: Graph, b: Graph, *, node_threshold: float = NODE_THRESHOLD, edge_threshold: float = EDGE_THRESHOLD, labels: Labels | None = None
) -> Merged:
    """Two graphs aligned: what one has and the other has not first. `edge.difference` is a less b.

    Their targets are matched by order, whatever they are. Raises `GraphInvalid` for graphs of different models or dictionaries.
    """
    made = merge((a, b), node_threshold=node_threshold, edge_threshold=edge_threshold, labels=labels)
    order = sorted(range(len(made.nodes)), key=lambda i: -abs(made.nodes[i].influence[0] - made.nodes[i].influence[1]))
    place = {old: new for new, old in enumerate(order)}
    edges = [SharedEdge(source=place[edge.source], target=place[edge.target], weight=edge.weight) for edge in made.edges]
    edges.sort(key=lambda edge: -abs(edge.difference or 0.0))
    return Merged(prompts=made.prompts, columns=made.columns, nodes=tuple(made.nodes[i] for i in order), edges=tuple(edges))


def merge(
    graphs: Sequence[Graph], *, node_threshold: float = NODE_THRESHOLD, edge_threshold: float = EDGE_THRESHOLD, labels: Labels | None = None
) -> Merged:
    """Many graphs in one: each is pruned by itself, and what any of them keeps is looked up in all.

    Raises `GraphInvalid` for graphs of different models or dictionaries, or none.
    """
    _same_model(graphs)
    columns, places = align([graph.tokens for graph in graphs])
    found = [prune(graph, node_threshold=node_threshold, edge_threshold=edge_threshold) for graph in graphs]
    keys = [_keys(graph, place) for graph, place in zip(graphs, places, strict=True)]
    kept = sorted({key for pruned, known in zip(found, keys, strict=True) for i, key in enumerate(known) if pruned.nodes[i]})
    where = [{key: i for i, key in enumerate(known)} for known in keys]
    nodes = [_shared_node(key, graphs, found=found, where=where, labels=labels or {}) for key in kept]
    order = sorted(range(len(nodes)), key=lambda i: -fmean(nodes[i].influence))
    place_of = {kept[old]: new for new, old in enumerate(order)}
    edges = _shared_edges(graphs, found=found, keys=keys, where=where, place_of=place_of)
    pieces = tuple(Column(pieces=tuple(None if at is None else graph.pieces[at] for graph, at in zip(graphs, each, strict=True))) for each in columns)
    ordered = sorted(edges, key=lambda edge: -abs(edge.mean or 0.0))
    return Merged(prompts=tuple(graph.prompt for graph in graphs), columns=pieces, nodes=tuple(nodes[i] for i in order), edges=tuple(ordered))


def align(prompts: Sequence[Sequence[int]]) -> tuple[list[tuple[int | None, ...]], list[list[int]]]:
    """Columns for the positions of several prompts, and the column of each position of each prompt.

    Each prompt is laid beside the columns made so far: equal runs of tokens share columns; of what differs in between, the tokens from its end
    backwards stand beside each other (what is replaced by as many words stays aligned), the rest have columns of their own. Last positions
    always share one: there the targets are.
    """
    columns: list[list[int | None]] = []
    tokens: list[int] = []
    for number, prompt in enumerate(prompts):
        merged: list[list[int | None]] = []
        shown: list[int] = []
        for i, j in _beside(tokens, list(prompt)):
            merged.append([*(columns[i] if i is not None else [None] * number), j])
            shown.append(tokens[i] if i is not None else prompt[j or 0])
        columns, tokens = merged, shown
    places = [[0] * len(prompt) for prompt in prompts]
    for place, column in enumerate(columns):
        for number, at in enumerate(column):
            if at is not None:
                places[number][at] = place
    return [tuple(column) for column in columns], places


def _beside(before: Sequence[int], new: Sequence[int]) -> list[tuple[int | None, int | None]]:
    """Pairs of places of two sequences, in order; the last of both are a pair."""
    if not before or not new:
        return [*((i, None) for i in range(len(before))), *((None, j) for j in range(len(new)))]
    pairs: list[tuple[int | None, int | None]] = []
    for _, i, i_end, j, j_end in SequenceMatcher(None, before[:-1], new[:-1], autojunk=False).get_opcodes():
        together = min(i_end - i, j_end - j)
        pairs += [(at, None) for at in range(i, i_end - together)]
        pairs += [(None, at) for at in range(j, j_end - together)]
        pairs += list(zip(range(i_end - together, i_end), range(j_end - together, j_end), strict=True))
    return [*pairs, (len(before) - 1, len(new) - 1)]


def _same_model(graphs: Sequence[Graph]) -> None:
    told = {(graph.model_fingerprint, graph.dictionaries) for graph in graphs}
    if len(told) != 1:
        got = "; ".join(f"{model} with {', '.join(dictionaries)[:80]}" for model, dictionaries in sorted(told)) or "no graph"
        do = "Trace all prompts with the same model and dictionaries."
        raise GraphInvalid("the graphs cannot be laid beside each other.", got=got, wanted="graphs of one model and one set of dictionaries", do=do)


def _keys(graph: Graph, places: Sequence[int]) -> list[Key]:
    """What makes each node the same in another prompt. An embedding is its place, whatever its token; a target its number."""
    nodes = graph.nodes
    targets = iter(range(graph.n_targets))
    made: list[Key] = []
    for kind, layer, position, feature in zip(nodes.kind, nodes.layer, nodes.position, nodes.feature, strict=True):
        column = places[int(position)] if position >= 0 else -1
        if kind == TARGET:
            made.append((TARGET, int(layer), next(targets), -1))
        else:
            made.append((int(kind), int(layer), column, int(feature) if kind in (FEATURE, BIAS) else -1))
    return made


def _shared_node(key: Key, graphs: Sequence[Graph], *, found: Sequence[Pruned], where: Sequence[dict[Key, int]], labels: Labels) -> SharedNode:
    kind, layer, column, feature = key
    at = [known.get(key) for known in where]
    first = next(i for i, node in enumerate(at) if node is not None)
    node = at[first]
    assert node is not None
    if kind == TARGET:
        shown = [target_words(graph, column) for graph, each in zip(graphs, at, strict=True) if each is not None]
        label = " / ".join(dict.fromkeys(shown))
        column = -1
    elif kind == EMBEDDING:
        shown = [graph.pieces[int(graph.nodes.position[each])] for graph, each in zip(graphs, at, strict=True) if each is not None]
        label = " / ".join(dict.fromkeys(shown))
    else:
        label = labels.get((layer, feature), "") if kind == FEATURE else ""
    return SharedNode(
        name=node_name(graphs[first], node),
        kind=KINDS[kind],
        layer=layer,
        column=column,
        feature=feature,
        label=label,
        activation=tuple(None if i is None else float(graph.nodes.activation[i]) for graph, i in zip(graphs, at, strict=True)),
        influence=tuple(0.0 if i is None else _share(pruned, i) for pruned, i in zip(found, at, strict=True)),
    )


def _share(pruned: Pruned, node: int) -> float:
    total = float(pruned.influence.sum())
    return float(pruned.influence[node]) / total if total > 0 else 0.0


def _shared_edges(
    graphs: Sequence[Graph], *, found: Sequence[Pruned], keys: Sequence[list[Key]], where: Sequence[dict[Key, int]], place_of: dict[Key, int]
) -> list[SharedEdge]:
    """Every edge that some graph keeps, with its weight in all."""
    ends: dict[tuple[Key, Key], None] = {}
    for graph, pruned, known in zip(graphs, found, keys, strict=True):
        sources, targets = graph.edges.source[pruned.edges], graph.rows[pruned.edge_rows]
        ends |= {(known[int(s)], known[int(t)]): None for s, t in zip(sources, targets, strict=True)}
    by_target: defaultdict[Key, list[Key]] = defaultdict(list)
    for source, target in ends:
        by_target[target].append(source)
    weights: dict[tuple[Key, Key], list[float | None]] = {pair: [] for pair in ends}
    for graph, known in zip(graphs, where, strict=True):
        rows = row_of(graph)
        for target, sources in by_target.items():
            for source, weight in zip(sources, _weights(graph, rows, known=known, target=target, sources=sources), strict=True):
                weights[source, target].append(weight)
    return [SharedEdge(source=place_of[s], target=place_of[t], weight=tuple(values)) for (s, t), values in weights.items()]


def _weights(graph: Graph, rows: Ints, *, known: dict[Key, int], target: Key, sources: list[Key]) -> list[float | None]:
    """The weights of edges into one node of one graph."""
    node = known.get(target)
    if node is None:
        return [0.0] * len(sources)
    row = int(rows[node])
    if row < 0:
        return [None] * len(sources)
    source, weight = graph.edges.row(row)
    stored = dict(zip(map(int, source), map(float, weight), strict=True))
    complete = graph.dropped_abs[row] == 0
    return [0.0 if each not in known else stored.get(known[each], 0.0 if complete else None) for each in sources]
