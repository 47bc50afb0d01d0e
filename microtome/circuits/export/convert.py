"""Between our views and the graph files of other tools."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, TypeAlias

from microtome.circuits.export.graph_file import EMBEDDING, ERROR, FEATURE, LOGIT, LORSA, LORSA_ERROR, GraphFile, PeerNode, QParams, layer_number
from microtome.circuits.names import name_of, words_of
from microtome.circuits.prune import EDGE_THRESHOLD, NODE_THRESHOLD
from microtome.circuits.view import GraphView, Hidden, NodeView, ScoresView, Thresholds
from microtome.errors import FormatCannotHold, GraphInvalid

Generation: TypeAlias = Literal["0.5.1", "0.5.0"]
"""Which ids errors get: `3_-1_4` since circuit-tracer 0.5.1, `0_3_4` before."""
_SCHEMA = 1
_LOGIT = re.compile(r'^Output "(?P<token>.*)" \(p=(?P<p>[0-9.eE+-]+)\)$', flags=re.DOTALL)
_KINDS = {FEATURE: "feature", LORSA: "feature", ERROR: "error", LORSA_ERROR: "error", EMBEDDING: "embedding", LOGIT: "target"}


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file, and what it has no place for."""

    file: GraphFile
    left_out: Mapping[str, int]
    """Nodes and edges that were left out, by kind: the format knows no biases."""


def file_of(
    view: GraphView, *, scan: str, generation: Generation = "0.5.1", q_params: QParams | None = None, about: Mapping[str, Any] | None = None
) -> Exported:
    """The view as circuit-tracer and Neuronpedia write one.

    `scan` names the features' page there; `about` is put into the metadata (`info`, `feature_details`, `title_prefix`, `generation_settings`). Biases
    have no place in the format and are left out and counted. A target that is no token gets an id beyond the vocabulary, as circuit-tracer's own
    targets of directions do. Raises `FormatCannotHold` for an id that two nodes would share, which generation 0.5.0 can cause.
    """
    kept = [i for i, node in enumerate(view.nodes) if node.kind != "bias"]
    place = {old: new for new, old in enumerate(kept)}
    n_layers = max((node.layer for node in view.nodes if node.kind == "target"), default=max((node.layer for node in view.nodes), default=0) + 1)
    best = max((node.probability or 0.0 for node in view.nodes), default=0.0)
    beyond = max((node.feature for node in view.nodes), default=0) + 1_000_000
    nodes = tuple(
        _peer_node(view.nodes[i], view, n_layers=n_layers, generation=generation, vocabulary=beyond + order, best=best)
        for order, i in enumerate(kept)
    )
    _distinct(nodes, generation)
    links = tuple((place[s], place[t], weight) for s, t, weight in view.edges if s in place and t in place)
    metadata = {
        "slug": view.slug,
        "scan": scan,
        "transcoder_list": list(view.dictionaries),
        "prompt_tokens": list(view.tokens),
        "prompt": view.prompt,
        "node_threshold": view.thresholds.node,
        "schema_version": _SCHEMA,
        "pruning_settings": {"node_threshold": view.thresholds.node, "edge_threshold": view.thresholds.edge},
        "info": {"generator": {"name": "microtome"}},
        **(about or {}),
    }
    file = GraphFile(metadata=metadata, q_params=q_params or QParams(), nodes=nodes, links=links)
    gone = {"bias nodes": len(view.nodes) - len(kept), "bias edges": len(view.edges) - len(links)}
    return Exported(file=file, left_out={name: n for name, n in gone.items() if n})


def view_from(file: GraphFile) -> GraphView:
    """A file as a view, for pages and for contrasts. Scores are not in the file, so they are None. Raises `GraphInvalid`."""
    metadata, settings = file.metadata, file.metadata.get("pruning_settings") or {}
    top = max((layer_number(node) for node in file.nodes if node.feature_type == LOGIT), default=1) - 1
    nodes = _told_apart([_node_view(node, top=top) for node in file.nodes])
    if len({node.id for node in nodes}) != len(nodes):
        names = sorted(node.id for node in nodes)
        double = next(name for name, after in pairwise(names) if name == after)
        raise GraphInvalid("two nodes of the file are the same.", got=double, wanted="each feature once at a position", do="Export the graph again.")
    tokens = tuple(str(token) for token in metadata["prompt_tokens"])
    wrong = next((node.id for node in nodes if node.position >= len(tokens)), None)
    if wrong is not None:
        do = "Export the graph again."
        raise GraphInvalid("a node is at a token that is not there.", got=wrong, wanted=f"positions below {len(tokens)}", do=do)
    return GraphView(
        slug=metadata["slug"],
        prompt=metadata["prompt"],
        tokens=tokens,
        model=_words(metadata.get("scan")),
        dictionaries=tuple(_words(each) for each in metadata.get("transcoder_list") or ()),
        thresholds=Thresholds(
            node=_share(metadata.get("node_threshold"), NODE_THRESHOLD), edge=_share(settings.get("edge_threshold"), EDGE_THRESHOLD)
        ),
        scores=ScoresView(replacement=None, completeness=None, error_share=None, untraced=None, balance=None),
        hidden=Hidden(nodes=None, edges=None, influence=None),
        nodes=nodes,
        edges=file.links,
    )


