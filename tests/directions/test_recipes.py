"""Every recipe on a model whose direction is known: it is found, and what stands beside it says so."""

import re

import pytest
import torch
from directions.planted import SITE, alike, basis, planted

from microtome.conversation import Conversation
from microtome.directions import Direction, Reader, Span, asked
from microtome.directions.recipes import (
    DECLINED,
    EMOTIONS,
    HARMLESS,
    RECIPES,
    ROLES,
    TRAITS,
    UNRELATED_WORDS,
    Emotion,
    Judged,
    Limits,
    Trait,
    assistant_axis,
    components,
    concept,
    contrast,
    drift,
    emotions,
    fit_logistic,
    paired_component,
    persona,
    probe,
    project_out,
    refusal,
    top_tokens,
)
from microtome.errors import ConfigError, NotEnoughTokens, ShapeMismatch, ZeroDirection

V = basis()
READ = {"last": Span(), "all": Span(kind="all"), "reply": Span(kind="reply")}
WORDS = ("hello", "world", "the user", "and that", "in this", "on it", "was for", "of old")


def reader(markers: dict[str, torch.Tensor], span: str = "last", **more: dict[str, torch.Tensor]) -> Reader:
    return Reader(model=planted(markers, says=more.get("says")), site=SITE, span=READ[span])


def texts(mark: str, n: int = 12) -> list[str]:
    return [f"{WORDS[i % 8]}{mark} {WORDS[(3 * i + 1 + i // 8) % 8]}" for i in range(n)]


@pytest.mark.parametrize("method", ["mean", "pca"])
def test_contrast_finds_the_planted_direction_and_points_to_the_positive_side(method: str):
    made = contrast(reader({"Q": 2 * V[0]}, "all"), positive=texts("Q"), negative=texts("q"), method="mean" if method == "mean" else "pca")
    assert alike(made.direction.vector, V[0]) > 0.97
    back = contrast(reader({"Q": 2 * V[0]}, "all"), positive=texts("q"), negative=texts("Q"), method="mean" if method == "mean" else "pca")
    assert alike(back.direction.vector, V[0]) < -0.97
    by_name = {result.name: result for result in made.results}
    assert by_name["split_half"].value > 0.9
    assert by_name["split_half"].baselines["shuffled"] < 0.6


def test_the_difference_of_the_same_texts_is_no_direction():
    with pytest.raises(ZeroDirection):
        contrast(reader({"Q": V[0]}), positive=texts("Q"), negative=texts("Q"))
    with pytest.raises(ShapeMismatch, match="paired"):
        contrast(reader({"Q": V[0]}), positive=texts("Q"), negative=texts("q", 5), method="pca")


def test_components_of_paired_differences_are_not_centred():
    """All differences are the same: centred, nothing would be left."""
    low = torch.randn(9, 32, generator=torch.Generator().manual_seed(0))
    assert alike(paired_component(low + V[1], low), V[1]) > 0.9999
    assert alike(paired_component(low, low + V[1]), V[1]) < -0.9999


def test_components_are_those_of_the_covariance():
    rows = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([5.0, 3, 2, 1, 1, 1]) + 4
    found = components(rows)
    values, vectors = torch.linalg.eigh(torch.cov(rows.double().T))
    assert found.shares[0] == pytest.approx(float(values[-1] / values.sum()))
    assert abs(alike(found.vectors[0], vectors[:, -1].float())) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["l2", "l1", "mean"])
def test_a_probe_reads_what_was_planted_and_its_controls_do_not(kind: str):
    chosen = "l2" if kind == "l2" else "l1" if kind == "l1" else "mean"
    strength = 0.02 if kind == "l1" else 0.1
    made = probe(reader({"Q": 2 * V[0]}, "all"), positive=texts("Q"), negative=texts("q"), kind=chosen, strength=strength, n_null=5)
    (result,) = made.results
    assert result.value == 1
    assert result.low is not None
    assert result.low <= result.value
    assert result.baselines["shuffled"] < 0.8
    assert result.baselines["p"] == pytest.approx(1 / 6)
    assert float(made.direction.vector @ V[0]) > 0


