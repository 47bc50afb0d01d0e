"""Effects beside their controls: a random direction of equal length, another concept, another layer, and a prompt that asks for the same."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from microtome.conversation import Conversation, Turn
from microtome.directions import Direction
from microtome.errors import EditInvalid
from microtome.models import Site
from microtome.progress import Throttled
from microtome.stats import Result, bootstrap_ratio
from microtome.steering.along import Along
from microtome.steering.component import Component, Feature, Workshop
from microtome.steering.compose import EditSet
from microtome.steering.conditional import Conditional
from microtome.steering.edit import Edit
from microtome.steering.layout import Prompt, Row
from microtome.steering.measure import Bench, Measure
from microtome.steering.of_feature import Clamp, Multiply
from microtome.steering.turned import turned


@dataclass(frozen=True, kw_only=True)
class Controls:
    """Which controls stand beside an effect."""

    random: int = 3
    """Random directions whose effects are averaged; 0: none."""
    wrong: Component | None = None
    """Another concept's direction or feature, given the length of the right one."""
    layer_shift: int | None = None
    """The same edit so many layers away."""
    asking: str | None = None
    """Words that ask for the same thing, without any edit: a system turn of a conversation, the first lines of a text."""


@dataclass(frozen=True, kw_only=True)
class Effects:
    """An effect and its controls, all on the same prompts and seeds."""

    edited: Result
    """Mean over prompts of (edited − unedited), with a bootstrap interval over prompts."""
    controls: Mapping[str, Result]
    """The same for each control."""
    margins: Mapping[str, Result]
    """Mean over prompts of (edited − control): beyond a control when the interval lies on one side of 0."""
    unedited: float
    """The mean of the measure before any edit."""
    notes: tuple[str, ...] = ()


def effects(bench: Bench, edits: EditSet | Edit, *, measure: Measure, controls: Controls = Controls()) -> Effects:  # frozen
    """Measure edits and their controls. Raises what `applied` and `generate` raise."""
    chosen = EditSet.of(edits) if isinstance(edits, Edit) else edits
    arms, notes = _arms(bench, chosen, controls)
    if measure.of_text:
        bench.prepare([(EditSet(), bench.prompts), (chosen, bench.prompts), *((arm, prompts) for _, prompts, arm in arms)])
    plain = measure.values(bench, EditSet(), prompts=bench.prompts)
    report = Throttled(bench.progress if arms else None)
    total = len(arms) + 1
    here = _minus(measure.values(bench, chosen, prompts=bench.prompts), plain)
    report("effects", 1, total, unit="arms")
    found: dict[str, list[list[float]]] = {}
    for i, (name, prompts, arm) in enumerate(arms):
        found.setdefault(name, []).append(_minus(measure.values(bench, arm, prompts=prompts), plain))
        report("effects", i + 2, total, unit="arms")
    means = {name: [fmean(values) for values in zip(*runs, strict=True)] for name, runs in found.items()}
    baselines = {name: fmean(values) for name, values in means.items()}
    return Effects(
        edited=_result(measure, here, baselines=baselines),
        controls={name: _result(measure, values) for name, values in means.items()},
        margins={name: _result(measure, _minus(here, values)) for name, values in means.items()},
        unedited=fmean(plain),
        notes=tuple(notes),
    )


def effect(bench: Bench, edits: EditSet | Edit, *, measure: Measure) -> Result:
    """The effect alone."""
    return effects(bench, edits, measure=measure, controls=Controls(random=0)).edited


def with_component(edit: Edit, other: Component, *, workshop: Workshop) -> Edit:
    """The same edit along another component at the same sites; a direction is given the length of the one it stands for."""
    if isinstance(edit, Conditional):
        return replace(edit, then=with_component(edit.then, other, workshop=workshop))
    if isinstance(edit, Clamp | Multiply) and isinstance(other, Feature):
        return replace(edit, feature=other)
    if not isinstance(edit, Along):
        what = f"a {edit.kind} edit does not take {'a feature' if isinstance(other, Feature) else 'a direction'}."
        raise EditInvalid(what, got=edit.kind, wanted="an edit along a component", do="Leave this control out.")
    sites = edit.places(workshop)
    if isinstance(other, Direction):
        length = workshop.resolve(edit.component, sites[0]).norm
        other = replace(other, vector=other.unit_vector * length)
    return replace(edit, component=other, sites=sites)


