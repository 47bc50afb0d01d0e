"""Neuronpedia's rows (`Neuron`, `Activation`, `Explanation`) and the record, both ways."""

import hashlib
from dataclasses import replace
from typing import Any

from microtome.dictionaries.formats import lens_name
from microtome.errors import HookUnknown
from microtome.features.exchange.files import Json, dumps, loads, need, numbers, taken
from microtome.features.exchange.parts import read_bars, read_logits, read_strip, shared_json
from microtome.features.exchange.record import Example, Explanation, FeatureRecord, Interval, Source
from microtome.models import Site

NAME = "neuronpedia"
CREATOR = "clkht01d40000jv08hvalcvly"
"""Neuronpedia's own default creator: its importer wants one."""
_EMPTY = (
    *("vector", "neuron_alignment_indices", "neuron_alignment_values", "neuron_alignment_l1", "decoder_weights_dist"),
    *("correlated_neurons_indices", "correlated_neurons_pearson", "correlated_neurons_l1"),
    *("correlated_features_indices", "correlated_features_pearson", "correlated_features_l1"),
)
"""Lists that it has columns for and an index does not fill."""


def identifier(*parts: object) -> str:
    """25 characters that look like its ids, the same every time."""
    return "c" + hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:24]


def feature_row(record: FeatureRecord, source: Source, *, created: str) -> Json:
    """`Neuron`."""
    row: Json = {
        "modelId": source.model,
        "layer": source.id,
        "index": str(record.number),
        "creatorId": CREATOR,
        "createdAt": created,
        "maxActApprox": record.max or 0.0,
        "hasVector": False,
        "vectorLabel": None,
        "vectorDefaultSteerStrength": 10,
        "hookName": _hook(source),
        "topkCosSimIndices": [number for number, _ in record.similar],
        "topkCosSimValues": [cosine for _, cosine in record.similar],
        "frac_nonzero": record.density or 0.0,
        **{name: [] for name in _EMPTY},
        **shared_json(record),
    }
    return row | dict(record.extra.get(NAME, {}))


def activation_row(example: Example, record: FeatureRecord, source: Source, *, nth: int, created: str) -> Json:
    """`Activation`. The corpus' place goes where its own exporters write null."""
    values = list(example.activations)
    top, interval = max(values), example.interval
    peak = values.index(top)
    row: Json = {
        "id": identifier(source.model, source.id, record.number, "activation", nth),
        "tokens": example.pieces,
        "index": str(record.number),
        "layer": source.id,
        "modelId": source.model,
        "maxValue": top,
        "maxValueTokenIndex": peak,
        "minValue": min(values),
        "values": values,
        "creatorId": CREATOR,
        "createdAt": created,
        "dataSource": source.dataset or None,
        "dataIndex": example.origin or None,
        "dfaValues": [],
        "dfaTargetIndex": None,
        "dfaMaxValue": None,
        "lossValues": [],
        "logitContributions": None,
        **_interval(interval, top=record.max if record.max is not None else top),
        "qualifyingTokenIndex": example.peak if example.peak >= 0 else None,
    }
    return row | dict(example.extra.get(NAME, {}))


def explanation_row(said: Explanation, record: FeatureRecord, source: Source, *, nth: int, created: str) -> Json:
    """`Explanation`. A method that Neuronpedia has no type for (it checks them) goes into the notes."""
    ours = {"method": said.method, "f1": said.score}
    row: Json = {
        "id": identifier(source.model, source.id, record.number, "explanation", nth),
        "modelId": source.model,
        "layer": source.id,
        "index": str(record.number),
        "description": said.text,
        "authorId": CREATOR,
        "triggeredById": None,
        "typeName": None if said.method in _OURS else said.method or None,
        "explanationModelName": said.model or None,
        "notes": dumps({"microtome": ours}).decode() if said.method in _OURS else None,
        "createdAt": created,
    }
    return row | dict(said.extra.get(NAME, {}))


_OURS = ("rule", "user")


def record_of(row: Json, activations: list[Json], explanations: list[Json], *, source: Source, where: str) -> FeatureRecord:
    """The three kinds of rows of one feature as a record."""
    number, created = int(need(row, "index", (str, int), where=where)), str(row.get("createdAt", ""))
    lists = {name: numbers(row, name, where=where) if name in row else () for name in ("topkCosSimIndices", "topkCosSimValues")}
    bare = FeatureRecord(
        source=source.id,
        number=number,
        density=_float(row, "frac_nonzero"),
        max=_float(row, "maxActApprox"),
        activations=read_bars(row, "freq", where=where),
        logits=read_bars(row, "logits", where=where),
        top_logits=read_logits(row, "pos", where=where),
        bottom_logits=read_logits(row, "neg", where=where),
        similar=tuple((int(near), cosine) for near, cosine in zip(*lists.values(), strict=True)),
    )
    extra = taken(row, feature_row(bare, source, created=created))
    said = tuple(_explanation(each, bare, source, nth=nth) for nth, each in enumerate(explanations))
    shown = tuple(_example(each, bare, source, nth=nth, where=where) for nth, each in enumerate(activations))
    return replace(bare, examples=shown, explanations=said, extra={NAME: extra} if extra else {})


def _example(row: Json, record: FeatureRecord, source: Source, *, nth: int, where: str) -> Example:
    tokens, values = read_strip(row, values="values", where=where)
    share = row.get("binContains")
    interval = None if share in (None, -1) else Interval(low=row.get("binMin"), high=row.get("binMax"), share=share)
    peak = row.get("qualifyingTokenIndex")
    bare = Example(
        tokens=tokens,
        activations=values,
        peak=peak if isinstance(peak, int) else -1,
        interval=interval,
        origin=str(row.get("dataIndex") or ""),
    )
    extra = taken(row, activation_row(bare, record, source, nth=nth, created=str(row.get("createdAt", ""))))
    return replace(bare, extra={NAME: extra} if extra else {})


def _explanation(row: Json, record: FeatureRecord, source: Source, *, nth: int) -> Explanation:
    method, score, notes = row.get("typeName") or "", None, row.get("notes")
    if not method and isinstance(notes, str) and notes.startswith('{"microtome"'):
        ours: Any = loads(notes, where="notes")["microtome"]
        method, score = ours["method"], ours["f1"]
    bare = Explanation(text=str(row.get("description", "")), method=method, model=row.get("explanationModelName") or "", score=score)
    extra = taken(row, explanation_row(bare, record, source, nth=nth, created=str(row.get("createdAt", ""))))
    return replace(bare, extra={NAME: extra} if extra else {})


def _interval(interval: Interval | None, *, top: float) -> Json:
    """Its own mark of the strongest: -1, the maximum, -1."""
    if interval is None:
        return {"binMin": -1, "binMax": top, "binContains": -1}
    return {"binMin": interval.low, "binMax": interval.high, "binContains": interval.share}


def _float(row: Json, name: str) -> float | None:
    value = row.get(name)
    return float(value) if isinstance(value, int | float) else None


def _hook(source: Source) -> str | None:
    try:
        return lens_name(Site.parse(source.site)) if source.site else None
    except HookUnknown:
        return None