def test_a_probe_of_nothing_says_that_it_is_no_evidence():
    made = probe(reader({"Q": 2 * V[0]}, "all"), positive=texts("x", 24)[::2], negative=texts("x", 24)[1::2], n_null=3)
    assert any("no evidence" in note for note in made.notes)


def test_words_that_give_the_class_away_show_in_the_bag_of_words():
    told = probe(reader({"Q": V[0]}, "all"), positive=[f"hello Q {w}" for w in WORDS], negative=[f"hello user {w}" for w in WORDS], n_null=2)
    assert told.results[0].baselines["bag_of_words"] == 1
    assert any("hardly more" in note for note in told.notes)


def test_the_bias_of_a_probe_is_ready_for_a_condition():
    here = reader({"Q": 2 * V[0]}, "all")
    made = probe(here, positive=texts("Q"), negative=texts("q"), n_null=0)
    rows = here.rows([*texts("Q"), *texts("q")])
    labels = torch.arange(24) < 12
    scores = rows @ made.direction.vector + made.direction.provenance["bias"]
    assert bool(((scores > 0) == labels).all())
    torch.testing.assert_close(scores.double(), fit_logistic(rows, labels, strength=0.1).scores(rows), atol=1e-4, rtol=1e-4)


def test_a_concept_is_what_its_word_has_and_others_have_not():
    made = concept(reader({"Q": 2 * V[0], "z": 2 * V[1]}, says={"!": V[0]}), word="Q", unrelated=("a", "b", "c", "z", "u", "Q"))
    others = made.direction.reference
    assert alike(made.direction.vector, V[0]) > 0.9
    assert "5 unrelated" in others  # the word itself is left out
    assert top_tokens(planted({"Q": V[0]}, says={"!": V[0]}), made.direction, n=1).raises == ("!",)
    specific = {result.name: result for result in made.results}["specificity"]
    assert specific.value < 0.5


def test_what_the_concept_is_measured_against_is_the_mean_of_the_others():
    here = reader({"Q": 2 * V[0], "z": 2 * V[1]})
    made = concept(here, word="Q", unrelated=("z", "zz", "zzz", "zzzz"))
    by_hand = here.rows([asked(f"Tell me about {word}.") for word in ("Q", "z", "zz", "zzz", "zzzz")])
    torch.testing.assert_close(made.direction.vector, by_hand[0] - by_hand[1:].mean(0), atol=1e-6, rtol=1e-5)
    for bad in ({"word": " "}, {"word": "Q", "templates": ("Tell me.",)}):
        with pytest.raises(ConfigError):
            concept(here, **bad)  # pyright: ignore[reportArgumentType]  # what a user may give


DECLINES = 12 * V[0]


def requests(mark: str) -> list[Conversation]:
    return [asked(text) for text in texts(mark, 16)]


def test_refusal_finds_the_direction_that_bypasses_and_induces():
    made = refusal(
        Reader(model=planted({"Q": 6 * V[0]}, says={"I": DECLINES}), site=SITE),
        declined=requests("QQ"),
        harmless=requests("qq"),
        openings=("I",),
    )
    assert alike(made.direction.vector, V[0]) > 0.95
    figures = {result.name: result for result in made.results}
    assert figures["bypass"].value < figures["bypass"].baselines["unedited"] - 1
    assert figures["induce"].value > figures["induce"].baselines["unedited"] + 1
    assert made.chosen.is_kept
    assert made.chosen.bypass == min(candidate.bypass for candidate in made.candidates if candidate.is_kept)
    assert all(candidate.site.layer != 2 for candidate in made.candidates)  # within 0.8 of the depth of three layers


