"""Dose against effect, with what each dose costs: how coherent the unedited model finds the text, and how much of it repeats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from microtome.config import from_dict
from microtome.errors import ConfigError
from microtome.progress import Throttled
from microtome.stats import Result, bootstrap_ratio
from microtome.steering.compose import EditSet
from microtome.steering.edit import Edit
from microtome.steering.effect import Controls, effects
from microtome.steering.generate import Generation
from microtome.steering.measure import Bench, Measure
from microtome.steering.repetition import repeats


def _results(value: Mapping[str, Mapping[str, object]]) -> dict[str, Result]:
    return {name: from_dict(Result, each) for name, each in value.items()}


@dataclass(frozen=True, kw_only=True)
class Dose:
    """One point of the curve."""

    dose: float
    effect: Result
    """Mean over prompts of the measure's change against the unedited model."""
    controls: Mapping[str, Result] = field(metadata={"from_json": _results})
    """The same for each control, at this dose; a prompt that asks has no dose."""
    margins: Mapping[str, Result] = field(metadata={"from_json": _results})
    """Mean over prompts of (edited − control)."""
    coherence: Result
    """Cross-entropy of the edited text under the unedited model, in nats a token: low is coherent; compare with dose 0."""
    edited_tokens: float
    """Mean over prompts of the tokens changed, prompt and generated."""
    text: str
    """The first prompt's continuation."""
    repetition: Result | None = None
    """Share of a text's groups of four tokens that stood in it before, which coherence does not see; none where all texts are shorter."""


def sweep(
    bench: Bench,
    edits: EditSet | Edit,
    *,
    measure: Measure,
    doses: Sequence[float],
    controls: Controls = Controls(random=0),  # noqa: B008  # frozen
) -> tuple[Dose, ...]:
    """Measure the edits at each of `doses`, multiples of their own dose, beside `controls` of the same dose (none unless asked for).

    Each is generated and measured on the same prompts and seeds.

    An effect that grows only where coherence is lost is the edit breaking the model, not steering it. Choosing the best dose on the prompts
    that are reported makes it look better than it is: choose on other prompts.
    """
    if not doses:
        raise ConfigError("there are no doses.", got="none", wanted="some numbers", do="Give doses, e.g. 0, 0.5, 1, 2.")
    chosen = EditSet.of(edits) if isinstance(edits, Edit) else edits
    report, points, quiet = Throttled(bench.progress), list[Dose](), bench.quiet()
    for i, dose in enumerate(doses):
        at = chosen.at(dose)
        found = effects(quiet, at, measure=measure, controls=controls)
        made = quiet.continuations(at, prompts=bench.prompts)
        changed = fmean(each.n_edited for each in made)
        points.append(
            Dose(
                dose=dose,
                effect=found.edited,
                controls=found.controls,
                margins=found.margins,
                coherence=_coherence(bench, made),
                edited_tokens=changed,
                text=made[0].text,
                repetition=_repetition(made),
            )
        )
        report("doses", i + 1, len(doses), unit="doses")
    return tuple(points)


def _coherence(bench: Bench, made: Sequence[Generation]) -> Result:
    surprise = bench.surprise(made)
    totals, counts = [float(each.sum()) for each in surprise], [len(each) for each in surprise]
    return _ratio("cross_entropy", totals, counts, unit="nats a token", definition="cross-entropy of the edited text under the unedited model")


def _repetition(made: Sequence[Generation]) -> Result | None:
    found = [each for each in (repeats(one.tokens) for one in made) if each.of]
    if not found:
        return None
    definition = "1 − distinct groups of four tokens / groups of four tokens of a text (seq-rep-4)"
    return _ratio("repetition", [each.repeated for each in found], [each.of for each in found], unit="share", definition=definition)


def _ratio(name: str, totals: Sequence[float], counts: Sequence[int], *, unit: str, definition: str) -> Result:
    """Sum over prompts ÷ sum over prompts, with an interval over the prompts."""
    interval = bootstrap_ratio(totals, counts)
    return Result(name=name, value=sum(totals) / sum(counts), low=interval.low, high=interval.high, n=len(counts), unit=unit, definition=definition)
