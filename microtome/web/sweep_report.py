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
        tag("style", Markup(files("microtome.web").joinpath("report.css").read_text() + _STYLE)),
    )
    top = tag("header", tag("h1", f"Sweep {title}"), tag("p", _lead(sweep)))
    main = tag("main", top, _pictures(sweep), _table(sweep), _law(sweep))
    return Markup("<!doctype html>\n") + tag("html", tag("head", head), tag("body", main), lang="en") + "\n"


_KINDS = {
    "trained": ("#2f7f86", "#4fa9b0"),
    "random": ("#b4552d", "#e08a5f"),
    "frozen": ("#8a6d1f", "#d8b650"),
    "kmeans": ("#2a8a57", "#63c792"),
    "pca": ("#7a5ea8", "#b39ade"),
    "neurons": ("#a83f6f", "#e389b3"),
}
"""Colours on light and on dark, by what is drawn."""
_SIZES = ("trained", "random", "kmeans", "pca", "frozen", "neurons")
"""Colours of the curves of a law, one a size."""


def _coloured(place: int) -> str:
    return "".join(
        f".curve.{kind} {{ stroke: {pair[place]}; }} .dot.{kind} {{ fill: {pair[place]}; }} .key.{kind} {{ background: {pair[place]}; }}\n"
        for kind, pair in _KINDS.items()
    )


_STYLE = f"""
{_coloured(0)}@media (prefers-color-scheme: dark) {{
{_coloured(1)}}}
.curve.control {{ stroke-dasharray: 5 4; }} .dot.control {{ fill: var(--paper); stroke-width: 2; }}
{"".join(f".dot.control.{kind} {{ stroke: {pair[0]}; fill: var(--paper); }}" for kind, pair in _KINDS.items())}
@media (prefers-color-scheme: dark) {{
{"".join(f".dot.control.{kind} {{ stroke: {pair[1]}; fill: var(--paper); }}" for kind, pair in _KINDS.items())} }}
.keys {{ display: flex; flex-wrap: wrap; gap: 0.3rem 1.1rem; padding: 0; margin: 0.8rem 0; list-style: none; font-size: 0.9rem; }}
.key {{ display: inline-block; width: 0.8em; height: 0.8em; border-radius: 50%; margin-right: 0.4em; }}
@media (max-width: 860px) {{ td.picture, th.picture {{ display: none; }} td.what {{ min-width: 120px; }} th, td {{ padding-right: 0.55rem; }} }}
"""
_CHOICE = "The knee of FVU over L0 (or the lowest FVU, where all runs have one k) is a suggestion: what a dictionary is for decides."


def _lead(sweep: Sweep) -> str:
    failed = sum(bool(run.failed) for run in sweep.runs)
    told = f"{len(sweep.runs)} runs on one pass over the activations of {sweep.model}"
    return told + (f"; {failed} of them diverged." if failed else ".") + (f" Suggested: {sweep.chosen}. {_CHOICE}" if sweep.chosen else "")


def _pictures(sweep: Sweep) -> Markup:
    drawn = {"fvu": "FVU, share of the variance unexplained"}
    if any(run.ce_recovered for run in sweep.runs):
        drawn["ce_recovered"] = "cross-entropy recovered, share"
    series = {figure: _over_l0(sweep, figure=figure) for figure in drawn}
    charts = [
        curves(series[figure], x_label="L0, active features a token", y_label=label, dots=True, log_x=True, named=False)
        for figure, label in drawn.items()
    ]
    note = (
        "Every point is measured on held-out documents; controls are dashed and hollow. Lower FVU and higher recovery are better. The mean of the "
        "activations, at L0 0, has FVU 1 and recovers 0."
    )
    figures = tag("div", *(tag("figure", chart) for chart in charts), class_="pair")
    return join(tag("h2", "What sparsity costs"), figures, _keys(series["fvu"]), tag("p", note, class_="soft"))


def _keys(series: Sequence[Series]) -> Markup:
    """Names and colours, below the pictures."""
    rows = [tag("li", tag("span", class_=f"key {each.kind.removeprefix('control ')}"), each.name) for each in series if each.name]
    return tag("ul", *rows, class_="keys")


def _over_l0(sweep: Sweep, *, figure: str) -> list[Series]:
    """The trained runs, their random controls, and the other controls, over L0."""
    found: dict[str, list[tuple[float, float]]] = {"trained": [], "random control": [], "frozen decoder control": []}
    for run in sweep.runs:
        result: Result | None = getattr(run, figure)
        if run.l0 is None or result is None:
            continue
        found["frozen decoder control" if run.frozen_decoder else "trained"].append((run.l0.value, result.value))
        if "random" in result.baselines and not run.frozen_decoder:
            found["random control"].append((run.l0.baselines.get("random", run.l0.value), result.baselines["random"]))
    for control in sweep.controls:
        result = getattr(control, figure)
        if result is not None:
            found.setdefault(f"{control.name} control", []).append((control.l0.value, result.value))
    return [_series(name, sorted(points)) for name, points in found.items() if points]


