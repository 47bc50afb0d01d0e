"""Charts as SVG text: histogram, curves, a figure beside its controls. Colours come from the page's style sheet by class."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from microtome.web.markup import Markup, join, tag

WIDTH, HEIGHT = 520, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 10, 12, 38


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A linear or logarithmic axis from `low` to `high`, drawn between two places."""

    low: float
    high: float
    start: float
    """Place of `low` in the picture, in its units …"""
    end: float
    """… and of `high`."""
    log: bool = False

    def at(self, value: float) -> float:
        """The place of a value; values outside stay at the ends."""
        low, high, x = (math.log10(v) if self.log else v for v in (self.low, self.high, max(value, self.low) if self.log else value))
        share = (x - low) / (high - low) if high > low else 0.5
        return self.start + (self.end - self.start) * min(1.0, max(0.0, share))

    def ticks(self) -> list[float]:
        """Round values in the range: about five steps of 1, 2 or 5; on a log axis powers of ten, or 1, 2, 5 times them where these are few."""
        if self.log:
            powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            if len(powers) < 3:
                fine = [factor * 10.0**power for power in range(powers.start - 1, powers.stop + 1) for factor in (1, 2, 5)]
                return [value for value in fine if self.low <= value <= self.high]
            every = max(1, math.ceil(len(powers) / 7))
            return [10.0**power for power in list(powers)[::every]]
        rough = (self.high - self.low) / 5 or 1.0
        magnitude = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line through points, by name."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    kind: str = ""
    """Class that gives it its colour; by default that of its number."""
    joined: bool = True
    """Whether a line goes through its points."""
    dotted: bool = True
    """Whether its points are shown where points are."""


def histogram(
    edges: Sequence[float], counts: Sequence[int], *, log: bool, x_label: str, y_label: str, marks: Mapping[str, float] | None = None
) -> Markup:
    """Bars over bins; `marks` are dashed lines at values of the x axis, by label."""
    if not any(counts):
        return tag("p", "nothing to draw", class_="empty")
    x = Axis(low=edges[0], high=edges[-1], start=_LEFT, end=WIDTH - _RIGHT, log=log)
    y = Axis(low=0, high=max(counts) * 1.05, start=HEIGHT - _BOTTOM, end=_TOP)
    bars = [
        tag(
            "rect",
            class_="bar",
            x=_px(x.at(low) + 0.5),
            y=_px(y.at(n)),
            width=_px(max(1.0, x.at(high) - x.at(low) - 1)),
            height=_px(y.at(0) - y.at(n)),
        )
        for low, high, n in zip(edges, edges[1:], counts, strict=False)
        if n
    ]
    lines = [_mark(x, label, value, row=row) for row, (label, value) in enumerate((marks or {}).items()) if edges[0] <= value <= edges[-1]]
    return _chart(x, y, join(*bars, *lines), x_label=x_label, y_label=y_label)


def curves(  # what is drawn, and how
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    dots: bool = False,
    best: float | None = None,
    named: bool = True,
) -> Markup:
    """Lines over a common pair of axes; `dots` shows the points, `best` marks a value of x, `named` writes their names into the picture."""
    xs = [value for each in series for value in each.x]
    ys = [value for each in series for value in each.y if math.isfinite(value)]
    if not xs or not ys:
        return tag("p", "nothing to draw", class_="empty")
    low, high = min(ys), max(ys)
    pad = 0.08 * (high - low) or abs(high) * 0.1 or 1.0
    floor = 0.0 if 0 <= low < 0.4 * high else low - pad
    wide = 1.3 if log_x else 1.0
    x = Axis(low=min(xs) / wide, high=max(xs) * wide, start=_LEFT, end=WIDTH - _RIGHT, log=log_x)
    y = Axis(low=floor, high=high + pad, start=HEIGHT - _BOTTOM, end=_TOP)
    drawn: list[Markup] = []
    for i, each in enumerate(series):
        points = [(x.at(a), y.at(b)) for a, b in zip(each.x, each.y, strict=True) if math.isfinite(b)]
        kind = each.kind or f"series{i}"
        if each.joined:
            drawn.append(tag("path", class_=f"curve {kind}", d="M" + "L".join(f"{_px(a)} {_px(b)}" for a, b in points)))
        if dots and each.dotted:
            drawn += [tag("circle", class_=f"dot {kind}", cx=_px(a), cy=_px(b), r=3.5) for a, b in points]
        if len(series) > 1 and named:
            place = {"x": WIDTH - _RIGHT - 4, "y": _TOP + 14 + 15 * i}
            drawn.append(tag("text", each.name, class_=f"name {kind}", text_anchor="end", **place))
    if best is not None:
        drawn.append(_mark(x, "chosen", best, row=0))
    return _chart(x, y, join(*drawn), x_label=x_label, y_label=y_label)


