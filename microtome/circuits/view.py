"""What a page or a terminal shows of a graph at two thresholds, as values that are JSON."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from microtome.circuits.graph import BIAS, EMBEDDING, FEATURE, KINDS, TARGET, Graph
from microtome.circuits.html import view_html
from microtome.circuits.influence import unexpanded
from microtome.circuits.labels import Labels
from microtome.circuits.names import node_name, target_words
from microtome.circuits.prune import EDGE_THRESHOLD, NODE_THRESHOLD, Pruned, prune
from microtome.circuits.scores import Scores, scores
from microtome.config import canonical_json, from_dict, to_dict
from microtome.errors import GraphInvalid


@dataclass(frozen=True, kw_only=True)
class NodeView:
    """One node that is shown."""

    id: str
    """Its name, as `names.py` spells it."""
    kind: str
    layer: int
    """0-based block; −1 for embeddings, the number of layers for targets."""
    position: int
    """−1 for a bias of all positions."""
    feature: int
    """Number in the dictionary; the token's id for an embedding or a logit; a bias's kind; −1 for an error."""
    activation: float | None
    """None where the file it came from does not tell it."""
    influence: float | None
    """Share of all influence down to this node, in descending order: small is important. 0 for targets."""
    label: str
    probability: float | None
    """Of a target that is a logit; its weight where it is something else; None for other kinds."""
    expanded: bool
    """False for a feature whose own inputs were not traced."""


@dataclass(frozen=True, kw_only=True)
class ScoresView:
    """How much the graph explains; None where the file it came from does not tell it."""

    replacement: float | None
    completeness: float | None
    error_share: float | None
    untraced: float | None
    """Share of influence from features that were not expanded or edges that were not stored."""
    balance: float | None
    """The largest relative departure of a row's sum from the pre-activation."""