def at_other_layer(edit: Edit, shift: int, *, workshop: Workshop) -> Edit:
    """The same edit `shift` layers later (or earlier), turned back at the model's ends. Only edits along a component can move."""
    if isinstance(edit, Conditional) or not isinstance(edit, Along):
        raise EditInvalid(
            f"a {edit.kind} edit is bound to its layer.", got=edit.kind, wanted="an edit along a component", do="Leave this control out."
        )
    n_layers = workshop.model.n_layers

    def moved(site: Site) -> Site:
        if site.layer is None:
            raise EditInvalid(f"{site} has no layer.", got=site, wanted="a site of a layer", do="Leave this control out.")
        layer = site.layer + shift
        layer = layer if 0 <= layer < n_layers else site.layer - shift
        if not 0 <= layer < n_layers:
            raise EditInvalid("the layer lies beyond the model.", got=layer, wanted=f"0 to {n_layers - 1}", do="Shift by less.")
        return Site(site.kind, layer)

    return replace(edit, sites=tuple(moved(site) for site in edit.places(workshop)))


def asking_for(prompt: Prompt, words: str) -> Prompt:
    """The prompt with `words` put before it: as a system turn (joined to one that is there), or as lines before a text."""
    if isinstance(prompt, Row):
        raise EditInvalid("nothing can be put before tokens.", got="a row of tokens", wanted="a text or a conversation", do="Give that.")
    if isinstance(prompt, str):
        return f"{words}\n\n{prompt}"
    turns = prompt.turns
    if turns and turns[0].role == "system":
        return Conversation(turns=(Turn(role="system", content=f"{turns[0].content}\n\n{words}"), *turns[1:]))
    return Conversation(turns=(Turn(role="system", content=words), *turns))


def _arms(bench: Bench, edits: EditSet, controls: Controls) -> tuple[list[tuple[str, Sequence[Prompt], EditSet]], list[str]]:
    workshop = Workshop(bench.model, bench.dictionaries)
    arms: list[tuple[str, Sequence[Prompt], EditSet]] = []
    notes: list[str] = []

    def each(name: str, change: Callable[[Edit], Edit]) -> None:
        try:
            made = tuple(change(edit) for edit in edits.edits)
        except EditInvalid as error:
            notes.append(f"The control {name} was left out: {error.what}")
            return
        policy = "sum" if edits.on_conflict == "refuse" else edits.on_conflict  # a control meets itself where the edits did not
        arms.append((name, bench.prompts, replace(edits, edits=made, on_conflict=policy)))

    for seed in range(controls.random):
        each("random", lambda edit, seed=seed: turned(edit, seed=seed))
    if controls.wrong is not None:
        wrong = controls.wrong
        each("wrong_concept", lambda edit: with_component(edit, wrong, workshop=workshop))
    if controls.layer_shift is not None:
        shift = controls.layer_shift
        each("wrong_layer", lambda edit: at_other_layer(edit, shift, workshop=workshop))
    if controls.asking is not None:
        arms.append(("prompt", [asking_for(prompt, controls.asking) for prompt in bench.prompts], EditSet()))
    return arms, list(dict.fromkeys(notes))


def _minus(a: Sequence[float], b: Sequence[float]) -> list[float]:
    return [x - y for x, y in zip(a, b, strict=True)]


def _result(measure: Measure, values: Sequence[float], *, baselines: Mapping[str, float] | None = None) -> Result:
    interval = bootstrap_ratio(values, [1.0] * len(values))
    return Result(
        name=measure.name,
        value=fmean(values),
        low=interval.low,
        high=interval.high,
        n=len(values),
        unit=measure.unit,
        definition=f"mean change over prompts of: {measure.definition}",
        baselines=baselines or {},
    )
