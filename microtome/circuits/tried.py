"""What was tried on a graph, kept beside it: an artifact of kind `trial` with the graph's name, made from the graph of that id.

| file | holds |
|---|---|
| `trial.json` | predicted against measured: `Trial.to_json()` |
| `missing.json` | swaps of tokens: `MissingEdges.to_json()` |

Either may be absent. What was tried on another graph of the same name, since replaced, is not read.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from microtome.artifacts import Artifact, Draft, Workspace, read_manifest
from microtome.circuits.missing import MissingEdges
from microtome.circuits.predict import Trial
from microtome.config import canonical_json
from microtome.errors import ArtifactDamaged

_FILES = ("trial", "missing")


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What was tried on a graph, as JSON."""

    trial: Mapping[str, Any] | None = None
    """Predicted against measured."""
    missing: Mapping[str, Any] | None = None
    """What swaps of tokens did."""


def tried(workspace: Workspace, name: str) -> Tried:
    """What was tried on the graph called `name`. Raises `ArtifactMissing` where there is no such graph, and `ArtifactDamaged`."""
    graph = read_manifest(workspace.find("graph", name))
    if name not in workspace.names("trial"):
        return Tried()
    artifact = Artifact.open(workspace.place("trial", name), "trial")
    if artifact.manifest.inputs.get("graph") != graph.id:
        return Tried()
    return Tried(**{each: _read(artifact, each) for each in _FILES if f"{each}.json" in artifact.manifest.files})


def keep_tried(workspace: Workspace, name: str, *, trial: Trial | None = None, missing: MissingEdges | None = None) -> Tried:
    """Keep what was tried on the graph called `name`; of what is None, what was kept before stays."""
    before = tried(workspace, name)
    made = Tried(
        trial=before.trial if trial is None else trial.to_json(),
        missing=before.missing if missing is None else missing.to_json(),
    )
    inputs = {"graph": read_manifest(workspace.find("graph", name)).id}
    with Draft.open(workspace.place("trial", name), "trial", config={"graph": name}, inputs=inputs, replace=True) as draft:
        for each in _FILES:
            if getattr(made, each) is not None:
                draft.write(f"{each}.json", canonical_json(getattr(made, each)) + "\n")
        draft.finish(summary={"tried": [each for each in _FILES if getattr(made, each) is not None]})
    return made


def _read(artifact: Artifact, name: str) -> Mapping[str, Any]:
    file = artifact.file(f"{name}.json")
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ArtifactDamaged(f"{file} is not JSON.", got=str(error), wanted="what was tried", do="Try the nodes of the graph again.") from error
    return found
