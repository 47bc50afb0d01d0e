"""OpenAI's NeuronRecord (automated-interpretability): `LAYER/NEURON.json`, or one such file. Read only.

`most_positive_activation_records`, then the random samples, by quantile where the file has them. `mean` and its like stay in `extra`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, final

from microtome.features.exchange.files import Json, invalid, need, read_json
from microtome.features.exchange.format import EXCHANGES, Bundle
from microtome.features.exchange.parts import read_strip
from microtome.features.exchange.record import Example, FeatureRecord, Interval, Source

NAME = "neuron-record"
_READ = ("neuron_id", "most_positive_activation_records", "random_sample", "random_sample_by_quantile", "quantile_boundaries", "dataclass_name")


@final
class NeuronRecord:
    """See the top of this file."""

    def detect(self, path: Path) -> bool:
        if path.is_file():
            return path.suffix == ".json" and {"neuron_id", "most_positive_activation_records"} <= set(read_json(path))
        first = next(iter(_files(path)), None)
        return first is not None and self.detect(first)

    def read(self, path: Path) -> Bundle:
        files: dict[int, dict[int, Path]] = {}
        for file in [path] if path.is_file() else _files(path):
            layer, number = _identity(read_json(file), where=str(file)) if path.is_file() else (int(file.parent.name), int(file.stem))
            files.setdefault(layer, {})[number] = file
        name = path.parent.name if path.is_file() else path.name
        sources = tuple(Source(id=f"{layer}-neurons", model=name, set_name="neurons", layer=layer) for layer in sorted(files))
        return Bundle(
            format=NAME,
            path=str(path),
            sources=sources,
            numbers=lambda source: sorted(files[source.layer or 0]),
            records=lambda source, wanted: _records(files[source.layer or 0], source, wanted),
        )


def _files(path: Path) -> list[Path]:
    found = [file for file in path.glob("*/*.json") if file.stem.isdecimal() and file.parent.name.isdecimal()]
    return sorted(found, key=lambda file: (int(file.parent.name), int(file.stem)))


def _identity(found: Json, *, where: str) -> tuple[int, int]:
    """Layer and neuron; older files call them `layer` and `idx`."""
    said: Json = need(found, "neuron_id", dict, where=where)
    layer, number = said.get("layer_index", said.get("layer")), said.get("neuron_index", said.get("idx"))
    try:
        return int(str(layer)), int(str(number))
    except ValueError as error:
        raise invalid(where, got=str(said)[:200], wanted="neuron_id: layer_index and neuron_index") from error


def _records(files: dict[int, Path], source: Source, wanted: Sequence[int] | None) -> Iterator[FeatureRecord]:
    for number in sorted(files) if wanted is None else sorted(each for each in wanted if each in files):
        where = str(files[number])
        found = read_json(files[number])
        shown = tuple(_examples(found, where=where))
        extra = {name: value for name, value in found.items() if name not in _READ and value is not None}
        yield FeatureRecord(
            source=source.id,
            number=_identity(found, where=where)[1],
            max=max((value for example in shown for value in example.activations), default=None),
            examples=shown,
            extra={NAME: extra} if extra else {},
        )


def _examples(found: Json, *, where: str) -> Iterator[Example]:
    for each in need(found, "most_positive_activation_records", list, where=where):
        yield _example(each, interval=None, where=where)
    bounds = found.get("quantile_boundaries") or []
    groups: list[Any] = found.get("random_sample_by_quantile") or []
    for index, group in enumerate(groups):
        low, high = (bounds[at] if 0 <= at < len(bounds) else None for at in (index - 1, index))
        for each in group:
            yield _example(each, interval=Interval(low=low, high=high, name=f"quantile {index}"), where=where)
    for each in found.get("random_sample") or []:
        yield _example(each, interval=Interval(name="random sample"), where=where)


def _example(found: Any, *, interval: Interval | None, where: str) -> Example:
    tokens, values = read_strip(found, values="activations", where=where)
    return Example(tokens=tokens, activations=values, peak=values.index(max(values)), interval=interval)


EXCHANGES.register(NAME)(NeuronRecord())