def test_refusal_candidates_obey_the_limits():
    here = Reader(model=planted({"Q": 6 * V[0]}, says={"I": DECLINES}), site=SITE)
    with pytest.raises(NotEnoughTokens, match="keeps the limits"):
        refusal(here, declined=requests("QQ"), harmless=requests("qq"), openings=("I",), limits=Limits(induce=1e3))
    with pytest.raises(NotEnoughTokens, match="keeps the limits"):
        refusal(here, declined=requests("QQ"), harmless=requests("qq"), openings=("I",), limits=Limits(kl=-1.0, induce=-1e3))


def test_a_model_that_declines_nothing_is_told_so():
    here = Reader(model=planted({"Q": 6 * V[0]}, says={"I": -DECLINES}), site=SITE)
    made = refusal(here, declined=requests("QQ"), harmless=requests("qq"), openings=("I",), limits=Limits(induce=-1e3, kl=1e3))
    assert any("no more than the harmless" in note for note in made.notes)


TRAIT = Trait(name="Q", positive=("be QQ", "say QQ"), negative=("be qq", "say qq"), questions=("hello?", "and that?", "of the world?"))


def echoing(conversations: object) -> list[str]:
    """Replies that show what the instructions ask for."""
    assert isinstance(conversations, list)
    return ["QQQ is" if "Q" in conversation.turns[0].content else "that is" for conversation in conversations]


@pytest.mark.parametrize("span", ["reply", "last", "all"])
def test_a_persona_is_what_its_replies_have(span: str):
    made = persona(reader({"Q": 2 * V[0]}, span), trait=TRAIT, write=echoing)
    assert alike(made.direction.vector, V[0]) > 0.95
    assert len(made.kept) == 6
    assert any("No judge" in note for note in made.notes)


def test_a_judge_keeps_only_pairs_that_show_the_trait():
    def strict(conversation: Conversation, text: str) -> Judged:
        return Judged(trait=90.0 if "Q" in text else 10.0, coherence=20.0 if conversation.turns[-1].content == "hello?" else 80.0)

    made = persona(reader({"Q": 2 * V[0]}, "reply"), trait=TRAIT, write=echoing, judge=strict)
    assert (len(made.kept), made.dropped) == (4, 2)
    assert all(high.text == "QQQ is" and low.text == "that is" for high, low in made.kept)
    with pytest.raises(NotEnoughTokens, match="no pair"):
        persona(reader({"Q": V[0]}, "reply"), trait=TRAIT, write=lambda asks: ["" for _ in asks])


def playing(conversations: object) -> list[str]:
    assert isinstance(conversations, list)
    return [conversation.turns[0].content if conversation.turns[0].role == "system" else "that is it" for conversation in conversations]


MARKS = {"A": 2 * V[0], "B": 2 * V[0] + V[1], "C": 2 * V[0] + V[2], "D": 2 * V[0] - V[1]}


def test_the_axis_points_from_the_roles_to_the_default():
    made = assistant_axis(
        reader(MARKS, "reply"),
        roles={mark: (mark * 3 + " is", mark * 2 + " on") for mark in MARKS},
        defaults=("",),
        questions=("hello?", "and?"),
        write=playing,
    )
    assert alike(made.direction.vector, -V[0]) > 0.85
    assert made.default_coordinate > max(made.coordinates)
    figures = {result.name: result.value for result in made.results}
    assert figures["roles_below_default"] == 1
    assert figures["cosine_with_first_component"] >= 0
    calibration = made.direction.calibration
    assert calibration is not None
    assert calibration.at(0) < made.default_coordinate


def test_a_role_that_was_not_played_does_not_count():
    made = assistant_axis(
        reader(MARKS, "reply"),
        roles={mark: (mark * 3,) for mark in MARKS},
        defaults=("",),
        questions=("hello?",),
        write=playing,
        judge=lambda role, _, __: 3 if role != "B" else 1,
    )
    assert made.roles == ("A", "C", "D")
    assert made.failures["B"] == 1


