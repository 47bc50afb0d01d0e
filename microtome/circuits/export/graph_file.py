"""The graph file of circuit-tracer, Neuronpedia and the attribution-graphs front end: what is in it, read strictly, with every field kept.

Node ids come in two generations. Since circuit-tracer 0.5.1 the error of layer 3 at position 4 is `3_-1_4`; before it was `0_3_4`, which is also the
id of feature 3 of layer 0 at position 4. A file with such a collision is read by what a link can mean: an error never receives, feeds only
later layers, and of two links from one id to one node the first is the feature's.
"""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from microtome.errors import GraphInvalid

FEATURE, ERROR, EMBEDDING, LOGIT = "cross layer transcoder", "mlp reconstruction error", "embedding", "logit"
"""The values of `feature_type` that circuit-tracer writes; a feature of a per-layer set has the first one too."""
LORSA, LORSA_ERROR = "lorsa", "lorsa error"
_REQUIRED = ("node_id", "feature", "layer", "ctx_idx", "feature_type", "jsNodeId", "clerp")
_DO = "Export the graph again with the tool that wrote it."


@dataclass(frozen=True, kw_only=True)
class PeerNode:
    """One node, its fields by the names of the file."""

    node_id: str
    feature: int | None
    """The Cantor pair of layer and feature number, the position of an embedding, the token's id of a logit; −1 or None for an error."""
    layer: str
    """`E` for embeddings, the number of layers + 1 for logits."""
    ctx_idx: int
    """Position in the prompt."""
    feature_type: str
    js_node_id: str
    clerp: str
    """The label; of a logit exactly `Output "token" (p=0.123)`."""
    token_prob: float = 0.0
    is_target_logit: bool = False
    run_idx: int = 0
    reverse_ctx_idx: int = 0
    influence: float | None = None
    """Cumulative: small is important."""
    activation: float | None = None
    extra: Mapping[str, Any] = field(default_factory=lambda: {})
    """Fields that only some tools write, such as `qk_tracing_results`."""

    def to_json(self) -> dict[str, Any]:
        return {
            "node_id": self.node_id,
            "feature": self.feature,
            "layer": self.layer,
            "ctx_idx": self.ctx_idx,
            "feature_type": self.feature_type,
            "token_prob": self.token_prob,
            "is_target_logit": self.is_target_logit,
            "run_idx": self.run_idx,
            "reverse_ctx_idx": self.reverse_ctx_idx,
            "jsNodeId": self.js_node_id,
            "clerp": self.clerp,
            "influence": self.influence,
            "activation": self.activation,
            **self.extra,
        }


@dataclass(frozen=True, kw_only=True)
class QParams:
    """What a person pinned and grouped on the page."""

    pinned_ids: tuple[str, ...] = ()
    supernodes: tuple[tuple[str, ...], ...] = ()
    """Label, then the ids of the members."""
    link_type: str = "both"
    clicked_id: str = ""
    sg_pos: str = ""
    """Coordinates in the subgraph, separated by spaces."""
    extra: Mapping[str, Any] = field(default_factory=lambda: {})
    """`pruningThreshold`, `clerps`, `hiddenIds`, `gridsnap` and others, as the page saved them."""

    def to_json(self) -> dict[str, Any]:
        return {
            "pinnedIds": list(self.pinned_ids),
            "supernodes": [list(group) for group in self.supernodes],
            "linkType": self.link_type,
            "clickedId": self.clicked_id,
            "sg_pos": self.sg_pos,
            **self.extra,
        }


@dataclass(frozen=True, kw_only=True)
class GraphFile:
    """A whole file. Links hold places in `nodes`, so that they mean one node even where two have one id."""

    metadata: Mapping[str, Any]
    """slug, scan, transcoder_list, prompt_tokens, prompt, node_threshold, schema_version, and whatever else a tool put there."""
    q_params: QParams
    nodes: tuple[PeerNode, ...]
    links: tuple[tuple[int, int, float], ...]
    """Source, target, weight."""
    extra: Mapping[str, Any] = field(default_factory=lambda: {})
    """Other keys of the top level, such as `qk_only_nodes`."""
    ambiguous_links: int = 0
    """Links from an id that two nodes share, where the file cannot tell which is meant; they are read as the feature's."""

    def to_json(self) -> dict[str, Any]:
        ids = [node.node_id for node in self.nodes]
        links = [{"source": ids[source], "target": ids[target], "weight": weight} for source, target, weight in self.links]
        nodes = [node.to_json() for node in self.nodes]
        return {"metadata": dict(self.metadata), "qParams": self.q_params.to_json(), "nodes": nodes, "links": links, **self.extra}


