"""What `POST /api/feature/upload-batch` of Neuronpedia takes: `SOURCE/upload-0.json`, … with at most 128 features each.

Its limits: 20 logits at either end, 512 characters an explanation, 1,024 tokens an example. What is longer is cut, since it would be refused.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from microtome.artifacts import Draft
from microtome.features.exchange.batch_files import batch_files, features_in, write_batches
from microtome.features.exchange.files import Json, invalid, need, read_json, taken
from microtome.features.exchange.format import EXCHANGES, Bundle, layer_of
from microtome.features.exchange.parts import read_strip
from microtome.features.exchange.record import Example, Explanation, FeatureRecord, Interval, Source, TokenLogit
from microtome.progress import Throttled

NAME = "neuronpedia-upload"
CALLED = "upload"
MAX_LOGITS, MAX_TEXT, MAX_TOKENS = 20, 512, 1024


@final
class NeuronpediaUpload:
    """See the top of this file."""

    def detect(self, path: Path) -> bool:
        if path.is_file():
            return path.suffix == ".json" and {"modelId", "source", "features"} <= set(read_json(path))
        first = next(iter(batch_files(path, CALLED)), None)
        return first is not None and self.detect(first)

    def read(self, path: Path) -> Bundle:
        files: dict[str, list[Path]] = {}
        sources: dict[str, Source] = {}
        for file in batch_files(path, CALLED):
            source = _source(read_json(file), where=str(file))
            files.setdefault(source.id, []).append(file)
            sources[source.id] = source
        return Bundle(
            format=NAME,
            path=str(path),
            sources=tuple(sources.values()),
            numbers=lambda source: [record.number for record in _records(files[source.id], source, None)],
            records=lambda source, wanted: _records(files[source.id], source, wanted),
        )

    def write(self, bundle: Bundle, draft: Draft, *, tell: Throttled) -> None:
        for source in bundle.sources:
            layer_of(source, format_name="Neuronpedia")
        write_batches(bundle, draft, called=CALLED, content=_batch, tell=tell)


def _batch(source: Source, records: Iterator[FeatureRecord]) -> Json:
    return {"modelId": source.model, "source": source.id, "features": [payload(record) for record in records]}


def payload(record: FeatureRecord) -> Json:
    """One feature as the route takes it."""
    found: Json = {"index": record.number, "density": record.density}
    for name, entries in (("topLogits", record.top_logits), ("bottomLogits", record.bottom_logits)):
        found[name] = [{"token": entry.text, "value": entry.value or 0.0} for entry in entries[:MAX_LOGITS]]
    found["explanations"] = [
        {"text": _short(said.text), "methodName": None if said.method in ("rule", "user") else said.method or None, "modelName": said.model or None}
        for said in record.explanations
    ]
    found["activations"] = [_activation(example, top=record.max) for example in record.examples]
    return found | dict(record.extra.get(NAME, {}))


def _activation(example: Example, *, top: float | None) -> Json:
    interval = example.interval or Interval(low=None, high=None, share=None)
    return {
        "tokens": example.pieces[:MAX_TOKENS],
        "values": list(example.activations[:MAX_TOKENS]),
        "quantileMin": interval.low,
        "quantileMax": interval.high,
        "quantileFraction": interval.share,
    }


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _source(batch: Json, *, where: str) -> Source:
    id = need(batch, "source", str, where=where)
    layer, _, rest = id.partition("-")
    return Source(id=id, model=need(batch, "modelId", str, where=where), set_name=rest, layer=int(layer) if layer.isdecimal() else None)


def _records(files: Sequence[Path], source: Source, wanted: Sequence[int] | None) -> Iterator[FeatureRecord]:
    return (_record(found, source, where=where) for found, where in features_in(files, number="index", wanted=wanted))


def _record(found: Json, source: Source, *, where: str) -> FeatureRecord:
    examples = tuple(_example(each, where=where) for each in found.get("activations") or [])
    bare = FeatureRecord(
        source=source.id,
        number=int(found["index"]),
        density=found.get("density"),
        top_logits=_logits(found.get("topLogits"), where=where),
        bottom_logits=_logits(found.get("bottomLogits"), where=where),
        explanations=tuple(
            Explanation(text=str(each.get("text", "")), method=each.get("methodName") or "", model=each.get("modelName") or "")
            for each in found.get("explanations") or []
        ),
        examples=examples,
        max=max((value for example in examples for value in example.activations), default=None),
    )
    extra = taken(found, payload(bare))
    return replace(bare, extra={NAME: extra} if extra else {})


def _example(found: Any, *, where: str) -> Example:
    tokens, values = read_strip(found, values="values", where=where)
    share = found.get("quantileFraction")
    interval = None if share is None else Interval(low=found.get("quantileMin"), high=found.get("quantileMax"), share=share)
    return Example(tokens=tokens, activations=values, peak=values.index(max(values)), interval=interval)


def _logits(found: Any, *, where: str) -> tuple[TokenLogit, ...]:
    if any(not isinstance(each, dict) or "token" not in each for each in found or []):
        raise invalid(where, got=str(found)[:200], wanted="logits: objects with token and value")
    return tuple(TokenLogit(text=str(each["token"]), value=each.get("value")) for each in found or [])


EXCHANGES.register(NAME)(NeuronpediaUpload())
