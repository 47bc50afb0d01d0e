"""Artifacts: folders that are whole or absent, and workspaces that hold them.

An artifact is a folder whose `manifest.json` is written last. It says what made it (config, inputs by id, package versions) and holds a
sha256 per file; its own `id` is the hash of all that, so that a changed manifest is noticed too. Nothing in it depends on the clock, the
machine's paths or how often the work was interrupted: the same work gives the same bytes, as far as its arithmetic does (on the CPU of one
machine, with the same number of threads). While the work runs the folder holds a `draft.json` instead, so a killed run is resumed and never
taken for a finished one.
"""

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, ClassVar, TypeVar

from microtome.config import canonical_json, fingerprint, to_dict
from microtome.errors import ArtifactConflict, ArtifactDamaged, ArtifactForeign, ArtifactMissing, DiskFull, WorkspaceBusy, nearest

MANIFEST, DRAFT, LOCK = "manifest.json", "draft.json", ".lock"
KINDS = (
    "corpus",
    "shards",
    "pooled",
    "dictionary",
    "sweep",
    "index",
    "direction",
    "graph",
    "export",
    "variant",
    "losses",
    "dream",
    "map",
    "trial",
    "doses",
    "summary",
)
FOLDERS = {
    "corpus": "corpora",
    "shards": "shards",
    "pooled": "pooled",
    "dictionary": "dictionaries",
    "sweep": "sweeps",
    "index": "indexes",
    "direction": "directions",
    "export": "exports",
    "graph": "graphs",
    "variant": "variants",
    "losses": "losses",
    "dream": "dreams",
    "map": "maps",
    "trial": "trials",
    "doses": "doses",
    "summary": "summaries",
}
_PACKAGES = ("microtome", "torch", "transformers", "tokenizers", "safetensors", "numpy", "pyarrow")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an artifact is, what made it, and the hash of each of its files."""

    kind: str
    format: int
    """Version of this kind's file layout; a reader refuses one it does not know."""
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    """Artifact ids (or other fingerprints) of what it was made from, by role: `{"corpus": "…", "model": "…"}`."""
    files: Mapping[str, Mapping[str, Any]]
    """`{"name": {"sha256": …, "bytes": …}}`, names relative to the folder."""
    summary: Mapping[str, Any] = field(default_factory=lambda: {})
    """Small facts for lists and pages: sizes, quality figures."""
    packages: Mapping[str, str] = field(default_factory=lambda: {})

    @cached_property
    def id(self) -> str:
        """16 hex digits of the sha256 of everything above; `manifest.json` holds it too."""
        return fingerprint({name: getattr(self, name) for name in self.__dataclass_fields__})


