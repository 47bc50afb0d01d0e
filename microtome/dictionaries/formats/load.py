"""One door for all dictionaries: a local path or a hub reference, in whatever format it is."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from microtome.artifacts import MANIFEST
from microtome.dictionaries.dictionary import Dictionary
from microtome.dictionaries.formats.format import FORMATS, Format, Hints, Read
from microtome.dictionaries.formats.hub import folder_of, parse_ref
from microtome.dictionaries.formats.native import load_any as load_native_any
from microtome.dictionaries.formats.native import load_dictionary as load_native
from microtome.dictionaries.layers import DictionarySet
from microtome.errors import ConfigError, FormatUnknown, SiteNotFound
from microtome.models import Site
from microtome.shapes import Tensor

_NATIVE = "native"
_ASK_FOR_SCALE = ("saelens",)
"""Formats whose files may call for a factor on activations that they do not hold."""


class Detected(NamedTuple):
    """A format, and the files of it that a reading needs."""

    name: str
    format: Format
    files: tuple[str, ...]


class Located(NamedTuple):
    """A folder on this machine, and the name under which it was asked for: its path, or `org/repo/sub/folder`."""

    folder: Path
    name: str
    file: str = ""
    """Of a file in that folder, its name: all that a refusal may say of the folder."""

    @property
    def is_native(self) -> bool:
        """Whether it is an artifact of ours, or should be: a path that leads nowhere is reported as a missing artifact."""
        return (self.folder / MANIFEST).is_file() or not self.folder.exists()


def load_dictionary(
    ref: str | Path,
    *,
    member: Site | None = None,
    format_name: str | None = None,
    reads: Site | str | None = None,
    writes: Site | str | None = None,
    input_scale: float | None = None,
    gain: Callable[[Site], Tensor] | None = None,
) -> Dictionary:
    """The one dictionary at `ref`, or of a set the `member` that reads a site. As `load_any`; a set without `member` raises `SiteNotFound`."""
    place = locate(ref, format_name=format_name)
    if place.is_native:
        _check_nothing_given(reads=reads, writes=writes, input_scale=input_scale)
        return load_native(place.folder, member=member)
    hints = Hints(name="", reads=_site(reads), writes=_site(writes), input_scale=input_scale, member=member, gain=gain)
    loaded = _read(place, hints, where=str(ref), format_name=format_name).dictionary
    if isinstance(loaded, DictionarySet):
        if member is None:
            sites = ", ".join(map(str, loaded.sites))
            do = "Name one: member=Site.parse(…)."
            raise SiteNotFound(f"{ref} holds {len(loaded.members)} dictionaries.", got="no site", wanted=sites, do=do)
        return loaded.member(member)
    if member is not None and loaded.reads != member:
        raise SiteNotFound(f"the dictionary at {ref} does not read {member}.", got=member, wanted=loaded.reads, do="Ask for the site that it reads.")
    return loaded


def load_any(
    ref: str | Path,
    *,
    format_name: str | None = None,
    reads: Site | str | None = None,
    writes: Site | str | None = None,
    input_scale: float | None = None,
    gain: Callable[[Site], Tensor] | None = None,
) -> Dictionary | DictionarySet:
    """What is at `ref`: a folder (or a file in it), microtome's own artifact, or `org/repo[/sub/folder][@revision]` on the hub.

    The format is found by the files, unless `format_name` says it. `reads` and `writes` say where it sits, over what the files say; `input_scale`
    and `gain` supply what some files leave out (see docs/reference/formats.md). Raises `FormatUnknown`, `FormatUnsupported`, `DictionaryInvalid`,
    `HookUnknown`, `PickleRefused`, `HubUnavailable`, `ConfigError` for an `input_scale` where the files hold every factor and for a site or
    a factor beside an artifact, which says both, and for an artifact `ArtifactMissing`, `ArtifactForeign` or `ArtifactDamaged`.
    """
    place = locate(ref, format_name=format_name)
    if place.is_native:
        _check_nothing_given(reads=reads, writes=writes, input_scale=input_scale)
        return load_native_any(place.folder)
    hints = Hints(name="", reads=_site(reads), writes=_site(writes), input_scale=input_scale, gain=gain)
    return _read(place, hints, where=str(ref), format_name=format_name).dictionary


def read_foreign(ref: str | Path, *, hints: Hints | None = None, format_name: str | None = None) -> Read:
    """A dictionary in another library's format, with what its files say about it."""
    return _read(locate(ref, format_name=format_name), hints or Hints(name=""), where=str(ref), format_name=format_name)


