"""`microtome steer`: the same prompt unedited and edited, side by side, and what the edit does, measured."""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import RenderableType
from rich.text import Text

from microtome.cli.cards import plain, titled
from microtome.cli.edits import EditOptions, Parts, edits_of
from microtome.cli.made import results_table
from microtome.cli.passages import passages_of
from microtome.cli.session import Common, Session

if TYPE_CHECKING:
    from microtome.models import Model
    from microtome.steering import Comparison, Controls, Dose, EditSet, Effects, Prompt, Sampling


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How replies are drawn."""

    chat: Annotated[bool, Parameter(negative=())] = False
    """The prompt is a user's turn of a chat, not a text to be continued."""
    system: str = ""
    """A system turn before it."""
    max_new_tokens: int = 40
    """Length of the continuation."""
    temperature: float = 0.0
    """0: always the likeliest token."""
    top_p: float = 1.0
    """Only the likeliest tokens that together reach this probability."""
    seed: int = 0
    """Of the random numbers, the same for both sides."""

    def sampling(self) -> "Sampling":
        from microtome.steering import Sampling

        return Sampling(max_new_tokens=self.max_new_tokens, temperature=self.temperature, top_p=self.top_p, seed=self.seed)

    def prompt(self, text: str) -> "Prompt":
        from microtome.directions import asked

        return asked(text, system=self.system) if self.chat or self.system else text


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Measuring:
    """What is measured."""

    measure: str | None = None
    """kl, logits: Yes| No (what the answer begins with, its spaces too), or regex:PATTERN. Given: the effect is measured beside its controls."""
    dose: Annotated[tuple[float, ...], Parameter(consume_multiple=True, negative=())] = ()
    """Doses of a curve of effect and coherence beside the controls of each dose, e.g. 0 0.5 1 2; multiples of the edits as given."""
    prompts: Path | None = None
    """More prompts to measure on, one a line: the interval is over prompts."""
    random: int = 3
    """Random directions of equal length to compare with."""
    wrong: str | None = None
    """Another direction or feature to compare with."""
    wrong_layer: int | None = None
    """The same edit so many layers later, to compare with."""
    asking: str | None = None
    """Words that ask for the same, to compare with."""


