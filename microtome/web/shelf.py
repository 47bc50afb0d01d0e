"""The indexes of a workspace, opened when first asked for and kept open."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from microtome.artifacts import Workspace, read_manifest
from microtome.errors import MicrotomeError
from microtome.features import FeatureIndex


@dataclass(frozen=True, kw_only=True)
class ShelfEntry:
    """One artifact of the workspace as the first page lists it."""

    name: str
    id: str = ""
    summary: dict[str, Any] = field(default_factory=lambda: {})
    """What its manifest says of it."""
    error: dict[str, Any] | None = None
    """The four parts, when it cannot be read."""


@dataclass(frozen=True, kw_only=True)
class ShelfList:
    """What a workspace holds."""

    workspace: str
    indexes: tuple[ShelfEntry, ...]
    artifacts: dict[str, list[str]]
    """Names of the other artifacts by kind, so that an unfinished workspace does not look empty."""


class Shelf:
    """Opens each index once; a rebuilt index (its manifest has another id) is opened anew."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = Workspace(workspace)
        self._lock = threading.Lock()
        self._open: dict[str, tuple[int, FeatureIndex]] = {}

    def index(self, name: str) -> FeatureIndex:
        """The index called `name`; `ArtifactMissing` names the nearest one, `ArtifactDamaged` the file."""
        folder = self.workspace.find("index", name)
        stamp = (folder / "manifest.json").stat().st_mtime_ns
        with self._lock:
            known = self._open.get(name)
            if known is None or known[0] != stamp:
                known = self._open[name] = (stamp, FeatureIndex.open(folder, self.workspace))
            return known[1]

    def list(self) -> ShelfList:
        """Every index with what its manifest says; one that cannot be read is listed with its error."""
        artifacts = {kind: self.workspace.names(kind) for kind in ("corpus", "shards", "dictionary")}
        return ShelfList(workspace=str(self.workspace.path), indexes=self.entries("index"), artifacts=artifacts)

    def entries(self, kind: str) -> tuple[ShelfEntry, ...]:
        """Every artifact of a kind with what its manifest says; one that cannot be read is listed with its error."""
        return tuple(self._entry(kind, name) for name in self.workspace.names(kind))

    def _entry(self, kind: str, name: str) -> ShelfEntry:
        try:
            manifest = read_manifest(self.workspace.place(kind, name))
        except MicrotomeError as error:
            return ShelfEntry(name=name, error=error.to_json())
        return ShelfEntry(name=name, id=manifest.id, summary=dict(manifest.summary))
