"""The report's section on steering: dose against effect with the controls, what it costs in coherence, and what the texts became."""

from microtome.stats import Result
from microtome.steering import Dose, DoseCurve
from microtome.web.charts import Series, curves
from microtome.web.markup import Markup, join, tag

_NAMES = {"random": "random direction", "wrong_concept": "wrong concept", "wrong_layer": "wrong layer", "prompt": "a prompt that asks"}
_REPEATS = " A text that repeats itself is cheap too: the table has the share of its groups of four tokens that came before."
_SHOWN = 170
"""Characters of a continuation."""


def steering_section(curve: DoseCurve) -> Markup:
    """The section."""
    at = [point.dose for point in curve.points]
    effect = [Series(name="the edit", x=at, y=[point.effect.value for point in curve.points], kind="edit")]
    for name in curve.points[0].controls:
        values = [point.controls[name].value for point in curve.points]
        effect.append(Series(name=_NAMES.get(name, name), x=at, y=values, kind=f"control-{name}"))
    cost = [Series(name="coherence", x=at, y=[point.coherence.value for point in curve.points], kind="cost")]
    unit = curve.points[0].effect.unit
    pictures = (
        _figure(curves(effect, x_label="dose", y_label=f"effect ({unit})", dots=True, named=False), "Effect: change against the unedited model."),
        _figure(
            curves(cost, x_label="dose", y_label="nats a token", dots=True),
            "Coherence: cross-entropy of the edited text under the unedited model; low is coherent, and dose 0 is the unedited text's own."
            + (_REPEATS if _repeats(curve) else ""),
        ),
    )
    keys = [tag("span", tag("i", class_=f"key {series.kind}"), f" {series.name}", class_="legend") for series in effect]
    return join(
        tag("h2", "Does it do what it says?"),
        tag("p", f"{curve.title} The effect is {curve.measure}. Unedited it is {curve.unedited:.3g}. {len(curve.prompts)} prompts, greedy."),
        tag("div", *pictures, class_="pair"),
        tag("p", *keys, class_="soft"),
        tag("div", _table(curve), class_="scroll"),
        tag("p", *(tag("span", f"{_NAMES.get(name, name)}: {words} ", class_="soft") for name, words in curve.controls.items())),
        tag("p", _verdict(curve), class_="soft"),
        tag("h3", f"“{curve.prompts[0]} …”"),
        tag("ul", *(_said(point) for point in curve.points), class_="examples"),
    )


def _figure(picture: Markup, words: str) -> Markup:
    return tag("figure", picture, tag("figcaption", words))


def _table(curve: DoseCurve) -> Markup:
    names, shares = list(curve.points[0].controls), _repeats(curve)
    heads = [
        "dose",
        "effect",
        "95 %",
        *(_NAMES.get(name, name) for name in names),
        "edit − best control, 95 %",
        "coherence",
        *(["repeats"] if shares else []),
    ]
    rows = [
        tag("tr", *(tag("td", cell, class_="num") for cell in (f"{point.dose:g}", *_cells(point, names), *shares[i : i + 1])))
        for i, point in enumerate(curve.points)
    ]
    return tag("table", tag("thead", tag("tr", *(tag("th", head, class_="num") for head in heads))), tag("tbody", *rows))


def _cells(point: Dose, names: list[str]) -> tuple[str, ...]:
    best = max(names, key=lambda name: point.controls[name].value, default=None)
    margin = _interval(point.margins[best]) if best is not None else ""
    controls = (f"{point.controls[name].value:.3g}" for name in names)
    return (f"{point.effect.value:.3g}", _interval(point.effect), *controls, margin, f"{point.coherence.value:.3g}")


def _repeats(curve: DoseCurve) -> list[str]:
    """How much of each dose's texts repeats itself; nothing where none was measured, by an earlier release or of short texts."""
    found = [point.repetition for point in curve.points]
    return ["" if each is None else f"{each.value:.0%}" for each in found] if any(each is not None for each in found) else []


def _interval(result: Result) -> str:
    return "" if result.low is None or result.high is None else f"{result.low:.3g} … {result.high:.3g}"


def _verdict(curve: DoseCurve) -> str:
    """What the figures allow to be said."""
    edited = [point for point in curve.points if point.dose != 0]
    alone = [name for name in curve.points[0].controls if name != "prompt"]
    beyond = [point.dose for point in edited if all((point.margins[name].low or 0) > 0 for name in alone)]
    asked = [point.dose for point in edited if "prompt" in point.margins and (point.margins["prompt"].low or 0) > 0]
    first = (
        f"At dose {', '.join(f'{dose:g}' for dose in beyond)} the edit does more than every other edit here."
        if beyond
        else ("At no dose does the edit do more than the other edits, beyond what chance over these prompts gives.")
    )
    second = (
        " A prompt that asks for the same does no less." if not asked else f" It does more than asking at dose {', '.join(f'{d:g}' for d in asked)}."
    )
    return first + (second if "prompt" in curve.points[0].margins else "")


def _said(point: Dose) -> Markup:
    text = point.text if len(point.text) <= _SHOWN else point.text[: _SHOWN - 1] + "…"
    return tag("li", text.replace("\n", " ↵ "), tag("small", f"dose {point.dose:g} · coherence {point.coherence.value:.2f}"))
