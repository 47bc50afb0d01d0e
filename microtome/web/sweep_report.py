"""The page about a sweep: one self-contained HTML file with FVU and cross-entropy recovered over L0, the controls, and the scaling law."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from microtome.artifacts import write_atomic
from microtome.stats import Result
from microtome.training import Scaling, Sweep, SweepControl, SweepRun
from microtome.web.charts import Series, curves, strip
from microtome.web.markup import Markup, join, tag


def write_sweep_report(sweep: Sweep, out: Path, *, title: str) -> Path:
    """Write the page to `out` and return its path."""
    write_atomic(out, sweep_page(sweep, title=title))
    return out


def sweep_page(sweep: Sweep, *, title: str) -> str:
    """The whole page."""
    head = join(
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content="default-src 'none'; style-src 'unsafe-inline'; img-src data:"),
        tag("title", f"microtome: sweep {title}"),
        tag("style", Markup(files("microtome.web").joinpath("report.css").read_text() + _COLOURS)),
    )
    top = tag("header", tag("h1", f"Sweep {title}"), tag("p", _lead(sweep)))
    main = tag("main", top, _pictures(sweep), _table(sweep), _law(sweep))
    return Markup("<!doctype html>\n") + tag("html", tag("head", head), tag("body", main), lang="en") + "\n"


_COLOURS = "".join(
    f".curve.series{place} {{ stroke: {colour}; }} .dot.series{place}, text.series{place} {{ fill: {colour}; }}\n"
    for place, colour in ((2, "#2a8a57"), (3, "#a0522d"), (4, "#7a5ea8"))
)
_CHOICE = "The knee of FVU over L0 (or the lowest FVU, where all runs have one k) is a suggestion: what a dictionary is for decides."


def _lead(sweep: Sweep) -> str:
    failed = sum(bool(run.failed) for run in sweep.runs)
    told = f"{len(sweep.runs)} runs on one pass over the activations of {sweep.model}"
    return told + (f"; {failed} of them diverged." if failed else ".") + (f" Suggested: {sweep.chosen}. {_CHOICE}" if sweep.chosen else "")


def _pictures(sweep: Sweep) -> Markup:
    charts = [_over_l0(sweep, figure="fvu", label="FVU")]
    if any(run.ce_recovered for run in sweep.runs):
        charts.append(_over_l0(sweep, figure="ce_recovered", label="cross-entropy recovered"))
    note = "Every point is a run on held-out documents. The mean of the activations has FVU 1 and recovers 0 at L0 0; lower FVU is better."
    return join(tag("h2", "What sparsity costs"), *charts, tag("p", note, class_="soft"))


def _over_l0(sweep: Sweep, *, figure: str, label: str) -> Markup:
    """The trained runs, their random controls, and the other controls, over L0."""
    found: dict[str, list[tuple[float, float]]] = {"trained": [], "random": []}
    for run in sweep.runs:
        result: Result | None = getattr(run, figure)
        if run.l0 is None or result is None:
            continue
        found["trained"].append((run.l0.value, result.value))
        if "random" in result.baselines:
            found["random"].append((run.l0.baselines.get("random", run.l0.value), result.baselines["random"]))
    for control in sweep.controls:
        result = getattr(control, figure)
        if result is not None:
            found.setdefault(control.name, []).append((control.l0.value, result.value))
    series = [_series(name, sorted(points)) for name, points in found.items() if points]
    wide = [x for each in series for x in each.x if x > 0]
    drawn = [Series(name=each.name, x=[max(x, 1e-3) for x in each.x], y=each.y) for each in series]
    return curves(drawn, x_label="L0, active features a token", y_label=label, dots=True, log_x=bool(wide))


def _series(name: str, points: Sequence[tuple[float, float]]) -> Series:
    return Series(name=name, x=[x for x, _ in points], y=[y for _, y in points])


def _table(sweep: Sweep) -> Markup:
    heads = ("run", "lr", "L0", "FVU", "95 % interval", "", "dead share", "CE recovered")
    rows = [_run(run, chosen=run.label == sweep.chosen) for run in sweep.runs] + [_control(control) for control in sweep.controls]
    table = tag("table", tag("thead", tag("tr", *(tag("th", head) for head in heads))), tag("tbody", *rows))
    return join(tag("h2", "All runs and controls"), tag("div", table, class_="scroll"))


def _run(run: SweepRun, *, chosen: bool) -> Markup:
    if run.fvu is None:
        return tag("tr", tag("td", run.label), tag("td", run.failed, colspan=7))
    name = tag("td", run.label, tag("small", run.dictionary + (", suggested" if chosen else "")), class_="what")
    return tag("tr", name, *_cells(run.l0, run.fvu, run.ce_recovered, lr="–" if run.lr is None else f"{run.lr:g}", dead=run.dead_share))


def _control(control: SweepControl) -> Markup:
    name = tag("td", control.name, tag("small", control.note), class_="what")
    return tag("tr", name, *_cells(control.l0, control.fvu, control.ce_recovered, lr="–", dead=None))


def _cells(l0: Result | None, fvu: Result, recovered: Result | None, *, lr: str, dead: Result | None) -> list[Markup]:
    interval = "–" if fvu.low is None or fvu.high is None else f"{fvu.low:.3g} – {fvu.high:.3g}"
    texts = (lr, _value(l0), _value(fvu), interval)
    picture = tag("td", strip(fvu.value, low=fvu.low, high=fvu.high, controls=fvu.baselines), class_="picture")
    return [*(tag("td", text, class_="num") for text in texts), picture, *(tag("td", _value(each), class_="num") for each in (dead, recovered))]


def _law(sweep: Sweep) -> Markup:
    heading = tag("h2", "Scaling law")
    if sweep.scaling is None:
        return join(heading, tag("p", f"None was fitted: {sweep.scaling_refused}.", class_="soft"))
    return join(heading, *(tag("p", line) for line in scaling_lines(sweep.scaling)))


def scaling_lines(scaling: Scaling) -> list[str]:
    """The law, its residuals and what it recommends, in words; for the terminal too."""
    law, terms = scaling.law, list[str]()
    if law.feature_term:
        terms.append(f"{law.feature_term:.4g} · (features / {law.features0:,.0f})^-{law.alpha:.3g}")
    if law.token_term:
        terms.append(f"{law.token_term:.4g} · (tokens / {law.tokens0:,.0f})^-{law.beta:.3g}")
    formula = "FVU = " + " + ".join([f"{law.irreducible:.4g}", *terms])
    fit = f"Residuals of log FVU over {len(scaling.points)} runs: {scaling.rms:.2%} root mean square"
    ahead = "" if scaling.ahead is None else f"; fitted without the largest run it misses that one by {scaling.ahead:.1%}"
    best = scaling.recommended
    if best is None:
        advice = f"No next size is recommended: {scaling.refused}."
    else:
        expected = f"FVU {best.loss:.3g} expected ({best.low:.3g} – {best.high:.3g})"
        advice = f"Recommended next: {best.features:,} features on {best.tokens:,} tokens, {best.cost:.3g} times the costliest run; {expected}."
    return [formula, fit + ahead + ".", advice]


def _value(result: Result | None) -> str:
    return "–" if result is None else f"{result.value:.3g}"
