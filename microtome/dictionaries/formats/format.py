"""What a format is: how its files are known, read and written."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from microtome.dictionaries.dictionary import Dictionary
from microtome.dictionaries.layers import DictionarySet
from microtome.errors import FormatCannotHold
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
    gain: Callable[[Site], Tensor] | None = None
    """The gain of the norm before a site, for dictionaries that read between a norm's scale and its gain."""


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


FORMATS: Registry[Format] = Registry("format")


def cannot_hold(name: str, what: str, *, wanted: str) -> FormatCannotHold:
    """The error of a writer for a part of a dictionary that its format has no place for."""
    return FormatCannotHold(f"{name} has no place for {what}.", got=what, wanted=wanted, do="Write another format, or keep microtome's own.")


def read_only(name: str) -> FormatCannotHold:
    """The error of a format that is read and not written."""
    wanted = "saelens, sparsify, dictionary_learning, circuit_tracer"
    return FormatCannotHold(f"{name} files are read, not written.", got=name, wanted=wanted, do="Write one of those.")