class Artifact:
    """A finished artifact, opened for reading; each file is checked against its hash the first time it is asked for."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._checked: set[str] = set()

    @classmethod
    def open(cls, path: str | Path, kind: str, *, formats: tuple[int, ...] = (1,)) -> "Artifact":
        """Read the manifest and check kind, format version and the presence and size of every file.

        Raises `ArtifactMissing`, `ArtifactForeign` or `ArtifactDamaged`.
        """
        folder = Path(path)
        manifest = read_manifest(folder)
        if manifest.kind != kind:
            raise ArtifactForeign(f"{folder} is another kind of artifact.", got=manifest.kind, wanted=kind, do="Give the path of the right artifact.")
        if manifest.format not in formats:
            wanted = ", ".join(map(str, formats))
            do = "Use the release of microtome that wrote it, or make it again."
            raise ArtifactForeign(f"{folder} has a foreign format version.", got=f"{kind} format {manifest.format}", wanted=wanted, do=do)
        for name, facts in manifest.files.items():
            file = folder / name
            size = file.stat().st_size if file.is_file() else None
            if size != facts["bytes"]:
                got = "no such file" if size is None else f"{size} bytes"
                raise _damaged(file, got, f"{facts['bytes']} bytes")
        return cls(folder, manifest)

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def name(self) -> str:
        return self.path.name

    def file(self, name: str) -> Path:
        """The path of one file, after its sha256 was checked (once a process)."""
        facts = self.manifest.files.get(name)
        if facts is None:
            raise ArtifactDamaged(f"{self.path} does not list {name}.", got=name, wanted=", ".join(self.manifest.files), do=_REMAKE)
        file = self.path / name
        if name not in self._checked:
            found = sha256_of(file)
            if found != facts["sha256"]:
                raise _damaged(file, f"sha256 {found[:12]}…", f"{facts['sha256'][:12]}…")
            self._checked.add(name)
        return file

    def files(self, prefix: str = "") -> list[str]:
        """Names of its files that begin with `prefix`, sorted; nothing is read."""
        return sorted(name for name in self.manifest.files if name.startswith(prefix))

    def verify(self) -> None:
        """Check the hash of every file now."""
        for name in self.manifest.files:
            self.file(name)


Of = TypeVar("Of", bound="Opened")


class Opened:
    """What a room makes of a finished artifact, opened for reading: the base of `Corpus`, `Shards` and their like."""

    kind: ClassVar[str]
    """The kind of artifact that it reads."""

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact

    @classmethod
    def open(cls: type[Of], path: str | Path) -> Of:
        """Open the artifact of this kind at `path`; raises `ArtifactMissing`, `ArtifactForeign` or `ArtifactDamaged`."""
        return cls(Artifact.open(path, cls.kind))

    @property
    def id(self) -> str:
        return self._artifact.id

    @property
    def path(self) -> Path:
        return self._artifact.path

    @property
    def summary(self) -> dict[str, Any]:
        """What its maker noted when it was finished."""
        return dict(self._artifact.manifest.summary)


class Draft:
    """An artifact being made: `with Draft.open(…) as draft:` holds its lock; write files into `draft.path`, then `draft.finish()`.

    Leaving without `finish` (also by a kill) keeps the files; opening the same work again resumes with them. Writers decide file by file
    what is complete: a file under its final name is, because `draft.write` and `draft.place` put it there atomically.
    """

    def __init__(self, path: Path, plan: dict[str, Any], lock: IO[str]) -> None:
        self.path = path
        self.plan = plan
        self._lock = lock

    @classmethod
    @contextmanager
    def open(
        cls, path: str | Path, kind: str, *, config: Any, inputs: Mapping[str, str], format: int = 1, replace: bool = False
    ) -> "Generator[Draft]":
        """Begin or resume making the artifact at `path`.

        Raises `WorkspaceBusy` when another process holds it, `ArtifactConflict` when the folder holds other work (a finished artifact, a
        draft with another plan, or foreign files) and `replace` is false. `ENOSPC` inside the block becomes `DiskFull`.
        """
        assert kind in KINDS
        folder = Path(path)
        plan = {"kind": kind, "format": format, "config": to_dict(config), "inputs": dict(inputs), "packages": _packages()}
        with disk_full_named(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = _lock(folder)
            try:
                _claim(folder, plan, replace=replace)
                yield cls(folder, plan, lock)
            finally:
                lock.close()

    def has(self, name: str) -> bool:
        """Whether a file was completed by this run or an interrupted one."""
        return (self.path / name).is_file()

    def write(self, name: str, content: bytes | str) -> None:
        """Put a small file in place atomically."""
        write_atomic(self.path / name, content)

    @contextmanager
    def place(self, name: str) -> Generator[Path]:
        """A temporary path to write to; on a clean exit it is flushed and renamed to `name`, otherwise removed."""
        with place_atomic(self.path / name) as temporary:
            yield temporary

    def abandon(self) -> None:
        """Remove all that this draft holds, where nothing of it is worth resuming: other work may then take its place."""
        _empty(self.path)

    def finish(self, *, summary: Mapping[str, Any] | None = None) -> Artifact:
        """Hash the files, write the manifest, and open the result; temporary files and the draft mark go."""
        for stray in self.path.rglob("*.partial"):
            stray.unlink()
        names = sorted(str(file.relative_to(self.path)) for file in self.path.rglob("*") if file.is_file() and not _is_mark(file))
        files = {name: {"sha256": sha256_of(self.path / name), "bytes": (self.path / name).stat().st_size} for name in names}
        manifest = Manifest(**self.plan, files=files, summary=to_dict(summary or {}))
        content = {**to_dict(manifest), "id": manifest.id}
        write_atomic(self.path / MANIFEST, json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
        (self.path / DRAFT).unlink(missing_ok=True)
        return Artifact(self.path, manifest)


class Workspace:
    """A folder of artifacts, `<workspace>/<kind's folder>/<name>/`, and one SQLite catalogue beside them."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def place(self, kind: str, name: str) -> Path:
        """Where an artifact of this kind and name lives (whether or not it exists)."""
        assert kind in KINDS
        if not name or name.startswith(".") or "/" in name or "\\" in name or "\0" in name:
            raise ArtifactMissing(f"{name!r} cannot be the name of an artifact.", got=name, wanted="a plain name", do="Leave out slashes and dots.")
        return self.path / FOLDERS[kind] / name

    @property
    def catalogue(self) -> Path:
        """The SQLite file with labels, scores, notes and jobs of all artifacts here."""
        return self.path / "catalogue.sqlite"

    def names(self, kind: str) -> list[str]:
        """Names of the finished artifacts of a kind, sorted."""
        folder = self.path / FOLDERS[kind]
        return sorted(entry.name for entry in folder.iterdir() if (entry / MANIFEST).is_file()) if folder.is_dir() else []

    def find(self, kind: str, name: str | None = None) -> Path:
        """The folder of the artifact called `name`; without a name, of the only one of its kind here."""
        names = self.names(kind)
        if name is None:
            if len(names) == 1:
                return self.place(kind, names[0])
            do = f"Give a name: {', '.join(names)}." if names else "Make one first; `microtome --help` lists the verbs in order."
            raise ArtifactMissing(f"{self.path} holds {len(names)} artifacts of kind {kind}.", got=len(names), wanted="one, or a name", do=do)
        if name not in names:
            raise ArtifactMissing(
                f'{self.path} holds no {kind} "{name}".', got=name, wanted=", ".join(names) or "none there yet", do=nearest(name, names)
            )
        return self.place(kind, name)

    def remove(self, kind: str, name: str) -> None:
        """Delete the finished artifact called `name`. Raises `ArtifactMissing`, `WorkspaceBusy`."""
        folder = self.find(kind, name)
        lock = _lock(folder)
        try:
            _empty(folder)
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()
        finally:
            lock.close()

    def by_id(self, kind: str, id: str) -> Path:
        """The folder of the artifact of this kind whose manifest has that id; damaged manifests are passed over, and named if it is not found."""
        seen: list[str] = []
        for name in self.names(kind):
            folder = self.place(kind, name)
            try:
                if read_manifest(folder).id == id:
                    return folder
                seen.append(name)
            except ArtifactDamaged:
                seen.append(f"{name} (its manifest is damaged)")
        do = "Put the artifact it was made from back into the workspace, or make it again."
        raise ArtifactMissing(f"{self.path} holds no {kind} with the id {id}.", got=", ".join(seen) or "none", wanted=id, do=do)


