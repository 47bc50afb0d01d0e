"""What a format is: how its files are known, read and written."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from microtome.dictionaries.dictionary import Dictionary
from microtome.dictionaries.layers import DictionarySet, SetKind
from microtome.errors import FormatCannotHold, SiteNotFound
from microtome.models import Site
from microtome.registry import Registry
from microtome.shapes import Tensor


@dataclass(frozen=True, kw_only=True)
class Hints:
    """What a reader may need to be told, because the files do not say it."""

    name: str
    """The path or hub reference; some formats say the site only there."""
    reads: Site | None = None
    """The site read, over anything that the files say."""
    writes: Site | None = None
    """The site written, where it is another one."""
    input_scale: float | None = None
    """The factor on activations that a file calls for without holding it."""
    member: Site | None = None
    """Of a set, the site of the one dictionary that need be read; None for all."""
    gain: Callable[[Site], Tensor] | None = None
    """The gain of the norm before a site, for dictionaries that read between a norm's scale and its gain."""

    def asks_for(self, site: Site) -> bool:
        """Whether the member of a set that reads `site` is wanted."""
        return self.member in (None, site)


class Read(NamedTuple):
    """A dictionary, and what its files say about it that changes no number (model, context size, how it was trained)."""

    dictionary: Dictionary | DictionarySet
    about: Mapping[str, Any]


@runtime_checkable
class Format(Protocol):
    """One format of dictionary files."""

    def detect(self, names: Collection[str]) -> tuple[str, ...]:
        """Which of a folder's files (paths relative to it, `/` between) a reading needs; nothing if the folder is not of this format."""
        ...

    def read(self, folder: Path, *, hints: Hints) -> Read:
        """The dictionary in `folder`. What is out of order raises `DictionaryInvalid`, what no dictionary here does `FormatUnsupported`."""
        ...

    def write(self, dictionary: Dictionary | DictionarySet, folder: Path, *, about: Mapping[str, Any]) -> None:
        """Write it as that library does, with those facts of `about` that it has a field for; what it has no place for raises `FormatCannotHold`."""
        ...


def made_set(members: Sequence[Dictionary], kind: SetKind, *, hints: Hints) -> DictionarySet:
    """The set of what was read; `SiteNotFound` if the one member that was asked for is not among it."""
    if not members and hints.member is not None:
        do = "Ask for a site that one of its layers reads."
        raise SiteNotFound(f"no dictionary of {hints.name} reads {hints.member}.", got=hints.member, wanted="a site that is read", do=do)
    return DictionarySet(tuple(members), kind=kind)


FORMATS: Registry[Format] = Registry("format")


def cannot_hold(name: str, what: str, *, wanted: str) -> FormatCannotHold:
    """The error of a writer for a part of a dictionary that its format has no place for."""
    return FormatCannotHold(f"{name} has no place for {what}.", got=what, wanted=wanted, do="Write another format, or keep microtome's own.")


def read_only(name: str) -> FormatCannotHold:
    """The error of a format that is read and not written."""
    wanted = "saelens, sparsify, dictionary_learning, circuit_tracer"
    return FormatCannotHold(f"{name} files are read, not written.", got=name, wanted=wanted, do="Write one of those.")
