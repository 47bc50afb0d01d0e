"""One door for all dictionaries: a local path or a hub reference, in whatever format it is."""

from collections.abc import Callable, Collection, Mapping
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
from microtome.errors import FormatUnknown, SiteNotFound
from microtome.models import Site
from microtome.shapes import Tensor

_NATIVE = "native"


class Detected(NamedTuple):
    """A format, and the files of it that a reading needs."""

    name: str
    format: Format
    files: tuple[str, ...]


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
    path = Path(ref).expanduser()
    if _is_native(path, ref):
        return load_native(path, member=member)
    loaded = load_any(ref, format_name=format_name, reads=reads, writes=writes, input_scale=input_scale, gain=gain)
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
    `HookUnknown`, `PickleRefused`, `HubUnavailable`, and for an artifact `ArtifactMissing`, `ArtifactForeign` or `ArtifactDamaged`.
    """
    path = Path(ref).expanduser()
    if _is_native(path, ref):
        return load_native_any(path)
    hints = Hints(name=str(ref), reads=_site(reads), writes=_site(writes), input_scale=input_scale, gain=gain)
    return read_foreign(ref, hints=hints, format_name=format_name).dictionary


def read_foreign(ref: str | Path, *, hints: Hints | None = None, format_name: str | None = None) -> Read:
    """A dictionary in another library's format, with what its files say about it."""
    path = Path(ref).expanduser()
    hub = parse_ref(str(ref)) if isinstance(ref, str) and not path.exists() else None
    hints = hints or Hints(name=str(ref))
    if hub is None:
        folder = path if path.is_dir() else path.parent
        detected = detect(_names(folder), where=str(ref), format_name=format_name)
        return detected.format.read(folder, hints=replace(hints, name=str(folder.resolve())))
    folder = folder_of(hub, wanted=lambda names: detect(names, where=str(ref), format_name=format_name).files)
    detected = detect(_names(folder), where=str(ref), format_name=format_name)
    return detected.format.read(folder, hints=replace(hints, name="/".join(filter(None, (hub.repo, hub.folder)))))


def write_foreign(dictionary: Dictionary | DictionarySet, folder: str | Path, *, format_name: str, about: Mapping[str, Any] | None = None) -> Path:
    """Write a dictionary as another library does; what that format has no place for raises `FormatCannotHold`."""
    target = Path(folder).expanduser()
    FORMATS.get(format_name).write(dictionary, target, about=about or {})
    return target


def detect(names: Collection[str], *, where: str, format_name: str | None = None) -> Detected:
    """The format of a folder with these files; `FormatUnknown` if it is of none."""
    for name in [format_name] if format_name else FORMATS:
        files = FORMATS.get(name).detect(names)
        if files:
            return Detected(name, FORMATS.get(name), files)
    shown = ", ".join(sorted(names)[:6]) + (", …" if len(names) > 6 else "")
    wanted = "the files of " + (format_name or f"one of {', '.join((_NATIVE, *FORMATS))}")
    do = "Give the folder with the weights and the config beside them; a repository's sub-folder is written org/repo/sub/folder."
    raise FormatUnknown(f"nothing in {where} is a dictionary that microtome reads.", got=shown or "no files", wanted=wanted, do=do)


def _is_native(path: Path, ref: str | Path) -> bool:
    """Whether it is an artifact of ours, or a path that leads nowhere and cannot be a hub reference."""
    if path.exists():
        return path.is_dir() and (path / MANIFEST).is_file()
    return isinstance(ref, Path) or parse_ref(ref) is None


def _names(folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*")) if file.is_file()]


def _site(given: Site | str | None) -> Site | None:
    return Site.parse(given) if isinstance(given, str) else given