def steer(
    model: str,
    prompt: str,
    *,
    edit: EditOptions = EditOptions(),  # noqa: B008  frozen
    drawing: Drawing = Drawing(),
    measuring: Measuring = Measuring(),
    save_as: str | None = None,
    device: str = "auto",
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Continue a prompt with and without edits of the model, side by side, with the same seed.

    Directions come from `microtome direction`, features from `microtome train`.
    Coherence is the cross-entropy of the edited text under the unedited model; beside it stands the share of the text that repeats itself
    (groups of four tokens that came before), which that model finds cheap.

    Examples:

        microtome steer demo "My favourite place is" --add ocean=4

        microtome steer demo "How was your day?" --chat --add wiki/17=5max

        microtome steer demo "How was your day?" --chat --ablate ocean

    Dose against effect and coherence; the effect beside its controls:

        microtome steer demo "My favourite place is" --add ocean=4 --dose 0 0.5 1 2

        microtome steer demo "I live by" --add ocean=4 --measure "logits: the sea| the road" --wrong music --asking "Talk about the ocean."

    Keep the edits under a name, which `microtome serve` offers as a model:

        microtome steer demo "My favourite place is" --add ocean=4 --save-as sailor

    Parameters
    ----------
    model
        `demo`, a local folder, a .gguf file, or a name on the hub with an optional @revision.
    prompt
        What is continued.
    save_as
        Name under which the workspace keeps the edits; `microtome variants` lists them.
    device
        Where the model runs: auto, cpu, cuda, cuda:1, mps.
    """
    from microtome.config import to_dict
    from microtome.models import load
    from microtome.steering import Bench, Controls, compare, effects, measure_of, side_by_side, sweep

    with Session(common) as session:
        chosen = measure_of(measuring.measure or "kl")
        sampling, parts = drawing.sampling(), Parts(session.workspace)
        with session.step("load model"):
            loaded = load(model, device=device, selfcheck=False, progress=session.progress)
        edits = edits_of(edit, parts, loaded)
        with session.step("compare"):
            both = compare(loaded, drawing.prompt(prompt), edits=edits, sampling=sampling, dictionaries=parts.dictionaries)
        result: dict[str, Any] = {"model": loaded.ref, "quantised": loaded.quantised, "prompt": prompt, "edits": edits}
        result["fingerprint"] = edits.fingerprint
        result, views = result | to_dict(side_by_side(both)), _side_by_side(both, loaded)
        if save_as is not None:
            result["saved"] = str(_save(save_as, edits, loaded, session=session))
        more = passages_of(measuring.prompts, chat=False) if measuring.prompts else []
        prompts = [drawing.prompt(prompt), *(drawing.prompt(each) if isinstance(each, str) else each for each in more)]
        bench = Bench(model=loaded, prompts=prompts, sampling=sampling, dictionaries=parts.dictionaries, progress=session.progress)
        if measuring.dose:
            with session.step("doses"):
                beside = _controls(measuring, parts) if measuring.measure is not None else Controls(random=1)
                points = sweep(bench, edits, measure=chosen, doses=measuring.dose, controls=beside)
            result["doses"] = list(points)
            views.append(_curve(points, len(prompts)))
        if measuring.measure is not None:
            with session.step("effect"):
                found = effects(bench, edits, measure=chosen, controls=_controls(measuring, parts))
            result["effects"] = found
            views += _effect_views(found, len(prompts))
        session.result(result, *views)


def _save(name: str, edits: "EditSet", model: "Model", *, session: Session) -> Path:
    from microtome.steering import Variant, save_variant

    path = session.workspace.place("variant", name)
    save_variant(Variant(name=name, model=model.ref, fingerprint=model.fingerprint, edits=edits), path)
    session.note(f"kept as {path}; `microtome serve` offers it as the model {name}")
    return path


def _controls(measuring: Measuring, parts: Parts) -> "Controls":
    from microtome.steering import Controls

    wrong = parts.component(measuring.wrong) if measuring.wrong else None
    return Controls(random=measuring.random, wrong=wrong, layer_shift=measuring.wrong_layer, asking=measuring.asking)


def _side_by_side(both: "Comparison", model: "Model") -> list[RenderableType]:
    from microtome.steering import side_by_side

    table = titled(f"{model.ref}{f', a {model.quantised} (quantised) model' if model.quantised else ''}")
    table.add_column("unedited", ratio=1)
    table.add_column("edited", ratio=1)
    table.add_row(Text(plain(both.unedited.text)), Text(plain(both.edited.text)))
    per_token = "" if both.kl is None else f" · KL(edited ‖ unedited) {fmean(both.kl):.3g} nats a token"
    coherence = f" · cross-entropy of the edited text under the unedited model {fmean(both.surprise):.3g} nats a token"
    shown = side_by_side(both)
    repeated = ", ".join(f"{name} {share:.0%}" for name, share in (("edited", shown.repetition), ("unedited", shown.repetition_unedited)) if share)
    return [table, f"{both.edited.n_edited} tokens edited{per_token}{coherence}{f' · repeats itself: {repeated}' if repeated else ''}"]


def _curve(points: "tuple[Dose, ...]", n: int) -> RenderableType:
    cost = "coherence (nats a token; lower is more coherent; a text that repeats itself is cheap, hence the share that does)"
    table = titled(f"dose against effect ({points[0].effect.name}, {n} prompt{'s' if n > 1 else ''}) and {cost}")
    names = list(points[0].controls)
    spread = ["95 %"] if n > 1 else []
    for heading in ("dose", "effect", *spread, *names, "coherence", "repeats", "tokens edited", "text"):
        table.add_column(heading, justify="left" if heading in ("95 %", "text") else "right")
    for point in points:
        interval = [f"{point.effect.low:.3g} … {point.effect.high:.3g}"] if n > 1 else []
        beside = [f"{point.controls[name].value:.3g}" for name in names]
        repeated = "" if point.repetition is None else f"{point.repetition.value:.0%}"
        cost = (f"{point.coherence.value:.3g}", repeated, f"{point.edited_tokens:.4g}")
        table.add_row(*map(Text, (f"{point.dose:g}", f"{point.effect.value:.3g}", *interval, *beside, *cost, plain(point.text))))
    return table


def _effect_views(found: "Effects", n: int) -> list[RenderableType]:
    from dataclasses import replace

    named = [replace(found.edited, name="edited", baselines={})]
    named += [replace(result, name=name) for name, result in found.controls.items()]
    named += [replace(result, name=f"edited − {name}") for name, result in found.margins.items()]
    shown = named if n > 1 else [replace(result, low=None, high=None) for result in named]
    views: list[RenderableType] = [results_table(f"effect: change of {found.edited.name} (unedited {found.unedited:.3g})", shown)]
    if n == 1:
        views.append("note: one prompt has no interval; give more with --prompts FILE.")
    return [*views, *(f"note: {note}" for note in found.notes)]
