"""What a format of features is, and the bundle that its files are opened as."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from microtome.artifacts import Draft
from microtome.errors import FeatureNotFound, FormatCannotHold, NotRegistered, SiteNotFound, nearest
from microtome.features.arrays import Array
from microtome.features.exchange.record import FeatureRecord, Source
from microtome.progress import Throttled
from microtome.registry import Registry

BATCH = 128
"""Features in a file, as Neuronpedia and SAEDashboard have them."""


@dataclass(frozen=True, kw_only=True)
class Entries:
    """Activations of a run of features of one dictionary, in the order of their tokens."""

    positions: Array
    """Token of the whole corpus, int64."""
    numbers: Array
    """The feature's number, int64."""
    values: Array
    """float32."""


@runtime_checkable
class Cache(Protocol):
    """Every activation over a corpus, for formats that hold them all."""

    @property
    def tokens(self) -> Array:
        """Token ids of the corpus, one after another."""
        ...

    @property
    def context(self) -> int:
        """Tokens that the model saw at once."""
        ...

    def counts(self, source: Source) -> Array:
        """Firings of each feature of a source."""
        ...

    def entries(self, source: Source, *, first: int, last: int) -> Entries:
        """The activations of the features first … last."""
        ...

    def token_bytes(self, token: int) -> bytes:
        """The exact bytes of a token."""
        ...

    @property
    def n_vocab(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Features that can be read one after another: an index, or the files of another tool. Nothing is held in memory."""

    format: str
    path: str
    sources: tuple[Source, ...]
    numbers: Callable[[Source], Sequence[int]]
    """The features of a source that are there."""
    records: Callable[[Source, Sequence[int] | None], Iterator[FeatureRecord]]
    """The records of some features of a source, or of all, in ascending order."""
    cache: Cache | None = None
    """Every activation, where the files hold them."""

    def source(self, name: str | None = None) -> Source:
        """The source with that id or site, or the only one; `SiteNotFound`."""
        found = [each for each in self.sources if name in (None, each.id, each.site)]
        if len(found) == 1:
            return found[0]
        ids = ", ".join(each.id for each in self.sources)
        what = f"{self.path} holds features of {len(self.sources)} dictionaries."
        raise SiteNotFound(what, got=name or "none named", wanted=ids, do="Name one of them with --site.")

    def feature(self, number: int, *, source: str | None = None) -> FeatureRecord:
        """One feature; `FeatureNotFound`, `SiteNotFound`."""
        where = self.source(source)
        for record in self.records(where, [number]):
            return record
        what = f"{where.id} has no feature {number} in these files."
        raise FeatureNotFound(what, got=number, wanted=_said(self.numbers(where), number=number), do="Give one that is listed.")


@runtime_checkable
class Exchange(Protocol):
    """One format of files about features."""

    def detect(self, path: Path) -> bool:
        """Whether a folder or file is of this format."""
        ...

    def read(self, path: Path) -> Bundle:
        """Open it; what is out of order raises `BundleInvalid`."""
        ...


@runtime_checkable
class Writable(Exchange, Protocol):
    """A format that is written too."""

    def write(self, bundle: Bundle, draft: Draft, *, tell: Throttled) -> None:
        """Write a bundle, file by file, going on behind the files that are there. What it has no place for raises `FormatCannotHold`."""
        ...


EXCHANGES: Registry[Exchange] = Registry("exchange")


def written_formats() -> list[str]:
    """The names of the formats that are written."""
    return [name for name in EXCHANGES if isinstance(EXCHANGES.get(name), Writable)]


def writer_of(name: str, *, also: Sequence[str] = ()) -> Writable:
    """The format of that name; `also` are what else may be asked for where this is called. Raises `NotRegistered`, `FormatCannotHold`."""
    known = [*written_formats(), *also]
    if name not in EXCHANGES:
        raise NotRegistered(f'no format is called "{name}".', got=name, wanted=", ".join(known), do=nearest(name, known))
    found = EXCHANGES.get(name)
    if not isinstance(found, Writable):
        raise FormatCannotHold(f"{name} files are read, not written.", got=name, wanted=", ".join(known), do="Write one of those.")
    return found


def batches(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    """Runs of at most 128."""
    for start in range(0, len(numbers), BATCH):
        yield numbers[start : start + BATCH]


def layer_of(source: Source, *, format_name: str) -> int:
    """The layer, for formats that are ordered by it."""
    if source.layer is None:
        do = "Export another dictionary, or to a format that needs no layer: static."
        raise FormatCannotHold(f"{format_name} files need a layer.", got=source.site or "no layer", wanted="a site in a layer", do=do)
    return source.layer


def count_of(bundle: Bundle) -> int:
    """Features of all sources."""
    return sum(len(bundle.numbers(source)) for source in bundle.sources)


def _said(known: Sequence[int], *, number: int) -> str:
    """Which features there are, with the nearest on either side of a number that is not among them."""
    if len(known) == 0:
        return "none: it is empty"
    if len(known) == 1:
        return f"feature {known[0]}, the only one"
    span = f"one of {len(known):,} features, {known[0]} … {known[-1]}"
    at = bisect_left(known, number)
    near = [str(known[each]) for each in (at - 1, at) if 0 <= each < len(known)]
    return f"{span}; the nearest {'is' if len(near) == 1 else 'are'} {' and '.join(near)}"