def strip(value: float, *, low: float | None, high: float | None, controls: Mapping[str, float], top: float = 0.0) -> Markup:
    """One figure on its own line from 0, to `top` or further: a dot with its interval, and hollow marks for the controls."""
    known = [v for v in (value, high, top, *controls.values()) if v is not None and math.isfinite(v)]
    axis = Axis(low=min(0.0, *known), high=max(1e-12, *known) * 1.04, start=8, end=292)
    parts = [tag("line", class_="axis", x1=8, x2=292, y1=13, y2=13), tag("line", class_="axis", x1=_px(axis.at(0)), x2=_px(axis.at(0)), y1=8, y2=18)]
    for name, control in controls.items():
        ring = tag("circle", class_=f"control {name}", cx=_px(axis.at(control)), cy=13, r=5)
        parts.append(tag("g", tag("title", f"{name}: {control:.4g}"), ring))
    if low is not None and high is not None:
        parts.append(tag("line", class_="whisker", x1=_px(axis.at(low)), x2=_px(axis.at(high)), y1=13, y2=13))
    parts.append(tag("circle", class_="dot", cx=_px(axis.at(value)), cy=13, r=5))
    return tag("svg", *parts, class_="strip", viewBox="0 0 300 26", role="img", aria_hidden="true")


def spark(counts: Sequence[int]) -> Markup:
    """A histogram the size of a word, without axes."""
    top = max(counts, default=0) or 1
    step = 120 / max(1, len(counts))
    bars = [
        tag("rect", class_="bar", x=_px(i * step), y=_px(24 - 24 * n / top), width=_px(max(0.6, step - 0.4)), height=_px(24 * n / top))
        for i, n in enumerate(counts)
        if n
    ]
    return tag("svg", *bars, class_="spark", viewBox="0 0 120 24", role="img", aria_hidden="true", preserveAspectRatio="none")


def _chart(x: Axis, y: Axis, content: Markup, *, x_label: str, y_label: str) -> Markup:
    frame: list[Markup] = []
    for value in y.ticks():
        at = _px(y.at(value))
        frame.append(tag("line", class_="grid", x1=_LEFT, x2=WIDTH - _RIGHT, y1=at, y2=at))
        frame.append(tag("text", _tick(value, log=y.log), class_="tick", x=_LEFT - 6, y=_px(y.at(value) + 4), text_anchor="end"))
    below = HEIGHT - _BOTTOM + 16
    frame += [tag("text", _tick(value, log=x.log), class_="tick", x=_px(x.at(value)), y=below, text_anchor="middle") for value in x.ticks()]
    frame.append(tag("text", x_label, class_="label", x=(_LEFT + WIDTH - _RIGHT) / 2, y=HEIGHT - 4, text_anchor="middle"))
    frame.append(tag("text", y_label, class_="label", x=_LEFT, y=_TOP - 2, text_anchor="start"))
    return tag("svg", *frame, content, class_="chart", viewBox=f"0 -6 {WIDTH} {HEIGHT + 6}", role="img", aria_label=f"{y_label} over {x_label}")


def _mark(x: Axis, label: str, value: float, *, row: int) -> Markup:
    at = x.at(value)
    right = at > WIDTH * 0.7
    text = tag("text", label, class_="mark", x=_px(at + (-5 if right else 5)), y=_TOP + 12 + 14 * row, text_anchor="end" if right else "start")
    return join(tag("line", class_="mark", x1=_px(at), x2=_px(at), y1=_TOP, y2=HEIGHT - _BOTTOM), text)


def _tick(value: float, *, log: bool) -> str:
    """Powers of ten on a logarithmic axis where digits would be many; otherwise digits, millions as `2 M`."""
    if log and not 0.01 <= value <= 1000 and math.log10(value).is_integer():
        return f"10{str(round(math.log10(value))).translate(_RAISED)}"
    return f"{value / 1e6:g} M" if abs(value) >= 1e6 else f"{value:,.10g}" if abs(value) >= 1000 else f"{value:.6g}"


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