def locate(ref: str | Path, *, format_name: str | None = None) -> Located:
    """The folder that `ref` means: a local one, that of a local file, or the files of a hub reference that a reading needs, downloaded."""
    path = Path(ref).expanduser()
    hub = parse_ref(ref) if isinstance(ref, str) and not path.exists() else None
    if hub is not None:
        folder = folder_of(hub, wanted=lambda names: _needed(names, where=str(ref), format_name=format_name))
        return Located(folder, "/".join(filter(None, (hub.repo, hub.folder))))
    folder = path.parent if path.is_file() else path
    return Located(folder, str(folder.resolve()), file=path.name if path.is_file() else "")


def write_foreign(dictionary: Dictionary | DictionarySet, folder: str | Path, *, format_name: str, about: Mapping[str, Any] | None = None) -> Path:
    """Write a dictionary as another library does; what that format has no place for raises `FormatCannotHold`."""
    target = Path(folder).expanduser()
    FORMATS.get(format_name).write(dictionary, target, about=about or {})
    return target


def detect(names: Collection[str], *, where: str, format_name: str | None = None, file: str = "") -> Detected:
    """The format of a folder with these files, or of this one of them; `FormatUnknown` if it is of none."""
    for name in [format_name] if format_name else FORMATS:
        files = FORMATS.get(name).detect(names)
        if files:
            return Detected(name, FORMATS.get(name), files)
    shown = ", ".join(sorted(names)[:6]) + (", …" if len(names) > 6 else "")
    wanted = "the files of " + (format_name or f"one of {', '.join((_NATIVE, *FORMATS))}")
    do = "Give the folder with the weights and the config beside them; a repository's sub-folder is written org/repo/sub/folder."
    if file:
        raise FormatUnknown(f"{where} is no file of a dictionary that microtome reads.", got=file, wanted=wanted, do=do)
    raise FormatUnknown(f"nothing in {where} is a dictionary that microtome reads.", got=shown or "no files", wanted=wanted, do=do)


def _read(place: Located, hints: Hints, *, where: str, format_name: str | None) -> Read:
    detected = detect(_names(place.folder), where=where, format_name=format_name, file=place.file)
    _check_scale_wanted(hints.input_scale, format_name=detected.name)
    return detected.format.read(place.folder, hints=replace(hints, name=place.name))


def _check_scale_wanted(input_scale: float | None, *, format_name: str) -> None:
    """Raise `ConfigError` for a factor that would have no effect."""
    if input_scale is not None and format_name not in _ASK_FOR_SCALE:
        what, wanted = (
            f"input_scale has no meaning for a {format_name} dictionary.",
            " or ".join(_ASK_FOR_SCALE) + ", where the file's own is missing",
        )
        raise ConfigError(what, got=input_scale, wanted=wanted, do="Leave it out: every factor is in the files. To scale rows, multiply them.")


def _check_nothing_given(**hints: object) -> None:
    """Raise `ConfigError` for what would have no effect: microtome's own artifact says where it sits and by what its rows are multiplied."""
    name = next((name for name, value in hints.items() if value is not None), None)
    if name is not None:
        what, wanted = f"{name} has no meaning for a {_NATIVE} dictionary.", "no reads, writes or input_scale"
        raise ConfigError(what, got=f"{name} {hints[name]}", wanted=wanted, do="Leave it out: sites and every factor are in the artifact.")


def _needed(names: list[str], *, where: str, format_name: str | None) -> Sequence[str]:
    """What to download: every file of an artifact, for its manifest counts them; of another format, what its reader needs."""
    return names if MANIFEST in names and format_name is None else detect(names, where=where, format_name=format_name).files


def _names(folder: Path) -> list[str]:
    """The files of a folder, down to two folders below it: no format goes deeper."""
    found = [file for pattern in ("*", "*/*", "*/*/*") for file in folder.glob(pattern) if file.is_file()]
    return sorted(file.relative_to(folder).as_posix() for file in found)


def _site(given: Site | str | None) -> Site | None:
    return Site.parse(given) if isinstance(given, str) else given
