"""Directions on disk: an artifact of kind `direction`.

`direction.safetensors` holds the vector and, in its header, all the rest; `measured.json`, where there is one, what its recipe measured of it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from microtome.artifacts import Artifact, Draft
from microtome.config import canonical_json, from_dict
from microtome.directions.direction import Direction
from microtome.errors import DirectionInvalid
from microtome.stats import Result

FILE, MEASURED = "direction.safetensors", "measured.json"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a recipe measured of the direction that it made."""

    results: tuple[Result, ...] = ()
    together: tuple[Result, ...] = ()
    """Figures of all directions that were made with it, such as how often the emotion of a passage is recognised."""
    notes: tuple[str, ...] = ()
    """What the direction does not show, in sentences."""
    raises: tuple[str, ...] = ()
    """The tokens whose logits it raises most when read through the final norm's gain and the unembedding, the highest first."""
    lowers: tuple[str, ...] = ()
    """Those that it lowers most."""
    more: Mapping[str, Any] = field(default_factory=lambda: {})
    """What else the recipe tells, by name: candidates of a refusal direction, roles along an axis, losses of a training."""


def save_direction(direction: Direction, path: str | Path, *, measured: Measured | None = None, replace: bool = False) -> Artifact:
    """Write a direction as an artifact at `path`; other work there is refused (`ArtifactConflict`) unless `replace`."""
    inputs = {"model": direction.model} if direction.model else {}
    rest = {name: value for name, value in direction.to_json().items() if name != "vector"}
    said = None if measured is None else canonical_json(measured)  # before anything is replaced: what is not finite has no JSON
    with Draft.open(path, "direction", config={**rest, "vector": direction.fingerprint}, inputs=inputs, replace=replace) as draft:
        with draft.place(FILE) as temporary:
            save_file({"vector": direction.vector}, temporary, metadata={"direction": canonical_json(rest)})
        if said is not None:
            draft.write(MEASURED, said)
        facts = {"name": direction.name, "site": str(direction.site), "width": direction.width, "norm": direction.norm, "sign": direction.sign}
        return draft.finish(summary={**facts, "recipe": str(direction.provenance.get("recipe", ""))})


def load_direction(path: str | Path) -> Direction:
    """Open the direction artifact at `path`. Raises `ArtifactMissing`, `ArtifactForeign`, `ArtifactDamaged` or `DirectionInvalid`."""
    file = Artifact.open(path, "direction").file(FILE)
    try:
        with safe_open(file, framework="pt") as opened:
            rest = json.loads((opened.metadata() or {})["direction"])
            return Direction.from_json({**rest, "vector": opened.get_tensor("vector")})
    except (SafetensorError, KeyError, ValueError) as error:
        do = "Make the direction again."
        raise DirectionInvalid(f"{file} does not hold a direction.", got=str(error), wanted="a vector and its header", do=do) from error


def load_measured(path: str | Path) -> Measured | None:
    """What was measured of the direction at `path`; None where it was saved without. Raises as `load_direction`."""
    artifact = Artifact.open(path, "direction")
    if MEASURED not in artifact.files():
        return None
    file = artifact.file(MEASURED)
    try:
        return from_dict(Measured, json.loads(file.read_bytes()))
    except ValueError as error:
        do = "Make the direction again."
        raise DirectionInvalid(f"{file} does not say what was measured.", got=str(error), wanted="JSON", do=do) from error
