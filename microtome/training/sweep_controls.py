"""The controls of a sweep: those that stand beside its runs, each once at every L0 that the runs have, measured like the runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from microtome.progress import Progress, Throttled
from microtome.stats import Result
from microtome.training.quality import Figures, sites_of
from microtome.training.records import Trained
from microtome.training.yardstick import Beside, Yardstick


@dataclass(frozen=True, kw_only=True)
class SweepControl:
    """One control, measured like the runs."""

    name: str
    """`pca`, `k-means` or `neurons`."""
    note: str
    """Its size and what it was fitted to."""
    fvu: Result
    l0: Result
    ce_recovered: Result | None


def controls_beside(runs: Sequence[Trained], yardstick: Yardstick, *, progress: Progress | None = None) -> tuple[SweepControl, ...]:
    """What stands beside the runs and does not depend on them, each once, by rising L0; `random` and `mean` are in the runs' own figures."""
    report = Throttled(progress)
    found: dict[tuple[str, str], SweepControl] = {}
    for done, run in enumerate(runs):
        report("measuring controls", done, len(runs))
        beside, _ = yardstick.beside(run.dictionary, l0=run.quality.l0.value, sites=sites_of(run.dictionary, yardstick.source.shards))
        for name, each in beside.items():
            if name != "mean" and (name, each.note) not in found:
                found[name, each.note] = _control(name, each, mean=beside["mean"], yardstick=yardstick)
    report("measuring controls", len(runs), len(runs))
    return tuple(sorted(found.values(), key=lambda control: (control.name, control.l0.value)))


def _control(name: str, control: Beside, *, mean: Beside, yardstick: Yardstick) -> SweepControl:
    figures = Figures(mine=control.sums, beside={}, whole=frozenset(), origin=yardstick.source.shards.id)
    recovered, _ = figures.recovered(yardstick.splice_of(control, mean))
    fvu, l0 = figures.fvu(tuple(control.sums.sites)), figures.l0(tuple(control.sums.members))
    return SweepControl(name=name, note=control.note, fvu=fvu, l0=l0, ce_recovered=recovered)
