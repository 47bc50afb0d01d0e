"""Directions on disk: an artifact of kind `direction`, whose `direction.safetensors` holds the vector and, in its header, all the rest."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from microtome.artifacts import Artifact, Draft
from microtome.config import canonical_json
from microtome.directions.direction import Direction
from microtome.errors import DirectionInvalid

FILE = "direction.safetensors"


def save_direction(direction: Direction, path: str | Path, *, replace: bool = False) -> Artifact:
    """Write a direction as an artifact at `path`; other work there is refused (`ArtifactConflict`) unless `replace`."""
    inputs = {"model": direction.model} if direction.model else {}
    rest = {name: value for name, value in direction.to_json().items() if name != "vector"}
    with Draft.open(path, "direction", config={**rest, "vector": direction.fingerprint}, inputs=inputs, replace=replace) as draft:
        with draft.place(FILE) as temporary:
            save_file({"vector": direction.vector}, temporary, metadata={"direction": canonical_json(rest)})
        return draft.finish(summary={"name": direction.name, "site": str(direction.site), "width": direction.width, "norm": direction.norm})


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
