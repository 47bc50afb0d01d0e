"""`microtome train --sweep`: many runs on one pass, their table and their page."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from microtome.cli.cards import titled
from microtome.cli.session import Session
from microtome.errors import ConfigError

if TYPE_CHECKING:
    import microtome.models
    import microtome.stats
    import microtome.training
    from microtome.training import StoredRows


def parse_axes(asked: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """`("k=8,16", "seed=0,1")` as values by axis."""
    axes: dict[str, tuple[str, ...]] = {}
    for each in asked:
        name, equals, values = each.partition("=")
        if not equals or name in axes:
            do = "Write each axis once, e.g. --sweep k=8,16,32 --sweep seed=0,1."
            raise ConfigError("this is not what to sweep.", got=each, wanted="AXIS=VALUE,VALUE", do=do)
        axes[name] = tuple(value.strip() for value in values.split(",") if value.strip())
    return axes


def run_sweep(
    session: Session,
    source: "StoredRows",
    *,
    base: "microtome.training.TrainConfig",
    axes: Sequence[str],
    name: str,
    model: "microtome.models.Model | None",
) -> None:
    """Make sweeps/NAME and its dictionaries, and show them."""
    from microtome.training import SweepConfig, sweep
    from microtome.web import write_sweep_report

    config = SweepConfig(base=base, axes=parse_axes(axes))
    workspace = session.workspace
    out = workspace.place("sweep", name)
    with session.step("sweep", output=out) as step:
        dictionaries = workspace.place("dictionary", name).parent
        made = sweep(source, config, out=out, dictionaries=dictionaries, model=model, progress=session.progress)
        step.count(sum(run.tokens for run in config.runs().values()), "tokens")
    page = write_sweep_report(made, workspace.path / f"sweep-{name}.html", title=name)
    session.result({"sweep": made, "path": str(out), "report": str(page)}, *sweep_views(made), f"drawn in {page}")


def sweep_views(made: "microtome.training.Sweep") -> list[Table | str]:
    """The runs and controls as a table, and the scaling law in words."""
    from microtome.web import scaling_lines

    table = titled(f"sweep on {made.model}: held-out figures, runs first, controls below")
    for heading in ("run", "lr", "L0", "FVU", "95 % interval", "random", "dead share", "CE recovered"):
        table.add_column(heading, justify="left" if heading == "run" else "right")
    for run in made.runs:
        if run.fvu is None or run.l0 is None:
            table.add_row(f"{run.label}: {run.failed}")
            continue
        mark = " (suggested)" if run.label == made.chosen else " (control)" if run.frozen_decoder else ""
        figures = (f"{run.lr:g}" if run.lr else "–", f"{run.l0.value:.4g}", f"{run.fvu.value:.4g}", _interval(run.fvu))
        beside = (f"{run.fvu.baselines.get('random', float('nan')):.4g}", _figure(run.dead_share), _figure(run.ce_recovered))
        table.add_row(run.label + mark, *figures, *beside)
    for control in made.controls:
        figures = ("–", f"{control.l0.value:.4g}", f"{control.fvu.value:.4g}", _interval(control.fvu), "–", "–", _figure(control.ce_recovered))
        table.add_row(f"{control.name} ({control.note.split(',')[0]})", *figures)
    law = scaling_lines(made.scaling) if made.scaling is not None else []
    return [table, *law]


def _interval(result: "microtome.stats.Result") -> str:
    return "–" if result.low is None or result.high is None else f"{result.low:.4g} … {result.high:.4g}"


def _figure(result: "microtome.stats.Result | None") -> str:
    return "–" if result is None else f"{result.value:.4g}"