@dataclass(frozen=True, kw_only=True)
class Hidden:
    """What the thresholds hide; None where the file it came from does not tell it."""

    nodes: int | None
    edges: int | None
    influence: float | None
    """Share of all influence that the hidden nodes have; biases, which do not count, aside."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    node: float
    edge: float


@dataclass(frozen=True, kw_only=True)
class GraphView:
    """A pruned graph with its scores; `to_json` is what `docs/reference/graph.schema.json` describes."""

    slug: str
    prompt: str
    tokens: tuple[str, ...]
    model: str
    dictionaries: tuple[str, ...]
    thresholds: Thresholds
    scores: ScoresView
    """Of the whole graph, not of what is shown."""
    hidden: Hidden
    nodes: tuple[NodeView, ...]
    edges: tuple[tuple[int, int, float], ...]
    """Source, target (places in `nodes`) and weight: the direct effect on the target's pre-activation."""
    tested: Mapping[str, Any] | None = None
    """Predicted against measured, where an intervention was made."""
    columns: Literal["tokens", "turns"] = "tokens"
    """What positions count, and `tokens` are the names of."""

    def to_json(self) -> dict[str, Any]:
        fields = {name: to_dict(getattr(self, name)) for name in self.__dataclass_fields__ if name != "edges"}
        return {**fields, "edges": [list(edge) for edge in self.edges]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "GraphView":
        """The view that `to_json` spelt. Raises `ConfigError` or `GraphInvalid`."""
        edges = value.get("edges", [])
        count = len(value.get("nodes", []))
        read = tuple(_edge(edge, place=i, count=count) for i, edge in enumerate(edges))
        made = from_dict(cls, {**value, "edges": []})
        return cls(**{name: getattr(made, name) for name in cls.__dataclass_fields__ if name != "edges"}, edges=read)

    def _repr_html_(self) -> str:
        return view_html(self)


def view(
    graph: Graph,
    *,
    node_threshold: float = NODE_THRESHOLD,
    edge_threshold: float = EDGE_THRESHOLD,
    labels: Labels | None = None,
    slug: str = "",
    tested: Mapping[str, Any] | None = None,
) -> GraphView:
    """The graph pruned at two thresholds, with names, labels and scores. `labels` by layer and feature; `slug` is made of the prompt unless given."""
    pruned = prune(graph, node_threshold=node_threshold, edge_threshold=edge_threshold)
    return view_of(graph, pruned, thresholds=Thresholds(node=node_threshold, edge=edge_threshold), labels=labels, slug=slug, tested=tested)


def view_of(
    graph: Graph,
    pruned: Pruned,
    *,
    thresholds: Thresholds,
    labels: Labels | None = None,
    slug: str = "",
    tested: Mapping[str, Any] | None = None,
) -> GraphView:
    """As `view`, of a graph that is pruned already."""
    shown = np.flatnonzero(pruned.nodes)
    place = np.full(len(graph.nodes), -1)
    place[shown] = np.arange(len(shown))
    sources, targets = place[graph.edges.source[pruned.edges]], place[graph.rows[pruned.edge_rows]]
    weights = graph.edges.weight[pruned.edges]
    edges = tuple((int(s), int(t), float(w)) for s, t, w in zip(sources, targets, weights, strict=True))
    return GraphView(
        slug=slug or slug_of(graph),
        prompt=graph.prompt,
        tokens=graph.pieces,
        model=graph.model,
        dictionaries=graph.dictionaries,
        thresholds=thresholds,
        scores=_scores_view(graph, scores(graph)),
        hidden=_hidden(graph, pruned, edges=len(edges)),
        nodes=node_views(graph, shown, pruned=pruned, labels=labels or {}),
        edges=edges,
        tested=tested,
        columns="turns" if "columns" in graph.config else "tokens",
    )


def node_views(graph: Graph, shown: Any, *, pruned: Pruned, labels: Labels) -> tuple[NodeView, ...]:
    """The views of the nodes with these numbers."""
    nodes, first_target = graph.nodes, int(graph.nodes.where("target")[0])
    closed = unexpanded(graph)
    made: list[NodeView] = []
    for i in map(int, shown):
        kind, is_target = int(nodes.kind[i]), int(nodes.kind[i]) == TARGET
        target = i - first_target
        made.append(
            NodeView(
                id=node_name(graph, i),
                kind=KINDS[kind],
                layer=int(nodes.layer[i]),
                position=int(nodes.position[i]),
                feature=int(nodes.feature[i]),
                activation=float(nodes.activation[i]),
                influence=0.0 if is_target else float(pruned.cumulative[i]),
                label=_label(graph, i, labels),
                probability=float(graph.target_weight[target]) if is_target else None,
                expanded=not bool(closed[i]),
            )
        )
    return tuple(made)


def slug_of(graph: Graph) -> str:
    """A short name for a file: the prompt's first words, and a hash of prompt, model and targets."""
    words = "-".join("".join(c if c.isascii() and c.isalnum() else " " for c in graph.prompt.lower()).split()[:6])[:40]
    told = canonical_json([list(graph.tokens), graph.model_fingerprint, list(graph.dictionaries), list(graph.target_labels)])
    return f"{words or 'graph'}-{hashlib.sha256(told.encode()).hexdigest()[:6]}"


def _label(graph: Graph, node: int, labels: Labels) -> str:
    kind = int(graph.nodes.kind[node])
    if kind == FEATURE:
        return labels.get((int(graph.nodes.layer[node]), int(graph.nodes.feature[node])), "")
    if kind == EMBEDDING:
        return graph.pieces[int(graph.nodes.position[node])]
    if kind == TARGET:
        return target_words(graph, node - int(graph.nodes.where("target")[0]))
    return ""


def _scores_view(graph: Graph, found: Scores) -> ScoresView:
    balance = None if graph.config.get("pre") == "unknown" else graph.balance()
    return ScoresView(
        replacement=found.replacement,
        completeness=found.completeness,
        error_share=found.error_share,
        untraced=found.untraced,
        balance=balance,
    )


def _hidden(graph: Graph, pruned: Pruned, *, edges: int) -> Hidden:
    counted = graph.nodes.kind != BIAS
    total = math.fsum(pruned.influence[counted])
    away = math.fsum(pruned.influence[counted & ~pruned.nodes])
    return Hidden(nodes=int((~pruned.nodes).sum()), edges=len(graph.edges.source) - edges, influence=away / total if total > 0 else 0.0)


def _edge(edge: Any, *, place: int, count: int) -> tuple[int, int, float]:
    whole = isinstance(edge, list | tuple) and len(edge) == 3 and all(isinstance(end, int) and 0 <= end < count for end in edge[:2])
    if not whole or not isinstance(edge[2], int | float) or not math.isfinite(edge[2]):
        wanted = f"[source, target, weight], the first two below {count}"
        raise GraphInvalid(f"edges[{place}] is no edge.", got=repr(edge)[:80], wanted=wanted, do="Make the view again.")
    return int(edge[0]), int(edge[1]), float(edge[2])