def existing(path: str | Path, kind: str, *, config: Any, inputs: Mapping[str, str], format: int = 1) -> Artifact | None:
    """The finished artifact at `path` if it is exactly this work (same kind, format, config and inputs), else None.

    Package versions are not compared: what is done is not redone because a package moved.
    """
    folder = Path(path)
    if not (folder / MANIFEST).is_file():
        return None
    manifest = read_manifest(folder)
    same = (manifest.kind, manifest.format, dict(manifest.inputs)) == (kind, format, dict(inputs))
    if not same or canonical_json(manifest.config) != canonical_json(config):
        return None
    return Artifact.open(folder, kind, formats=(format,))


_REMAKE = "Delete the folder and make the artifact again; its config is in manifest.json."


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a finished artifact; `ArtifactMissing` when there is none, `ArtifactDamaged` when it cannot be read."""
    file = folder / MANIFEST
    if not file.is_file():
        state = "an unfinished one (its draft.json is there)" if (folder / DRAFT).is_file() else "no manifest.json"
        do = "Run the command that makes it again: it resumes." if (folder / DRAFT).is_file() else "Check the path."
        raise ArtifactMissing(f"there is no finished artifact at {folder}.", got=state, wanted="a folder with manifest.json", do=do)
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _damaged(file, str(error), "JSON") from error
    return _parse_manifest(folder, content)


def _parse_manifest(folder: Path, content: object) -> Manifest:
    """The manifest that `content` spells; one whose `id` is not the hash of the rest was changed after it was written."""
    wanted = {*Manifest.__dataclass_fields__, "id"}
    if not isinstance(content, dict) or set(content) != wanted:
        got = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise _damaged(folder / MANIFEST, got, ", ".join(sorted(wanted)))
    noted, rest = content["id"], {name: value for name, value in content.items() if name != "id"}
    try:
        found = fingerprint(rest)
    except ValueError as error:  # NaN, or half of a surrogate pair: nothing that we write
        raise _damaged(folder / MANIFEST, str(error), "values that JSON knows") from error
    if found != noted:
        raise _damaged(folder / MANIFEST, f"content with the id {found}", f"the id {noted} that it was written with")
    return Manifest(**rest)


def write_atomic(file: Path, content: bytes | str) -> None:
    """Write a whole file so that a reader sees the old one or the new one, never a part."""
    with place_atomic(file) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def place_atomic(file: Path) -> Generator[Path]:
    """A temporary path beside `file`; on a clean exit it is flushed to disk and renamed to `file`, otherwise removed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        yield temporary
        temporary.chmod(file.parent.stat().st_mode & 0o666)  # some writers make files that only their owner can read
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.rename(file)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(file: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextmanager
def disk_full_named(folder: Path) -> Generator[None]:
    """Turn the system's "no space left" (from Python or from a writer that words it in its own error) into `DiskFull`."""
    try:
        yield
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not full and "No space left" not in str(error):
            raise
        do = "Free some space (or choose another --workspace) and run the same command again: it resumes from what is finished."
        raise DiskFull(f"the disk of {folder} is full.", got=str(error), wanted="free space", do=do) from error


def _claim(folder: Path, plan: dict[str, Any], *, replace: bool) -> None:
    for half in folder.glob(f"{DRAFT}.*.partial"):  # its writer was killed: we hold the lock
        half.unlink()
    entries = [entry for entry in folder.iterdir() if entry.name != LOCK]
    draft = folder / DRAFT
    same = draft.is_file() and draft.read_text() == canonical_json(plan)
    if entries and not same:
        if not replace:
            what = (
                "other work that is not finished" if draft.is_file() else "a finished artifact" if (folder / MANIFEST).is_file() else "foreign files"
            )
            do = "Choose another name or workspace, or delete the folder to discard what is there."
            raise ArtifactConflict(f"{folder} already holds {what}.", got=what, wanted="an empty folder, or the same work unfinished", do=do)
        _empty(folder)
    write_atomic(draft, canonical_json(plan))


def _empty(folder: Path) -> None:
    """Remove what an artifact folder holds, its marks last: a kill in between leaves a folder that is still known as ours.

    Without a mark nothing is touched. What is left of a finished artifact until its manifest goes too is `ArtifactDamaged` to readers.
    """
    if not (folder / MANIFEST).is_file() and not (folder / DRAFT).is_file():
        raise ArtifactConflict(
            f"{folder} holds files that microtome did not write.", got="foreign files", wanted="an artifact", do="Choose another name."
        )
    marks = [folder / MANIFEST, folder / DRAFT]
    for entry in sorted(folder.rglob("*"), reverse=True):
        if entry not in marks and entry != folder / LOCK:
            entry.rmdir() if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    for mark in marks:
        mark.unlink(missing_ok=True)


def _lock(folder: Path) -> IO[str]:
    lock = (folder / LOCK).open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        do = "Wait until it is done, or stop it (Ctrl-C keeps its work) and run this again."
        raise WorkspaceBusy(f"another process is writing {folder}.", got="its lock is held", wanted="one writer at a time", do=do) from error
    return lock


def _is_mark(file: Path) -> bool:
    return file.name in (MANIFEST, DRAFT, LOCK)


def _packages() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _damaged(file: Path, got: str, wanted: str) -> ArtifactDamaged:
    return ArtifactDamaged(f"{file} is damaged.", got=got, wanted=wanted, do=_REMAKE)