def read_graph_file(path: str | Path) -> GraphFile:
    """Read `<slug>.json`. Raises `GraphInvalid` naming the place of the first thing that is wrong; a path that cannot be read raises `OSError`."""
    return parse_graph_file(parsed_json(Path(path)), where=str(path))


def parse_graph_file(value: Any, *, where: str = "the graph") -> GraphFile:
    """The file that a JSON value spells."""
    top = _mapping(value, where)
    for name in ("metadata", "nodes", "links"):
        if name not in top:
            raise _wrong(f'{where} lacks "{name}".', got=", ".join(map(str, top))[:120], wanted="metadata, nodes and links")
    metadata = _mapping(top["metadata"], "metadata")
    for name in ("slug", "prompt"):
        _text(metadata.get(name), f"metadata.{name}")
    _list(metadata.get("prompt_tokens"), "metadata.prompt_tokens")
    nodes = tuple(_node(node, f"nodes[{i}]") for i, node in enumerate(_list(top["nodes"], "nodes")))
    links = _list(top["links"], "links")
    places, ambiguous = _resolve(nodes, links)
    extra = {key: each for key, each in top.items() if key not in ("metadata", "qParams", "nodes", "links")}
    return GraphFile(metadata=metadata, q_params=_q_params(top.get("qParams", {})), nodes=nodes, links=places, extra=extra, ambiguous_links=ambiguous)


