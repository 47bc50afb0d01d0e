"""Effects and their controls on a model in which one direction, and nothing else, makes one answer likelier."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from directions.planted import SITE, basis, planted
from steering.small import CHAT, DICTIONARIES, EDITS, FEATURE, PROMPTS, direction, tiny_model

from microtome.directions import Direction
from microtome.errors import ConfigError, EditInvalid
from microtome.models import Model, Site
from microtome.shapes import Tensor
from microtome.steering import (
    Ablate,
    Add,
    Batch,
    Bench,
    Cap,
    Clamp,
    Condition,
    Conditional,
    Controls,
    Divergence,
    EditSet,
    Feature,
    LogitDifference,
    Matches,
    Measure,
    Prompt,
    Row,
    Sampling,
    Score,
    Strength,
    Swap,
    Turned,
    applied,
    asking_for,
    at_other_layer,
    dose_curve,
    effect,
    effects,
    generate,
    load_curve,
    raw,
    save_curve,
    sweep,
    times_max,
    turned,
    with_component,
)
from microtome.steering.component import Workshop
from microtome.steering.repetition import repeats

V = basis()
YES = LogitDifference(target=("!",), against=("?",))
RIGHT = Direction(name="yes", site=SITE, vector=2 * V[0])
WRONG = Direction(name="other", site=SITE, vector=7 * V[3])


def answering() -> Model:
    """Says "!" where the stream has V0, and "?" where it has −V0; "Q" puts V0 into a prompt."""
    return planted({"Q": 4 * V[0]}, says={"!": 5 * V[0], "?": -5 * V[0]})


MODEL = answering()
QUESTIONS = ("hello in the world", "and that", "is it for the user", "on it", "was of", "this and that")
BENCH = Bench(model=MODEL, prompts=QUESTIONS, sampling=Sampling(max_new_tokens=6, ends_at_eos=False), batch_size=4)


def test_a_logit_difference_is_that_of_the_logits():
    tokens = torch.tensor([MODEL.tokenizer.encode(QUESTIONS[1])])
    (yes,), (no,) = MODEL.tokenizer.encode("!"), MODEL.tokenizer.encode("?")
    logits = MODEL.logits(tokens)[0, -1]
    assert YES.values(BENCH, EditSet(), prompts=QUESTIONS[1:2]) == [pytest.approx(float(logits[yes] - logits[no]), abs=1e-4)]
    several = LogitDifference(target=("!", "a"), against=("?",))
    (a,) = MODEL.tokenizer.encode("a")
    expected = math.log(math.exp(float(logits[yes])) + math.exp(float(logits[a]))) - float(logits[no])
    assert several.values(BENCH, EditSet(), prompts=QUESTIONS[1:2]) == [pytest.approx(expected, abs=1e-4)]


def test_a_planted_direction_has_its_effect_and_no_control_has():
    found = effects(
        BENCH,
        Add(component=RIGHT, strength=raw(1)),
        measure=YES,
        controls=Controls(random=3, wrong=WRONG, layer_shift=1, asking="QQQQQQ"),
    )
    assert found.edited.low is not None
    assert found.edited.low > 1
    assert set(found.controls) == {"random", "wrong_concept", "wrong_layer", "prompt"}
    assert abs(found.controls["random"].value) < found.edited.value / 3
    assert abs(found.controls["wrong_concept"].value) < found.edited.value / 20
    margin = found.margins["random"]
    assert margin.low is not None
    assert margin.low > 0
    assert margin.value == pytest.approx(found.edited.value - found.controls["random"].value)
    assert found.controls["prompt"].value > 0.1  # asking for it does it, too
    assert found.controls["wrong_layer"].value == pytest.approx(found.edited.value, rel=0.01)  # nothing is written after it in this model
    assert found.edited.baselines == {name: result.value for name, result in found.controls.items()}


def test_no_edit_has_no_effect():
    off = EditSet.of(Add(component=RIGHT, strength=raw(1))).at(0)
    for measure in (YES, Divergence(), Matches(pattern="a")):
        found = effect(BENCH, off, measure=measure)
        assert (found.value, found.low, found.high) == (0, 0, 0)


def test_divergence_is_that_of_the_next_token():
    edit = Add(component=RIGHT, strength=raw(0.5))
    batch = Batch.of(MODEL, [QUESTIONS[0]])
    n = len(MODEL.tokenizer)
    plain = MODEL.logits(batch.tokens)[0, -1, :n].double().softmax(-1)
    with applied(MODEL, edit, batch=batch):
        changed = MODEL.logits(batch.tokens)[0, -1, :n].double().softmax(-1)
    expected = float((changed * (changed / plain).log()).sum())
    one = replace(BENCH, prompts=QUESTIONS[:1])
    assert effect(one, edit, measure=Divergence()).value == pytest.approx(expected, rel=1e-4)


def test_matches_counts_the_continuations_that_have_it():
    pushed = effect(BENCH, Add(component=RIGHT, strength=raw(30)), measure=Matches(pattern="!"))
    assert pushed.value == 1
    assert pushed.n == len(QUESTIONS)
    drawn = replace(BENCH, prompts=QUESTIONS[:2], sampling=Sampling(max_new_tokens=3, temperature=1, ends_at_eos=False), n_samples=3)
    lengths = Score(function=len).values(drawn, EditSet(), prompts=QUESTIONS[:2])
    by_hand = [[len(generate(MODEL, prompt, sampling=replace(drawn.sampling, seed=seed))[0].text) for seed in range(3)] for prompt in QUESTIONS[:2]]
    assert lengths == [sum(each) / 3 for each in by_hand]


@dataclass(frozen=True, kw_only=True)
class Halves(Measure):
    """3 before any edit; under edits 4 for every second prompt."""

    name: ClassVar[str] = "halves"
    unit: ClassVar[str] = ""
    definition: ClassVar[str] = "by hand"

    def values(self, bench: Bench, edits: EditSet, *, prompts: Sequence[Prompt]) -> list[float]:
        del bench
        return [3.0 + (i % 2 if edits.edits else 0) for i in range(len(prompts))]


def test_the_interval_comes_from_the_prompts():
    """Of values 0 and 1 in equal parts over 40 prompts, about 0.5 ± 1.96·0.5/√40."""
    bench = Bench(model=MODEL, prompts=["hello"] * 40)
    found = effect(bench, Add(component=RIGHT, strength=raw(1)), measure=Halves())
    assert found.value == pytest.approx(0.5)
    assert found.high is not None
    assert found.low is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(40), rel=0.25)


def test_the_random_control_changes_each_token_by_as_much(model: Model):
    """Whatever the edit: the same lengths, another direction."""
    for name in ("add to a band", "ablate", "cap", "clamp", "multiply"):
        edit = EDITS[name]
        for site in edit.places(Workshop(model, DICTIONARIES))[:1]:
            right, wrong = (_moved(model, each, site) for each in (edit, turned(edit, seed=3)))
            torch.testing.assert_close(wrong.norm(dim=-1), right.norm(dim=-1), atol=2e-3, rtol=2e-3)
            where = right.norm(dim=-1) > 1e-2
            if bool(where.any()):
                assert float(torch.nn.functional.cosine_similarity(right[where], wrong[where], dim=-1).abs().max()) < 0.9


def _moved(model: Model, edit: object, site: Site) -> Tensor:
    """What the edit adds at the first of its sites."""
    batch = Batch.of(model, [PROMPTS[0]])
    plain = model.capture(batch.tokens, [site])[site]
    assert isinstance(edit, Turned | Add | Ablate | Cap | Clamp) or hasattr(edit, "kind")
    with applied(model, EditSet(edits=(edit,), on_unmatched="allow"), batch=batch, dictionaries=DICTIONARIES):  # pyright: ignore[reportArgumentType]
        return (model.capture(batch.tokens, [site])[site] - plain)[0]


def test_another_concept_gets_the_length_of_the_right_one():
    llama = tiny_model("llama")
    workshop = Workshop(llama, DICTIONARIES)
    swapped = with_component(Add(component=direction(1), strength=raw(2)), direction(5), workshop=workshop)
    assert isinstance(swapped, Add)
    assert isinstance(swapped.component, Direction)
    assert swapped.component.norm == pytest.approx(direction(1).norm)
    other = with_component(Clamp(feature=FEATURE, strength=times_max(1)), Feature(dictionary="small", index=9, max_activation=1.0), workshop=workshop)
    assert isinstance(other, Clamp)
    assert other.feature.index == 9
    with pytest.raises(EditInvalid, match="clamp"):
        with_component(Clamp(feature=FEATURE, strength=times_max(1)), direction(5), workshop=workshop)


def test_another_layer_turns_back_at_the_ends():
    workshop = Workshop(tiny_model("llama"), DICTIONARIES)
    edit = Add(component=direction(), strength=raw(1))  # at layer 1 of 3
    assert [at_other_layer(edit, shift, workshop=workshop).places(workshop)[0].layer for shift in (1, -1)] == [2, 0]
    last = Add(component=direction(), strength=raw(1), sites=(Site("resid_post", 2),))
    assert at_other_layer(last, 1, workshop=workshop).places(workshop)[0].layer == 1
    with pytest.raises(EditInvalid, match="beyond"):
        at_other_layer(edit, 9, workshop=workshop)
    with pytest.raises(EditInvalid, match="bound"):
        at_other_layer(Clamp(feature=FEATURE, strength=times_max(1)), 1, workshop=workshop)


def test_a_control_that_cannot_be_made_is_left_out_by_name():
    llama = tiny_model("llama")
    bench = Bench(model=llama, prompts=PROMPTS, dictionaries=DICTIONARIES)
    found = effects(bench, EDITS["clamp"], measure=Divergence(), controls=Controls(random=1, layer_shift=1, wrong=direction(4)))
    assert set(found.controls) == {"random"}
    assert len(found.notes) == 2
    assert "wrong_layer" in " ".join(found.notes)


def test_asking_is_put_before_the_prompt():
    assert asking_for("Once", "Be glad.") == "Be glad.\n\nOnce"
    joined = asking_for(CHAT, "Be glad.")
    assert not isinstance(joined, str | Row)
    assert [turn.content for turn in joined.turns] == ["be kind\n\nBe glad.", "hello world", "is it?"]
    bare = asking_for(replace(CHAT, turns=CHAT.turns[1:2]), "Be glad.")
    assert not isinstance(bare, str | Row)
    assert [turn.role for turn in bare.turns] == ["system", "user"]
    with pytest.raises(EditInvalid):
        asking_for(Row(tokens=(1, 2)), "Be glad.")


def test_a_sweep_shows_effect_and_coherence_by_dose():
    doses = (0.0, 1.0, 40.0)
    points = sweep(BENCH, Add(component=WRONG, strength=raw(1)), measure=Divergence(), doses=doses)
    assert [point.dose for point in points] == list(doses)
    assert points[0].effect.value == 0
    assert points[0].edited_tokens == 0
    assert points[0].effect.value < points[1].effect.value < points[2].effect.value
    assert points[1].edited_tokens > 0
    assert points[0].text == generate(MODEL, QUESTIONS[0], sampling=BENCH.sampling)[0].text


def test_a_curve_has_the_controls_of_each_dose_and_comes_back_from_disk(tmp_path: Path):
    bench = Bench(model=answering(), prompts=["hello", "the world", "and that"], sampling=Sampling(max_new_tokens=3, ends_at_eos=False))
    edit, controls = Add(component=RIGHT, strength=raw(1)), Controls(random=2, wrong=WRONG, asking="!")
    named = {"random": "by chance", "wrong_concept": "another", "prompt": "asking"}
    curve = dose_curve(bench, edit, title="yes", measure=YES, words="yes over no", doses=(0, 1), controls=controls, named=named)
    off, on = curve.points
    assert off.controls["random"].value == off.effect.value == 0
    alone = effects(bench, edit, measure=YES, controls=controls)
    assert on.effect.value == pytest.approx(alone.edited.value)
    for name in named:
        assert on.controls[name].value == pytest.approx(alone.controls[name].value)
        assert on.margins[name].low == pytest.approx(alone.margins[name].low)
    assert off.controls["prompt"].value == on.controls["prompt"].value  # words have no dose
    assert curve.unedited == pytest.approx(alone.unedited)
    save_curve(curve, tmp_path / "curve", inputs={"model": bench.model.fingerprint})
    assert load_curve(tmp_path / "curve") == curve


def test_continuations_of_the_same_edits_are_generated_once():
    bench = Bench(model=answering(), prompts=["hello", "the world"], sampling=Sampling(max_new_tokens=2))
    first = bench.continuations(EditSet(), prompts=bench.prompts)
    assert bench.continuations(EditSet(), prompts=list(bench.prompts)) is first
    assert bench.continuations(EditSet(), prompts=["hello"]) is not first
    assert bench.continuations(EditSet.of(Add(component=RIGHT, strength=raw(9))), prompts=bench.prompts) is not first


def test_coherence_is_the_cross_entropy_of_the_text_under_the_unedited_model():
    edit = Add(component=RIGHT, strength=raw(3))
    (point,) = sweep(BENCH, edit, measure=YES, doses=(1.0,))
    total = count = 0.0
    for prompt in QUESTIONS:
        made = generate(MODEL, prompt, edits=edit, sampling=BENCH.sampling)[0]
        losses = MODEL.loss(torch.tensor([[*made.prompt.tokens, *made.tokens]]))[0, len(made.prompt.tokens) - 1 :]
        total, count = total + float(losses.sum()), count + len(losses)
    assert point.coherence.value == pytest.approx(total / count, rel=1e-4)
    greedy = sweep(BENCH, edit, measure=YES, doses=(0.0,))[0]
    assert greedy.coherence.value <= point.coherence.value  # what the unedited model itself finds likeliest


def test_a_text_that_repeats_itself_is_told_by_its_groups_of_four_tokens():
    assert repeats([7, 7, 7, 7, 7, 7]) == (2, 3)  # three times the same group
    assert repeats([1, 2, 3, 4, 1, 2, 3, 4, 5]).share == pytest.approx(1 / 6)  # 1234 came before; 2341, 3412, 4123, 2345 did not
    assert repeats(range(30)).share == 0
    assert repeats([1, 1, 1]).share is None
    constant = Add(component=WRONG, strength=raw(1e4))
    (point,) = sweep(BENCH, constant, measure=YES, doses=(1.0,))
    groups = [repeats(generate(MODEL, prompt, edits=constant, sampling=BENCH.sampling)[0].tokens) for prompt in QUESTIONS]
    assert point.repetition is not None
    assert point.repetition.value > 0
    assert point.repetition.value == pytest.approx(sum(each.repeated for each in groups) / sum(each.of for each in groups))


@pytest.mark.parametrize(
    ("text", "strength"),
    [
        ("4", (4, "raw")),
        ("-0.1norm", (-0.1, "residual_norm")),
        ("5max", (5, "max_activation")),
        ("p25", (25, "percentile")),
        ("2 current", (2, "current")),
    ],
)
def test_a_strength_is_read_from_words(text: str, strength: tuple[float, str]):
    read = Strength.parse(text)
    assert (read.value, read.unit) == strength


@pytest.mark.parametrize("text", ["", "norm", "p", "4x", "p25max", "1e", "nan"])
def test_a_strength_that_is_none_is_refused(text: str):
    with pytest.raises(EditInvalid):
        Strength.parse(text)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ConfigError, match="nothing to measure"):
        Bench(model=MODEL, prompts=())
    with pytest.raises(ConfigError, match="samples"):
        Bench(model=MODEL, prompts=QUESTIONS, n_samples=3)
    with pytest.raises(ConfigError, match="regular expression"):
        Matches(pattern="(")
    with pytest.raises(ConfigError, match="told apart"):
        effect(BENCH, EditSet(), measure=LogitDifference(target=("!",), against=("!?",)))
    with pytest.raises(ConfigError, match="no doses"):
        sweep(BENCH, EditSet(), measure=YES, doses=())


def test_a_random_control_of_a_condition_is_inside_of_it():
    condition = Condition(component=direction(7, site=Site("resid_post", 0)), threshold=raw(0.5))
    inside = turned(Conditional(condition=condition, then=EDITS["add"]))
    assert isinstance(inside, Conditional)
    assert isinstance(inside.then, Turned)
    with pytest.raises(EditInvalid, match="swap"):
        turned(EDITS["swap the last token"])
    assert isinstance(EDITS["swap the last token"], Swap)
    with pytest.raises(EditInvalid, match="two where"):
        Turned(of=EDITS["ablate after the prompt"])
