"""Files of at most 128 features each, as Neuronpedia's upload and SAEDashboard have them: found, read and written."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from microtome.artifacts import Draft
from microtome.features.exchange.files import Json, dumps, need, read_json
from microtome.features.exchange.format import Bundle, batches, count_of
from microtome.features.exchange.record import FeatureRecord, Source
from microtome.progress import Throttled


def write_batches(bundle: Bundle, draft: Draft, *, called: str, content: Callable[[Source, Iterator[FeatureRecord]], Json], tell: Throttled) -> None:
    """`SOURCE/CALLED-0.json`, …: JSON of at most 128 features each; those that are there already are passed by."""
    done, total = 0, count_of(bundle)
    for source in bundle.sources:
        for number, wanted in enumerate(batches(bundle.numbers(source))):
            name = f"{source.id}/{called}-{number}.json"
            if not draft.has(name):
                draft.write(name, dumps(content(source, bundle.records(source, wanted))))
            done += len(wanted)
            tell("write features", done, total, unit="features")


def batch_files(path: Path, called: str) -> list[Path]:
    """The files that `write_batches` makes, of one source or of several, each source's in order; or the one that `path` is."""
    if path.is_file():
        return [path]
    found = [*path.glob(f"{called}-*.json"), *path.glob(f"*/{called}-*.json")]
    return sorted(found, key=lambda file: (str(file.parent), len(file.name), file.name))


def features_in(files: Sequence[Path], *, number: str, wanted: Sequence[int] | None) -> Iterator[tuple[Json, str]]:
    """The features of such files, all or those whose `number` is wanted, each with the words for where it stands; `BundleInvalid`."""
    chosen = None if wanted is None else set(wanted)
    for file in files:
        for found in need(read_json(file), "features", list, where=str(file)):
            own = int(need(found, number, int, where=str(file)))
            if chosen is None or own in chosen:
                yield found, f"{file}, feature {own}"