def parsed_json(path: Path) -> Any:
    """The JSON of a file; NaN and infinities are none."""
    try:
        return json.loads(path.read_bytes(), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _wrong(f"{path} is not JSON.", got=str(error)[:160], wanted="a graph file") from error


def is_error(node: PeerNode) -> bool:
    return node.feature_type in (ERROR, LORSA_ERROR)


def layer_number(node: PeerNode) -> int:
    """The layer as a number, −1 for embeddings; what is no number raises `GraphInvalid`."""
    if node.layer == "E":
        return -1
    try:
        return int(node.layer)
    except ValueError as error:
        raise _wrong(f'node "{node.node_id}" has no layer.', got=node.layer[:40], wanted="a number or E") from error


def _resolve(nodes: Sequence[PeerNode], links: Sequence[Any]) -> tuple[tuple[tuple[int, int, float], ...], int]:
    """Links by the places of their ends."""
    by_id: defaultdict[str, list[int]] = defaultdict(list)
    for place, node in enumerate(nodes):
        by_id[node.node_id].append(place)
    for id, places in by_id.items():
        if len(places) > 1 and sorted(is_error(nodes[place]) for place in places) != [False, True]:
            raise _wrong(f'{len(places)} nodes have the id "{id[:80]}".', got=id[:80], wanted="an id a node")
    made: list[tuple[int, int, float]] = []
    seen: dict[tuple[str, str], int] = {}
    open_ended: dict[tuple[str, str], int] = {}
    for i, link in enumerate(links):
        fields = _mapping(link, f"links[{i}]")
        ends = tuple(_text(fields.get(name), f"links[{i}].{name}") for name in ("source", "target"))
        for name, end in zip(("source", "target"), ends, strict=True):
            if end not in by_id:
                raise _wrong(f"links[{i}].{name} names a node that is not there.", got=end[:80], wanted="the id of a node")
        source, target = ends
        weight = _number(fields.get("weight"), f"links[{i}].weight")
        to = next(place for place in by_id[target] if len(by_id[target]) == 1 or not is_error(nodes[place]))
        time = seen.get((source, target), 0)
        seen[source, target] = time + 1
        origin, sure = _origin(nodes, by_id[source], to=to, time=time)
        if time or sure:
            open_ended.pop((source, target), None)
        if not sure:
            open_ended[source, target] = i
        made.append((origin, to, weight))
    return tuple(made), len(open_ended)


def _origin(nodes: Sequence[PeerNode], places: Sequence[int], *, to: int, time: int) -> tuple[int, bool]:
    """Which of the nodes with one id a link comes from, and whether that is certain."""
    if len(places) == 1:
        return places[0], True
    feature = next(place for place in places if not is_error(nodes[place]))
    error = next(place for place in places if is_error(nodes[place]))
    if nodes[to].feature_type != LOGIT and layer_number(nodes[error]) >= layer_number(nodes[to]):
        return feature, True
    return (feature, False) if time == 0 else (error, True)


def _node(value: Any, where: str) -> PeerNode:
    fields = dict(_mapping(value, where))
    for name in _REQUIRED:
        if name not in fields:
            raise _wrong(f'{where} lacks the field "{name}".', got=", ".join(map(str, fields))[:120], wanted=", ".join(_REQUIRED))
    feature = fields.pop("feature")
    layer = fields.pop("layer")
    optional = {name: fields.pop(name, None) for name in ("influence", "activation")}
    made = PeerNode(
        node_id=_text(fields.pop("node_id"), f"{where}.node_id"),
        feature=None if feature is None else _whole(feature, f"{where}.feature"),
        layer=str(layer) if isinstance(layer, int) and not isinstance(layer, bool) else _text(layer, f"{where}.layer"),
        ctx_idx=_whole(fields.pop("ctx_idx"), f"{where}.ctx_idx"),
        feature_type=_text(fields.pop("feature_type"), f"{where}.feature_type"),
        js_node_id=_text(fields.pop("jsNodeId"), f"{where}.jsNodeId"),
        clerp=_text(fields.pop("clerp") or "", f"{where}.clerp"),
        token_prob=_number(fields.pop("token_prob", None) or 0.0, f"{where}.token_prob"),
        is_target_logit=bool(fields.pop("is_target_logit", False)),
        run_idx=_whole(fields.pop("run_idx", None) or 0, f"{where}.run_idx"),
        reverse_ctx_idx=_whole(fields.pop("reverse_ctx_idx", None) or 0, f"{where}.reverse_ctx_idx"),
        influence=None if optional["influence"] is None else _number(optional["influence"], f"{where}.influence"),
        activation=None if optional["activation"] is None else _number(optional["activation"], f"{where}.activation"),
        extra=fields,
    )
    layer_number(made)
    return made


def _q_params(value: Any) -> QParams:
    """Lists, or the strings that pages save them as: ids joined by commas, groups as JSON."""
    fields = dict(_mapping(value or {}, "qParams"))
    pinned, groups = fields.pop("pinnedIds", None) or [], fields.pop("supernodes", None) or []
    if isinstance(pinned, str):
        pinned = [each for each in pinned.split(",") if each]
    if isinstance(groups, str):
        try:
            groups = json.loads(groups)
        except (ValueError, RecursionError) as error:
            raise _wrong("qParams.supernodes is not JSON.", got=groups[:80], wanted='[["label", "id", …], …]') from error
    return QParams(
        pinned_ids=tuple(_text(each, f"qParams.pinnedIds[{i}]") for i, each in enumerate(_list(pinned, "qParams.pinnedIds"))),
        supernodes=tuple(_group(group, f"qParams.supernodes[{i}]") for i, group in enumerate(_list(groups, "qParams.supernodes"))),
        link_type=_text(fields.pop("linkType", None) or "both", "qParams.linkType"),
        clicked_id=_text(fields.pop("clickedId", None) or "", "qParams.clickedId"),
        sg_pos=_text(fields.pop("sg_pos", None) or "", "qParams.sg_pos"),
        extra=fields,
    )


def _group(value: Any, where: str) -> tuple[str, ...]:
    return tuple(_text(each, f"{where}[{i}]") for i, each in enumerate(_list(value, where)))


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(f"{where} is no object.", got=type(value).__name__, wanted="an object")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(f"{where} is no list.", got=type(value).__name__, wanted="a list")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(f"{where} is no text.", got=repr(value)[:80], wanted="text")
    return value


def _whole(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(f"{where} is no whole number.", got=repr(value)[:80], wanted="a whole number")
    return value


def _number(value: Any, where: str) -> float:
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.nan
    if not math.isfinite(number):
        raise _wrong(f"{where} is no finite number.", got=repr(value)[:80], wanted="a finite number")
    return number


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _wrong(what: str, *, got: str, wanted: str) -> GraphInvalid:
    return GraphInvalid(what, got=got, wanted=wanted, do=_DO)
