r"""circuit-tracer's feature files: `features/index.json.gz` and one `.bin` a layer, read by byte range from any host.

The index holds for each layer `filename` and `offsets`, one more than features; a record is 4 bytes of length (little-endian) and zlib-packed
JSON. Its pages show tokens that hold part of a character as the escapes `\xe6\x97` and join them, so bytes stay exact token by token; a backslash
that would be read as such an escape is itself written `\x5c`. Records of features that are left out say so and are passed over on reading.
"""

import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, BinaryIO, final

from microtome.artifacts import Draft
from microtome.features.exchange.files import Json, dumps, invalid, loads, need, numbers, pack, read_json, taken, texts
from microtome.features.exchange.format import EXCHANGES, Bundle, count_of, layer_of
from microtome.features.exchange.parts import read_strip
from microtome.features.exchange.record import Bars, Example, FeatureRecord, Interval, Source, TokenLogit
from microtome.progress import Throttled

NAME = "circuit-tracer"
INDEX = "features/index.json.gz"
_TOP = "Top activations"
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
_MOST = 1 << 28
"""No record is longer; a length beyond it is damage."""


@final
class CircuitTracer:
    """See the top of this file."""

    def detect(self, path: Path) -> bool:
        return path.is_dir() and _index_of(path) is not None

    def read(self, path: Path) -> Bundle:
        index = _index_of(path)
        assert index is not None
        content = loads(zlib.decompress(index.read_bytes(), 47), where=str(index)) if index.suffix == ".gz" else read_json(index)
        listed = content.items() if isinstance(content, dict) else enumerate(content)
        layers = {int(layer): facts for layer, facts in listed if facts}
        opened = {layer: _Layer(index.parent, facts) for layer, facts in sorted(layers.items())}
        sources = _sources(opened, name=index.parent.parent.name)
        of = {source.id: opened[source.layer or 0] for source in sources}
        return Bundle(
            format=NAME,
            path=str(path),
            sources=sources,
            numbers=lambda source: [number for number, found in of[source.id].objects(None) if not found.get("left_out")],
            records=lambda source, wanted: of[source.id].records(source, wanted),
        )

    def write(self, bundle: Bundle, draft: Draft, *, tell: Throttled) -> None:
        done, total = 0, count_of(bundle)
        index: Json = {}
        for source in bundle.sources:
            layer, chosen = layer_of(source, format_name="circuit-tracer"), bundle.numbers(source)
            name = f"layer_{layer}.bin"
            if not draft.has(f"features/{name}"):
                with draft.place(f"features/{name}") as temporary, temporary.open("wb") as file:
                    for number in _write_layer(file, bundle, source):
                        tell("write features", done + number, total, unit="features")
            index[str(layer)] = {"filename": name, "offsets": _offsets(draft.path / "features" / name)}
            done += len(chosen)
            tell("write features", done, total, unit="features")
        draft.write(INDEX, pack(dumps(index)))


def _write_layer(file: BinaryIO, bundle: Bundle, source: Source) -> Iterator[int]:
    """Every feature of a dictionary in order, and how many of the wanted ones are written."""
    wanted, written = bundle.numbers(source), 0
    coming = bundle.records(source, wanted)
    record = next(coming, None)
    for number in range(source.n_features or (wanted[-1] + 1 if len(wanted) else 0)):
        if record is not None and record.number == number:
            content = feature_json(record)
            record, written = next(coming, None), written + 1
            yield written
        else:
            content = feature_json(FeatureRecord(source=source.id, number=number)) | {"left_out": True}
        packed = zlib.compress(dumps(content), 6)
        file.write(struct.pack("<I", len(packed)) + packed)


def _offsets(path: Path) -> list[int]:
    """Where each record begins, and where the last one ends, from the lengths in the file."""
    found, size = [0], path.stat().st_size
    with path.open("rb") as file:
        while found[-1] < size:
            file.seek(found[-1])
            found.append(found[-1] + 4 + struct.unpack("<I", file.read(4))[0])
    return found


def feature_json(record: FeatureRecord) -> Json:
    """One feature as its pages read it."""
    bars = record.activations or Bars()
    found: Json = {
        "transcoder_id": record.source,
        "index": record.number,
        "examples_quantiles": [_quantile(list(group)) for _, group in groupby(record.examples, key=lambda example: example.interval)],
        "top_logits": [entry.text for entry in record.top_logits],
        "bottom_logits": [entry.text for entry in record.bottom_logits],
        "act_min": 0.0,
        "act_max": record.max or 0.0,
        "quantile_values": list(record.percentiles),
        "histogram": list(bars.heights),
        "activation_frequency": record.density or 0.0,
    }
    return found | dict(record.extra.get(NAME, {}))


def _quantile(examples: Sequence[Example]) -> Json:
    interval = examples[0].interval
    found: Json = {"quantile_name": _TOP, "examples": [_example_json(example) for example in examples]}
    if interval is not None:
        found |= {"quantile_name": interval.name or f"{interval.low} to {interval.high}", "low": interval.low, "high": interval.high}
        found["share"] = interval.share
    return found


def _example_json(example: Example) -> Json:
    found: Json = {
        "tokens": [escaped(token) for token in example.tokens],
        "tokens_acts_list": list(example.activations),
        "train_token_ind": example.peak,
        "is_repeated_datapoint": False,
    }
    return found | dict(example.extra.get(NAME, {}))


