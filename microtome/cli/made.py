"""What the recipes of `microtome direction` share: where they read, keeping what they make, and printing what was measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import Parameter
from rich.text import Text

from microtome.cli.cards import plain, quoted, titled
from microtome.cli.session import Session

if TYPE_CHECKING:
    from microtome.directions import Direction, Reader
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
) -> None:
    """Keep the directions and print what was measured."""
    from microtome.directions.recipes import top_tokens

    rows: list[dict[str, Any]] = []
    table = titled(f"directions of {model.ref}{f', a {model.quantised} (quantised) model' if model.quantised else ''}")
    for heading in ("name", "site", "length", "points", "raises"):
        table.add_column(heading)
    for name, each in made.items():
        direction = each.direction
        path = session.workspace.place("direction", name)
        _keep(direction, path)
        tokens = top_tokens(model, direction)
        table.add_row(
            *(Text(plain(cell)) for cell in (name, str(direction.site), f"{direction.norm:.3g}", direction.sign, " ".join(map(quoted, tokens[:5]))))
        )
        rows.append(
            {
                "name": name,
                "path": str(path),
                "fingerprint": direction.fingerprint,
                "site": str(direction.site),
                "norm": direction.norm,
                "raises": tokens,
            }
        )
    measured = [*results, *(result for each in made.values() for result in each.results)]
    said = list(dict.fromkeys([*notes, *(note for each in made.values() for note in each.notes)]))
    views = [table, results_table("measured", measured), *(f"note: {note}" for note in said)]
    session.result({"directions": rows, "results": measured, "notes": said, **(more or {})}, *views)


def _keep(direction: "Direction", path: Path) -> None:
    from microtome.artifacts import MANIFEST
    from microtome.directions import load_direction, save_direction

    if (path / MANIFEST).is_file() and load_direction(path) == direction:
        return
    save_direction(direction, path)


def results_table(title: str, results: "list[Result]") -> Any:
    """Figures with their intervals and what stands beside them."""
    table = titled(title)
    for heading in ("figure", "value", "95 %", "n", "beside it"):
        table.add_column(heading, justify="right" if heading in ("value", "n") else "left")
    for result in results:
        interval = "" if result.low is None or result.high is None else f"{result.low:.3g} … {result.high:.3g}"
        beside = ", ".join(f"{name} {value:.3g}" for name, value in result.baselines.items())
        table.add_row(*map(Text, (result.name, f"{result.value:.3g} {result.unit}".strip(), interval, str(result.n), beside)))
    return table
