"""Neuronpedia's bulk files (its v1 exports), and the feature that its API answers with.

    v1/MODEL/SOURCE/release.jsonl, model.jsonl, sourceset.jsonl, source.jsonl
                    features/batch-0.jsonl.gz, activations/batch-0.jsonl.gz, explanations/batch-0.jsonl.gz, …

A folder with one source or with many is read; batches of the three kinds with one name belong together. A single `.json` file that the feature
route of its API gave (`/api/feature/MODEL/SOURCE/INDEX`) is read too.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import final

from microtome.artifacts import Draft
from microtome.features.exchange.files import Json, invalid, lines, need, pack, read_json, read_lines, taken
from microtome.features.exchange.format import EXCHANGES, Bundle, batches, count_of, layer_of
from microtome.features.exchange.neuronpedia_rows import CREATOR, NAME, activation_row, explanation_row, feature_row, record_of
from microtome.features.exchange.record import FeatureRecord, Source
from microtome.progress import Throttled

_PARTS = ("features", "activations", "explanations")
CREATED = datetime(2025, 1, 1, tzinfo=UTC).isoformat()
"""Its rows need a time. Ours is the same whenever the files are written, so that equal work gives equal files."""


@final
class Neuronpedia:
    """See the top of this file."""

    def detect(self, path: Path) -> bool:
        if path.is_file():
            return path.suffix == ".json" and {"modelId", "layer", "index"} <= set(read_json(path))
        return any(_folders(path))

    def read(self, path: Path) -> Bundle:
        if path.is_file():
            return _one(path)
        folders = {source.id: folder for folder in sorted(set(_folders(path))) for source in [_source(folder)]}
        sources = tuple(_source(folder) for folder in folders.values())
        return Bundle(
            format=NAME,
            path=str(path),
            sources=sources,
            numbers=lambda source: sorted(int(row["index"]) for file in _batches_of(folders[source.id], "features") for row in read_lines(file)),
            records=lambda source, wanted: _records(folders[source.id], source, wanted),
        )

    def write(self, bundle: Bundle, draft: Draft, *, tell: Throttled) -> None:
        done, total = 0, count_of(bundle)
        for source in bundle.sources:
            folder = f"v1/{source.model}/{source.id}"
            for name, row in _about(source, layer=layer_of(source, format_name="Neuronpedia")).items():
                draft.write(f"{folder}/{name}.jsonl", lines([row]))
            for number, wanted in enumerate(batches(bundle.numbers(source))):
                if not all(draft.has(f"{folder}/{part}/batch-{number}.jsonl.gz") for part in _PARTS):
                    for part, rows in _batch(bundle.records(source, wanted), source).items():
                        draft.write(f"{folder}/{part}/batch-{number}.jsonl.gz", pack(lines(rows)))
                done += len(wanted)
                tell("write features", done, total, unit="features")


def _batch(records: Iterator[FeatureRecord], source: Source) -> dict[str, list[Json]]:
    rows: dict[str, list[Json]] = {part: [] for part in _PARTS}
    for record in records:
        rows["features"].append(feature_row(record, source, created=CREATED))
        said, shown = record.explanations, record.examples
        rows["explanations"] += [explanation_row(each, record, source, nth=nth, created=CREATED) for nth, each in enumerate(said)]
        rows["activations"] += [activation_row(each, record, source, nth=nth, created=CREATED) for nth, each in enumerate(shown)]
    return rows


def _about(source: Source, *, layer: int) -> dict[str, Json]:
    """The four files about a source."""
    kept = source.extra.get(NAME, {})
    created = {"creatorId": CREATOR, "createdAt": CREATED}
    rows: dict[str, Json] = {
        "release": {"name": source.set_name, "description": source.set_name, "creatorName": "", "urls": [], "visibility": "PUBLIC", **created},
        "model": {"id": source.model, "instruct": False, "displayName": source.model, "displayNameShort": source.model, "layers": layer + 1}
        | {"owner": "", "updatedAt": CREATED, **created},
        "sourceset": {"modelId": source.model, "name": source.set_name, "releaseName": source.set_name, "description": source.set_name}
        | {"creatorName": "", "type": "", "urls": [], "visibility": "PUBLIC", "hasDashboards": True, **created},
        "source": {"id": source.id, "modelId": source.model, "setName": source.set_name, "visibility": "PUBLIC", "hasDashboards": True}
        | {"inferenceEnabled": False, "dataset": source.dataset, "num_prompts": source.n_prompts, "num_tokens_in_prompt": source.prompt_tokens}
        | created,
    }
    return {name: row | kept.get(name, {}) for name, row in rows.items()}


def _folders(path: Path) -> Iterator[Path]:
    """The folders of sources: this one, or those below it as `SOURCE`, `MODEL/SOURCE` or `v1/MODEL/SOURCE`."""
    for pattern in ("features", "*/features", "*/*/features", "v1/*/*/features"):
        for features in path.glob(pattern):
            if next(features.glob("batch-*.jsonl*"), None) is not None:
                yield features.parent


def _source(folder: Path) -> Source:
    """What the four files say, or the names of the folders."""
    found: dict[str, Json] = {}
    for name in ("release", "model", "sourceset", "source"):
        file = next((folder / each for each in (f"{name}.jsonl", f"{name}.jsonl.gz") if (folder / each).is_file()), None)
        found[name] = next(read_lines(file), {}) if file is not None else {}
    said = found["source"]
    id = str(said.get("id") or folder.name)
    layer, _, rest = id.partition("-")
    bare = Source(
        id=id,
        model=str(said.get("modelId") or folder.parent.name),
        set_name=str(said.get("setName") or rest),
        layer=int(layer) if layer.isdecimal() else None,
        dataset=str(said.get("dataset") or ""),
        n_prompts=int(said.get("num_prompts") or 0),
        prompt_tokens=int(said.get("num_tokens_in_prompt") or 0),
    )
    written = _about(bare, layer=bare.layer or 0)
    kept = {name: taken(row, written[name]) for name, row in found.items()}
    extra = {name: row for name, row in kept.items() if row}
    return replace(bare, extra={NAME: extra} if extra else {})


def _batches_of(folder: Path, part: str) -> list[Path]:
    """The files of one kind in the order of their numbers."""
    found = (folder / part).glob("batch-*.jsonl*")
    return sorted(found, key=lambda file: (len(file.name), file.name))


def _records(folder: Path, source: Source, wanted: Sequence[int] | None) -> Iterator[FeatureRecord]:
    """Batch by batch; a batch that holds none of the wanted features is read no further than its rows."""
    chosen = None if wanted is None else set(wanted)
    for file in _batches_of(folder, "features"):
        rows = {int(need(row, "index", (str, int), where=str(file))): row for row in read_lines(file)}
        asked = [number for number in sorted(rows) if chosen is None or number in chosen]
        if not asked:
            continue
        shown, said = (_by_feature(folder / part / file.name, known=rows) for part in ("activations", "explanations"))
        for number in asked:
            yield record_of(rows[number], shown[number], said[number], source=source, where=f"{file}, feature {number}")


def _by_feature(file: Path, *, known: dict[int, Json]) -> dict[int, list[Json]]:
    """The rows of a batch by feature. A row of a feature that is in another batch would be lost, so it is refused."""
    found: dict[int, list[Json]] = defaultdict(list)
    for row in read_lines(file) if file.is_file() else ():
        number = int(need(row, "index", (str, int), where=str(file)))
        if number not in known:
            raise invalid(str(file), got=f"a row of feature {number}", wanted="features of the batch of that name")
        found[number].append(row)
    return found


def _one(path: Path) -> Bundle:
    """The answer of the feature route: the three kinds of rows in one object."""
    row = read_json(path)
    shown, said = row.pop("activations", None) or [], row.pop("explanations", None) or []
    layer, _, rest = str(row["layer"]).partition("-")
    source = Source(id=str(row["layer"]), model=str(row["modelId"]), set_name=rest, layer=int(layer) if layer.isdecimal() else None)
    record = record_of(row, shown, said, source=source, where=str(path))
    return Bundle(
        format=NAME,
        path=str(path),
        sources=(source,),
        numbers=lambda _: [record.number],
        records=lambda _, wanted: iter([record] if wanted is None or record.number in wanted else []),
    )


EXCHANGES.register(NAME)(Neuronpedia())
