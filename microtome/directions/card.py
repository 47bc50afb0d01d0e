"""A direction at a glance: all that is known of it, and which others of a workspace it resembles."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microtome.artifacts import Workspace, read_manifest
from microtome.config import to_dict
from microtome.directions.calibration import Calibration
from microtome.directions.direction import Direction
from microtome.directions.storage import Measured, load_direction, load_measured
from microtome.errors import MicrotomeError

MOST = 40
"""Other directions that a card compares with."""


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """Another direction of the workspace, and how it lies to this one."""

    name: str
    site: str
    cosine: float


@dataclass(frozen=True, kw_only=True)
class DirectionCard:
    """What is known of a direction."""

    name: str
    """That of its folder."""
    title: str
    """Its own name."""
    id: str
    """Of the artifact."""
    fingerprint: str
    site: str
    width: int
    norm: float
    """The vector's length in the model's units."""
    unit: str
    sign: str
    reference: str
    model: str | None
    provenance: Mapping[str, Any]
    calibration: Calibration | None
    measured: Measured | None
    """None for one that was saved without."""
    others: tuple[Likeness, ...]
    """Of the same model, the likest first by the size of the cosine; two random ones of this width have about 1/√width."""


def direction_card(path: str | Path, *, workspace: Workspace | None = None) -> DirectionCard:
    """The card of the direction at `path`, beside the others of `workspace`. Raises `ArtifactMissing`, `ArtifactDamaged` or `DirectionInvalid`."""
    folder = Path(path)
    direction = load_direction(folder)
    return DirectionCard(
        name=folder.name,
        title=direction.name,
        id=read_manifest(folder).id,
        fingerprint=direction.fingerprint,
        site=str(direction.site),
        width=direction.width,
        norm=direction.norm,
        unit=direction.unit,
        sign=direction.sign,
        reference=direction.reference,
        model=direction.model,
        provenance=to_dict(direction.provenance),
        calibration=direction.calibration,
        measured=load_measured(folder),
        others=_others(direction, folder, workspace) if workspace is not None else (),
    )


def _others(direction: Direction, folder: Path, workspace: Workspace) -> tuple[Likeness, ...]:
    found: list[Likeness] = []
    for name in workspace.names("direction"):
        place = workspace.place("direction", name)
        if place.samefile(folder):
            continue
        try:
            each = load_direction(place)
        except MicrotomeError:  # its own card says what is wrong with it
            continue
        if (each.model, each.width) == (direction.model, direction.width):
            found.append(Likeness(name=name, site=str(each.site), cosine=float(each.unit_vector.double() @ direction.unit_vector.double())))
    return tuple(sorted(found, key=lambda each: -abs(each.cosine))[:MOST])