def _told_apart(nodes: Sequence[NodeView]) -> tuple[NodeView, ...]:
    """Logits whose tokens look the same (parts of characters do) get a number behind their names, as our own graphs give them."""
    times = Counter(node.id for node in nodes if node.kind == "target")
    seen: Counter[str] = Counter()
    made: list[NodeView] = []
    for node in nodes:
        number, seen[node.id] = seen[node.id], seen[node.id] + 1
        made.append(replace(node, id=f"{node.id}#{number}") if times[node.id] > 1 and node.kind == "target" else node)
    return tuple(made)


def cantor(layer: int, feature: int) -> int:
    """(l + f)(l + f + 1) / 2 + f: the one number that a feature has in these files."""
    return (layer + feature) * (layer + feature + 1) // 2 + feature


def _peer_node(node: NodeView, view: GraphView, *, n_layers: int, generation: Generation, vocabulary: int, best: float) -> PeerNode:
    token = view.tokens[node.position] if 0 <= node.position < len(view.tokens) else ""
    layer, feature, at = node.layer, node.feature, node.position
    common: dict[str, Any] = {"ctx_idx": at, "influence": node.influence}
    if node.kind == "feature":
        id, js = f"{layer}_{feature}_{at}", f"{layer}_{feature}-0"
        number = cantor(layer, feature)
        return PeerNode(
            node_id=id, feature=number, layer=str(layer), feature_type=FEATURE, js_node_id=js, clerp=node.label, activation=node.activation, **common
        )
    if node.kind == "error":
        new = generation == "0.5.1"
        id, js = (f"{layer}_-1_{at}", f"{layer}_-1-{at}") if new else (f"0_{layer}_{at}", f"{layer}_{at}-0")
        return PeerNode(
            node_id=id,
            feature=-1,
            layer=str(layer),
            feature_type=ERROR,
            js_node_id=js,
            clerp=f"Err: mlp {json.dumps(token, ensure_ascii=False)}",
            **common,
        )
    if node.kind == "embedding":
        id, js, clerp = f"E_{feature}_{at}", f"E_{feature}-{at}", f'Emb: "{token}"'
        return PeerNode(node_id=id, feature=at, layer="E", feature_type=EMBEDDING, js_node_id=js, clerp=clerp, **common)
    number, weight = feature if feature >= 0 else vocabulary, node.probability or 0.0
    return PeerNode(
        node_id=f"{n_layers + 1}_{number}_{at}",
        feature=number,
        layer=str(n_layers + 1),
        feature_type=LOGIT,
        js_node_id=f"L_{number}-{at}",
        clerp=f'Output "{node.label}" (p={weight:.3f})',
        token_prob=weight,
        is_target_logit=weight == best,
        **common,
    )


def _distinct(nodes: Sequence[PeerNode], generation: Generation) -> None:
    seen: set[str] = set()
    for node in nodes:
        if node.node_id in seen:
            do = 'Write it with generation="0.5.1", whose ids are unique.' if generation == "0.5.0" else "Export each target of its own."
            raise FormatCannotHold("two nodes would have one id in the file.", got=node.node_id, wanted="an id a node", do=do)
        seen.add(node.node_id)


def _node_view(node: PeerNode, *, top: int) -> NodeView:
    kind = _KINDS.get(node.feature_type)
    if kind is None:
        raise GraphInvalid(f'node "{node.node_id[:80]}" is of an unknown kind.', got=node.feature_type[:80], wanted=", ".join(_KINDS), do=_EXPORT)
    layer, at, lorsa = layer_number(node), node.ctx_idx, "lorsa" if node.feature_type in (LORSA, LORSA_ERROR) else ""
    probability, label, feature = None, node.clerp, -1
    if kind == "feature":
        feature = _from_id(node)
        id = f"L{layer}.{lorsa or 'f'}{feature}@{at}"
    elif kind == "error":
        id = f"L{layer}.{'lorsa_' if lorsa else ''}error@{at}"
        label = ""
    elif kind == "embedding":
        feature, id = _from_id(node), f"E@{at}"
        label = label.removeprefix('Emb: "').removesuffix('"') if label.startswith('Emb: "') else label
    else:
        feature, found, layer = _from_id(node), _LOGIT.match(label), top
        id, probability = name_of(found["token"] if found else label, position=at), node.token_prob
        label = words_of(id)
    return NodeView(
        id=id,
        kind=kind,
        layer=layer,
        position=at,
        feature=feature,
        activation=node.activation,
        influence=0.0 if kind == "target" else node.influence,
        label=label,
        probability=probability,
        expanded=True,
    )


def _from_id(node: PeerNode) -> int:
    """The middle number of `{layer}_{number}_{position}`."""
    parts = node.node_id.split("_")
    if len(parts) != 3 or not re.fullmatch(r"\d{1,12}", parts[1]):
        raise GraphInvalid("a node's id does not say what it is.", got=node.node_id[:80], wanted="layer_feature_position", do=_EXPORT)
    return int(parts[1])


def _words(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)[:200]


def _share(value: Any, default: float) -> float:
    return float(value) if isinstance(value, int | float) and 0 < value <= 1 else default


_EXPORT = "Export the graph again with the tool that wrote it."
