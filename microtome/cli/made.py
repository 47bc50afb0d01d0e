"""What the recipes of `microtome direction` share: where they read, keeping and printing what they make and measure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import Parameter
from rich.text import Text

from microtome.cli.cards import plain, quoted, titled
from microtome.cli.session import Session
from microtome.config import canonical_json, to_dict

if TYPE_CHECKING:
    from microtome.directions import Calibration, Direction, DirectionCard, Measured, Reader
    from microtome.directions.recipes import Made
    from microtome.models import Model
    from microtome.stats import Result


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and how a recipe reads."""

    site: str | None = None
    """Site that is read, e.g. L15.resid_post; resid_post two thirds deep unless given."""
    name: str | None = None
    """Name of the direction in the workspace."""
    device: str = "auto"
    """Where the model runs: auto, cpu, cuda, cuda:1, mps."""
    batch_size: int = 16
    """Passages read at once."""


def reader_of(session: Session, ref: str, *, place: Place, span: str) -> "Reader":
    """A reader at the place, with the model loaded."""
    from microtome.directions import Reader, Span
    from microtome.directions.recipes import depth
    from microtome.models import load

    parsed = Span.parse(span)
    with session.step("load model"):
        model = load(ref, device=place.device, selfcheck=False, progress=session.progress)
    site = model.site(place.site) if place.site else depth(model)
    return Reader(model=model, site=site, span=parsed, batch_size=place.batch_size, progress=session.progress)


def finish(
    session: Session,
    model: "Model",
    made: "Mapping[str, Made]",
    *,
    more: Mapping[str, Any] | None = None,
    results: "tuple[Result, ...]" = (),
    notes: tuple[str, ...] = (),
    shown: "tuple[Result, ...]" = (),
) -> None:
    """Keep the directions and print what was measured: `results` of all together; `shown` only printed, for the direction itself holds them."""
    from microtome.directions import Measured
    from microtome.directions.recipes import top_tokens

    rows: list[dict[str, Any]] = []
    told = _finite(to_dict(more or {}))
    table = titled(f"directions of {model.ref}{f', a {model.quantised} (quantised) model' if model.quantised else ''}")
    for heading in ("name", "site", "length", "points", "raises"):
        table.add_column(heading)
    for name, each in made.items():
        direction = each.direction
        path = session.workspace.place("direction", name)
        raises, lowers = top_tokens(model, direction)
        said = tuple(dict.fromkeys([*notes, *each.notes]))
        _keep(direction, path, measured=Measured(results=each.results, together=results, notes=said, raises=raises, lowers=lowers, more=told))
        table.add_row(
            *(Text(plain(cell)) for cell in (name, str(direction.site), f"{direction.norm:.3g}", direction.sign, " ".join(map(quoted, raises[:5]))))
        )
        rows.append(
            {
                "name": name,
                "path": str(path),
                "fingerprint": direction.fingerprint,
                "site": str(direction.site),
                "norm": direction.norm,
                "raises": raises,
            }
        )
    figures = [*shown, *results, *(result for each in made.values() for result in each.results)]
    said = tuple(dict.fromkeys([*notes, *(note for each in made.values() for note in each.notes)]))
    views = [table, results_table("measured", figures), *(f"note: {plain(note)}" for note in said)]
    session.result({"directions": rows, "results": figures, "notes": said, **(more or {})}, *views)


def _keep(direction: "Direction", path: Path, *, measured: "Measured") -> None:
    """Save it with what was measured, over an older measurement of the very same direction; another one of that name is refused."""
    from microtome.artifacts import MANIFEST
    from microtome.directions import load_direction, load_measured, save_direction

    is_here = (path / MANIFEST).is_file() and load_direction(path) == direction
    if not is_here or load_measured(path) != measured:
        save_direction(direction, path, measured=measured, replace=is_here)


def _finite(value: Any) -> Any:
    """What JSON cannot hold as none at all."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def direction_views(card: "DirectionCard") -> list[Any]:
    """The card of a direction: facts, what was measured and what it does not show, and the likest others."""
    facts = titled(f"direction {card.name}")
    for heading in ("", ""):
        facts.add_column(heading)
    made = card.measured
    rows = {
        "site": card.site,
        "points": card.sign,
        "length": f"{card.norm:.3g} ({card.unit})",
        "reference": card.reference,
        "made by": canonical_json(card.provenance)[:300],
        "calibration": "" if card.calibration is None else _percentiles(card.calibration),
        "raises": " ".join(map(quoted, made.raises)) if made else "",
        "lowers": " ".join(map(quoted, made.lowers)) if made else "",
        "likest": ", ".join(f"{other.name} {other.cosine:+.2f}" for other in card.others[:6]),
    }
    for name, value in rows.items():
        if value:
            facts.add_row(name, Text(plain(value)))
    views: list[Any] = [facts]
    for title, results in (("measured", made.results), ("measured of all that were made with it", made.together)) if made else ():
        if results:
            views.append(results_table(title, list(results)))
    if made is None:
        views.append("note: it was saved without what was measured; make it again with `microtome direction` to see that here.")
    return [*views, *(f"note: {plain(note)}" for note in (made.notes if made else ()))]


def _percentiles(calibration: "Calibration") -> str:
    shown = ", ".join(f"p{p} {calibration.at(p):.3g}" for p in (1, 25, 50, 75, 99))
    return f"{shown} (n {calibration.n:,}, {calibration.source})"


def results_table(title: str, results: "list[Result]") -> Any:
    """Figures with their intervals and what stands beside them."""
    table = titled(title)
    for heading in ("figure", "value", "95 %", "n", "beside it"):
        table.add_column(heading, justify="right" if heading in ("value", "n") else "left")
    for result in results:
        interval = "" if result.low is None or result.high is None else f"{result.low:.3g} … {result.high:.3g}"
        beside = ", ".join(f"{name} {value:.3g}" for name, value in result.baselines.items())
        cells = (result.name, f"{result.value:.3g} {result.unit}".strip(), interval, str(result.n), beside)
        table.add_row(*(Text(plain(cell)) for cell in cells))
    return table