def escaped(token: bytes) -> str:
    r"""The bytes of a token as a string: whole characters as they are, other bytes as `\xe6`."""
    plain = _ESCAPE.sub(rb"\\x5cx\1", token)
    return plain.decode("utf-8", "backslashreplace")


def unescaped(token: str) -> bytes:
    """The inverse of `escaped`."""
    raw = token.encode("utf-8", "replace")
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), raw)


def _index_of(path: Path) -> Path | None:
    names = ("index.json.gz", "features/index.json.gz")
    return next((path / name for name in names if (path / name).is_file() and (path / name).parent.name == "features"), None)


def _sources(opened: "Mapping[int, _Layer]", *, name: str) -> tuple[Source, ...]:
    """One a layer, called as its records say where each layer has a name of its own."""
    said = {layer: next((str(found.get("transcoder_id") or "") for _, found in each.objects(None)), "") for layer, each in opened.items()}
    unique = len(set(said.values())) == len(said) and all(said.values())
    ids = {layer: said[layer] if unique else f"{layer}-{name}" for layer in opened}
    return tuple(Source(id=ids[layer], model="", set_name=name, layer=layer, n_features=len(each)) for layer, each in opened.items())


@final
class _Layer:
    """One `.bin`, read record by record."""

    def __init__(self, folder: Path, facts: Json) -> None:
        name = need(facts, "filename", str, where=f"{folder}/index.json.gz")
        if Path(name).name != name:
            raise invalid(f"{folder}/index.json.gz", got=name, wanted="a filename without folders")
        self._path = folder / name
        self._offsets = [int(offset) for offset in need(facts, "offsets", list, where=f"{folder}/index.json.gz")]
        size = self._path.stat().st_size if self._path.is_file() else -1
        rises = all(low <= high for low, high in pairwise(self._offsets))
        if not self._offsets or not rises or self._offsets[0] < 0 or self._offsets[-1] > size:
            raise invalid(str(self._path), got=f"{size} bytes", wanted=f"offsets that rise, up to {self._offsets[-1:]}")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def records(self, source: Source, wanted: Sequence[int] | None) -> Iterator[FeatureRecord]:
        for number, found in self.objects(wanted):
            if not found.get("left_out"):
                yield _record(found, source, where=f"{self._path}, feature {number}")

    def objects(self, wanted: Sequence[int] | None) -> Iterator[tuple[int, Json]]:
        """The JSON of some features, or of all; one read a feature."""
        with self._path.open("rb") as file:
            for number in range(len(self)) if wanted is None else sorted(each for each in wanted if 0 <= each < len(self)):
                low, high = self._offsets[number : number + 2]
                if high > low:
                    file.seek(low)
                    yield number, self._unpacked(file.read(high - low), number)

    def _unpacked(self, raw: bytes, number: int) -> Json:
        where = f"{self._path}, feature {number}"
        length = struct.unpack("<I", raw[:4])[0] if len(raw) >= 4 else _MOST
        if length > len(raw) - 4:
            raise invalid(where, got=f"a length of {length}", wanted=f"at most {max(0, len(raw) - 4)} bytes")
        try:
            content = zlib.decompress(raw[4 : 4 + length], 47)  # zlib or gzip
        except zlib.error as error:
            raise invalid(where, got=str(error), wanted="4 bytes of length and zlib-packed JSON") from error
        found: Any = loads(content, where=where)
        if not isinstance(found, dict):
            raise invalid(where, got=type(found).__name__, wanted="a JSON object")
        return found


def _record(found: Json, source: Source, *, where: str) -> FeatureRecord:
    heights = numbers(found, "histogram", where=where) if found.get("histogram") else ()
    top = found.get("act_max")
    bare = FeatureRecord(
        source=source.id,
        number=int(need(found, "index", int, where=where)),
        density=found.get("activation_frequency"),
        max=top,
        activations=_bars(heights, low=found.get("act_min") or 0.0, high=top or 0.0) if heights else None,
        percentiles=numbers(found, "quantile_values", where=where) if found.get("quantile_values") else (),
        top_logits=tuple(TokenLogit(text=text) for text in texts(found, "top_logits", where=where)) if found.get("top_logits") else (),
        bottom_logits=tuple(TokenLogit(text=text) for text in texts(found, "bottom_logits", where=where)) if found.get("bottom_logits") else (),
        examples=tuple(_examples(found, where=where)),
    )
    extra = taken(found, feature_json(bare))
    return replace(bare, extra={NAME: extra} if extra else {})


def _examples(found: Json, *, where: str) -> Iterator[Example]:
    for quantile in need(found, "examples_quantiles", list, where=where):
        name = str(quantile.get("quantile_name", ""))
        interval = None
        if name != _TOP:
            interval = Interval(low=quantile.get("low"), high=quantile.get("high"), share=quantile.get("share"), name=name)
        for each in need(quantile, "examples", list, where=where):
            _, values = read_strip(each, values="tokens_acts_list", where=where)
            tokens, peak = tuple(map(unescaped, each["tokens"])), each.get("train_token_ind")
            bare = Example(tokens=tokens, activations=values, peak=peak if isinstance(peak, int) else -1, interval=interval)
            extra = taken(each, _example_json(bare))
            yield replace(bare, extra={NAME: extra} if extra else {})


def _bars(heights: tuple[float, ...], *, low: float, high: float) -> Bars:
    width = (high - low) / len(heights)
    return Bars(values=tuple(low + (i + 0.5) * width for i in range(len(heights))), heights=heights)


EXCHANGES.register(NAME)(CircuitTracer())