def _series(name: str, points: Sequence[tuple[float, float]]) -> Series:
    """Joined where no two points have one L0: a line would go up and down between runs that differ in something else."""
    kind = name.split(maxsplit=1)[0].replace("-", "")
    apart = len({f"{x:.3g}" for x, _ in points}) == len(points)
    x, y = [max(x, 1e-3) for x, _ in points], [y for _, y in points]
    return Series(name=name, x=x, y=y, kind=f"control {kind}" if "control" in name else kind, joined=apart)


def _table(sweep: Sweep) -> Markup:
    top = max((each.fvu.value for each in (*sweep.runs, *sweep.controls) if each.fvu is not None), default=1.0)
    heads = [tag("th", "run"), *(tag("th", head, class_="num") for head in ("lr", "L0", "FVU", "95 % interval"))]
    heads += [tag("th", "FVU from 0, its controls as rings", class_="picture"), *(tag("th", head, class_="num") for head in ("dead", "CE rec."))]
    rows = [_run(run, chosen=run.label == sweep.chosen, top=top) for run in sweep.runs] + [_control(control, top=top) for control in sweep.controls]
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows))
    note = "dead: share of the features active on no held-out token. CE rec.: cross-entropy recovered."
    return join(tag("h2", "All runs and controls"), tag("div", table, class_="scroll"), tag("p", note, class_="soft"))


def _run(run: SweepRun, *, chosen: bool, top: float) -> Markup:
    if run.fvu is None:
        return tag("tr", tag("td", run.label), tag("td", run.failed, colspan=7))
    remark = ", suggested" if chosen else ", a control" if run.frozen_decoder else ""
    name = tag("td", run.label, tag("small", run.dictionary + remark), class_="what")
    lr = "–" if run.lr is None else f"{run.lr:g}"
    return tag("tr", name, *_cells(run.l0, run.fvu, run.ce_recovered, lr=lr, dead=run.dead_share, top=top))


def _control(control: SweepControl, *, top: float) -> Markup:
    name = tag("td", f"{control.name} control", tag("small", control.note), class_="what")
    return tag("tr", name, *_cells(control.l0, control.fvu, control.ce_recovered, lr="–", dead=None, top=top))


def _cells(  # a row's columns
    l0: Result | None, fvu: Result, recovered: Result | None, *, lr: str, dead: Result | None, top: float
) -> list[Markup]:
    interval = "–" if fvu.low is None or fvu.high is None else f"{fvu.low:.3g} – {fvu.high:.3g}"
    texts = (lr, _value(l0), _value(fvu), interval)
    picture = tag("td", strip(fvu.value, low=fvu.low, high=fvu.high, controls=fvu.baselines, top=max(1.0, top)), class_="picture")
    return [*(tag("td", text, class_="num") for text in texts), picture, *(tag("td", _value(each), class_="num") for each in (dead, recovered))]


def _law(sweep: Sweep) -> Markup:
    heading = tag("h2", "Scaling law")
    if sweep.scaling is None:
        return join(heading, tag("p", f"None was fitted: {sweep.scaling_refused}.", class_="soft"))
    return join(heading, *_law_picture(sweep.scaling), *(tag("p", line) for line in scaling_lines(sweep.scaling)))


def _law_picture(scaling: Scaling) -> list[Markup]:
    """FVU of every run (dots) and of the law (lines): over features, a line for each number of tokens, or over tokens where these alone vary."""
    over_features = scaling.law.feature_term > 0
    sizes = [(point.features, point.tokens) if over_features else (point.tokens, point.features) for point in scaling.points]
    series: list[Series] = []
    low, high = min(x for x, _ in sizes), max(x for x, _ in sizes)
    steps = [low * (high / low) ** (step / 30) for step in range(31)]
    for place, other in enumerate(sorted({other for _, other in sizes})):
        kind = _SIZES[place % len(_SIZES)]
        points = sorted((size[0], point.loss) for size, point in zip(sizes, scaling.points, strict=True) if size[1] == other)
        named = f"{other:,} {'tokens' if over_features else 'features'}"
        law = [scaling.law(x, other) if over_features else scaling.law(other, x) for x in steps]
        series.append(Series(name=named, x=[x for x, _ in points], y=[y for _, y in points], kind=kind, joined=False))
        series.append(Series(name="", x=steps, y=law, kind=kind, dotted=False))
    x_label = "features" if over_features else "tokens trained on"
    chart = curves(series, x_label=x_label, y_label="FVU, share of the variance unexplained", log_x=True, dots=True, named=False)
    words = "Dots: the runs, on held-out documents. Lines: the law fitted to them."
    return [tag("figure", chart, tag("figcaption", words)), _keys(series)]


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
