"""Dose against effect, with what each dose costs: how coherent the unedited model finds the text."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from microtome.errors import ConfigError
from microtome.progress import Throttled
from microtome.stats import Result, bootstrap_ratio
from microtome.steering.compose import EditSet
from microtome.steering.edit import Edit
from microtome.steering.effect import effect
from microtome.steering.measure import Bench, Measure


@dataclass(frozen=True, kw_only=True)
class Dose:
    """One point of the curve."""

    dose: float
    effect: Result
    """Mean over prompts of the measure's change against the unedited model."""
    coherence: Result
    """Cross-entropy of the edited text under the unedited model, in nats a token: low is coherent; compare with dose 0."""
    edited_tokens: float
    """Mean over prompts of the tokens changed, prompt and generated."""
    text: str
    """The first prompt's continuation."""


def sweep(bench: Bench, edits: EditSet | Edit, *, measure: Measure, doses: Sequence[float]) -> tuple[Dose, ...]:
    """Measure the edits at each of `doses`, multiples of their own dose. Each is generated and measured on the same prompts and seeds.

    An effect that grows only where coherence is lost is the edit breaking the model, not steering it. Choosing the best dose on the prompts
    that are reported makes it look better than it is: choose on other prompts.
    """
    if not doses:
        raise ConfigError("there are no doses.", got="none", wanted="some numbers", do="Give doses, e.g. 0, 0.5, 1, 2.")
    chosen = EditSet.of(edits) if isinstance(edits, Edit) else edits
    report, points = Throttled(bench.progress), list[Dose]()
    for i, dose in enumerate(doses):
        at = chosen.at(dose)
        made = bench.continuations(at, prompts=bench.prompts)
        surprise = bench.surprise(made)
        totals, counts = [float(each.sum()) for each in surprise], [len(each) for each in surprise]
        interval = bootstrap_ratio(totals, counts)
        coherence = Result(
            name="cross_entropy",
            value=sum(totals) / sum(counts),
            low=interval.low,
            high=interval.high,
            n=len(made),
            unit="nats a token",
            definition="cross-entropy of the edited text under the unedited model",
        )
        changed = fmean(each.n_edited for each in made)
        points.append(Dose(dose=dose, effect=effect(bench, at, measure=measure), coherence=coherence, edited_tokens=changed, text=made[0].text))
        report("doses", i + 1, len(doses), unit="doses")
    return tuple(points)
