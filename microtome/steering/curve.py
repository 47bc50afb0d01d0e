"""Dose against effect as an artifact: what was steered, on which prompts, and every point with its controls."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from microtome.artifacts import Artifact, Draft
from microtome.config import canonical_json, from_dict
from microtome.errors import ArtifactDamaged, ConfigError
from microtome.steering.compose import EditSet
from microtome.steering.edit import Edit
from microtome.steering.effect import Controls
from microtome.steering.measure import Bench, Measure
from microtome.steering.sweep import Dose, sweep

FILE = "doses.json"


@dataclass(frozen=True, kw_only=True)
class DoseCurve:
    """What `dose_curve` measured."""

    title: str
    """What was steered, in words."""
    measure: str
    """What the effect is, in words."""
    unedited: float
    """The mean of the measure before any edit."""
    prompts: tuple[str, ...]
    controls: dict[str, str]
    """What each control is, in words, by its name."""
    edits: str
    """Fingerprint of the set at dose 1."""
    points: tuple[Dose, ...]
    notes: tuple[str, ...] = ()


def dose_curve(
    bench: Bench,
    edits: EditSet | Edit,
    *,
    title: str,
    measure: Measure,
    words: str,
    doses: Sequence[float],
    controls: Controls,
    named: dict[str, str],
) -> DoseCurve:
    """A sweep with its controls and all that a reader needs beside it. `words` says the measure, `named` the controls. Prompts must be texts."""
    texts = tuple(prompt for prompt in bench.prompts if isinstance(prompt, str))
    if len(texts) != len(bench.prompts):
        raise ConfigError("a curve is kept with its prompts as texts.", got="conversations", wanted="texts", do="Give texts, or use sweep.")
    chosen = EditSet.of(edits) if isinstance(edits, Edit) else edits
    points = sweep(bench, chosen, measure=measure, doses=doses, controls=controls)
    plain = measure.values(bench, EditSet(), prompts=bench.prompts)
    return DoseCurve(
        title=title,
        measure=words,
        unedited=sum(plain) / len(plain),
        prompts=texts,
        controls=named,
        edits=chosen.fingerprint,
        points=points,
    )


def save_curve(curve: DoseCurve, path: str | Path, *, inputs: dict[str, str], replace: bool = False) -> Artifact:
    """Write a curve as an artifact of kind `doses`; `inputs` are the ids of what it was made from, by kind."""
    config = {"title": curve.title, "edits": curve.edits, "prompts": list(curve.prompts), "doses": [point.dose for point in curve.points]}
    with Draft.open(path, "doses", config=config, inputs=inputs, replace=replace) as draft:
        draft.write(FILE, canonical_json(curve) + "\n")
        return draft.finish(summary={"title": curve.title, "doses": len(curve.points)})


def load_curve(path: str | Path) -> DoseCurve:
    """Open the curve at `path`. Raises `ArtifactMissing`, `ArtifactForeign`, `ArtifactDamaged`."""
    file = Artifact.open(path, "doses").file(FILE)
    try:
        return from_dict(DoseCurve, json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, ConfigError) as error:
        raise ArtifactDamaged(f"{file} does not hold a curve.", got=str(error), wanted="the JSON of one", do="Measure it again.") from error
