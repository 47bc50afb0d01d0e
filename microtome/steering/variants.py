"""Saved variants: a model under a named set of edits, kept in a workspace as an artifact; a server offers them as models."""

import json
from dataclasses import dataclass
from pathlib import Path

from microtome.artifacts import Artifact, Draft
from microtome.config import canonical_json
from microtome.errors import ArtifactDamaged
from microtome.steering.compose import EditSet

FILE = "edits.json"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A model under a named set of edits."""

    name: str
    model: str
    """The reference of the model."""
    fingerprint: str
    """Of the model that the edits were tried on."""
    edits: EditSet


def save_variant(variant: Variant, path: str | Path, *, replace: bool = False) -> Artifact:
    """Write a variant as an artifact at `path`; other work there is refused (`ArtifactConflict`) unless `replace`."""
    config = {"name": variant.name, "model": variant.model, "edits": variant.edits.fingerprint}
    with Draft.open(path, "variant", config=config, inputs={"model": variant.fingerprint}, replace=replace) as draft:
        draft.write(FILE, canonical_json(variant.edits) + "\n")
        kinds = [edit.kind for edit in variant.edits.edits]
        return draft.finish(summary={"model": variant.model, "edits": kinds, "fingerprint": variant.edits.fingerprint})


def load_variant(path: str | Path) -> Variant:
    """Open the variant at `path`. Raises `ArtifactMissing`, `ArtifactForeign`, `ArtifactDamaged`, and what `EditSet.from_json` raises."""
    artifact = Artifact.open(path, "variant")
    file, config = artifact.file(FILE), artifact.manifest.config
    try:
        edits = EditSet.from_json(json.loads(file.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ArtifactDamaged(f"{file} does not hold edits.", got=str(error), wanted="the JSON of a set", do="Save the variant again.") from error
    inputs = artifact.manifest.inputs
    return Variant(name=artifact.name, model=str(config["model"]), fingerprint=inputs["model"], edits=edits)
