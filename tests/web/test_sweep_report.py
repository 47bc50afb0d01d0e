"""The page about a sweep: every run and control is drawn and named, and the law passes through what it was fitted to."""

from dataclasses import replace

from microtome.stats import Result
from microtome.training import Sweep, SweepControl, SweepRun
from microtome.training.scaling import ScalingPoint, fit_scaling
from microtome.web.sweep_report import sweep_page


def figure(value: float, **baselines: float) -> Result:
    return Result(name="", value=value, low=value - 0.01, high=value + 0.01, n=10, baselines=baselines)


def run(k: int, fvu: float, *, frozen: bool = False) -> SweepRun:
    l0 = figure(k, random=k, mean=0)
    label = f"k{k}-{'frozen' if frozen else 'trained'}"
    return SweepRun(label=label, features=64, tokens=1000, k=k, seed=0, frozen_decoder=frozen, fvu=figure(fvu, random=0.9, mean=1), l0=l0)


SWEEP = Sweep(
    runs=(run(2, 0.6), run(2, 0.8, frozen=True), run(4, 0.4)),
    controls=(SweepControl(name="pca", note="k 2 & more", fvu=figure(0.7), l0=figure(2), ce_recovered=None),),
    chosen=None,
    scaling_refused="too few",
)


def test_runs_and_controls_are_points_of_their_own_colours() -> None:
    page = sweep_page(SWEEP, title="a & b")
    assert page.count('class="dot trained"') == 2
    assert page.count('class="dot control frozen"') == 1
    assert page.count('class="dot control random"') == 2, "that of a frozen decoder is the same"
    assert page.count('class="dot control pca"') == 1
    for name in ("trained", "random control", "frozen decoder control", "pca control", "L0, active features a token", "a &amp; b", "k 2 &amp; more"):
        assert name in page


def test_runs_with_one_l0_are_not_joined() -> None:
    assert page_lines(SWEEP) == 1
    assert page_lines(replace(SWEEP, runs=(*SWEEP.runs, run(4, 0.5)))) == 0


def page_lines(sweep: Sweep) -> int:
    return sweep_page(sweep, title="s").count('class="curve trained"')


def test_a_law_is_drawn_over_its_runs() -> None:
    points = [ScalingPoint(features=n, tokens=1000, loss=0.1 + 0.5 * (n / 100) ** -0.5) for n in (50, 100, 200, 400)]
    page = sweep_page(replace(SWEEP, scaling=fit_scaling(points)), title="s")
    law = page[page.index("Scaling law") :]
    assert law.count("<circle") == 4
    assert law.count('class="curve trained"') == 1
    assert "1,000 tokens" in law