def test_drift_is_the_mean_coordinate_of_each_reply():
    here = reader({"Q": 2 * V[0]}, "reply")
    axis = Direction(name="q", site=SITE, vector=V[0])
    first = asked("hello", reply="that is it")
    talk = Conversation(turns=(*first.turns, *asked("and?", reply="QQQQQQ").turns))
    along = drift(here, axis, conversation=talk)
    assert [each.turn for each in along] == [1, 3]
    assert along[1].coordinate > along[0].coordinate + 1
    torch.testing.assert_close(torch.tensor(along[0].coordinate), axis.project(here.rows([first]))[0])


FELT = {"Q": ("joy", 0.9, 0.1), "Z": ("awe", 0.5, 0.8), "X": ("woe", -0.6, 0.3), "J": ("ire", -0.9, 0.9)}


def feeling() -> dict[str, Emotion]:
    return {
        name: Emotion(valence=valence, arousal=arousal, passages=tuple(f"{word} {mark}{mark} {word}" for word in WORDS[:5]))
        for mark, (name, valence, arousal) in FELT.items()
    }


def test_emotions_are_what_each_has_beyond_all_of_them():
    known = feeling()
    marks = {mark: 3 * V[i] for i, mark in enumerate(FELT)}
    made = emotions(reader(marks, "all"), neutral=texts("q"), share=0.3, known=known)
    planted_mean = sum(V[i] for i in range(4)) / 4
    for i, (name, _, _) in enumerate(FELT.values()):
        truth = project_out((V[i] - planted_mean)[None], made.removed)[0]
        assert alike(made.made[name].direction.vector, truth) > 0.9
    total = torch.stack([each.direction.vector for each in made.made.values()]).sum(0)
    assert float(total.norm()) < 1e-4  # each is measured against the mean of all
    recognised = made.results[0]
    assert recognised.value > 0.9 > recognised.baselines["chance"]


def test_nothing_of_the_neutral_components_is_left():
    marks = {mark: 3 * V[i] for i, mark in enumerate(FELT)}
    made = emotions(reader(marks, "all"), neutral=texts("q"), share=0.6, known=feeling())
    assert len(made.removed) > 1
    for each in made.made.values():
        assert float((made.removed @ each.direction.vector).abs().max()) < 1e-5
    assert len(emotions(reader(marks, "all"), neutral=texts("q"), share=0, known=feeling()).removed) == 0


def test_valence_and_arousal_are_found_where_they_lie():
    """Each mark holds its valence along one direction and its arousal, more weakly, along another."""
    marks = {mark: 6 * valence * V[0] + 2 * arousal * V[1] for mark, (_, valence, arousal) in FELT.items()}
    made = emotions(reader(marks, "all"), neutral=texts("q"), share=0, known=feeling())
    figures = {result.name: result for result in made.results}
    assert figures["valence_on_component_1"].value > 0.9
    assert figures["arousal_on_component_2"].value > 0.8
    with pytest.raises(NotEnoughTokens, match="one passage"):
        emotions(reader(marks, "all"), passages={"a": ("hello there",), "b": ("and that",)}, neutral=texts("q"))


def test_every_recipe_has_its_name():
    assert set(RECIPES) == {"contrast", "probe", "concept", "refusal", "persona", "axis", "emotion", "trained", "slots"}


def test_the_lists_are_whole_and_no_emotion_is_named_by_its_passages():
    assert len(set(UNRELATED_WORDS)) == 100
    assert len(ROLES) == 30
    assert len(DECLINED) == len(HARMLESS) == 16
    assert set(TRAITS) == {"formal", "cheerful", "poetic", "wordy"}
    for name, emotion in EMOTIONS.items():
        assert not any(re.search(rf"\b{name}", passage.lower()) for passage in emotion.passages)
