"""Slots that were planted are found, each by itself; what was not planted is not."""

import math
from typing import Any

import pytest
import torch
from directions.planted import SITE, basis, planted

from microtome.directions import Reader
from microtome.directions.recipes import SlotsFitted, Story, fit_slots, slots, slots_right, stories
from microtome.errors import ConfigError, NotEnoughTokens
from microtome.shapes import Tensor

V = basis()
NAMES = "QZXJKVWY"


def rows_of(entities: Tensor, *, noise: float = 0.1) -> Tensor:
    """Current entity e at V[e], the prior one at V[8 + e]; the one before nowhere."""
    random = torch.Generator().manual_seed(3)
    return V[entities[:, 0]] + V[8 + entities[:, 1]] + noise * torch.randn(len(entities), 32, generator=random)


def drawn(n: int) -> Tensor:
    """Of each row three different entities of eight: current, prior, and the one before."""
    return torch.stack([torch.randperm(8, generator=torch.Generator().manual_seed(i))[:3] for i in range(n)])


def test_slots_settle_on_current_and_prior_though_nobody_says_which_is_which():
    entities = drawn(400)
    rows, ordered = rows_of(entities), entities[:, :2]
    sets = ordered.sort(1).values  # sorted: their order says nothing
    fitted = fit_slots(rows[:300], sets[:300], n_entities=8, steps=200)
    lags = {"current": entities[300:, 0], "prior": entities[300:, 1], "lag2": entities[300:, 2]}
    right = slots_right(fitted, rows[300:], lags=lags)
    first, second = sorted(range(2), key=lambda slot: right[slot]["prior"])
    assert right[first]["current"] > 0.9
    assert right[first]["prior"] < 0.3
    assert right[second]["prior"] > 0.9
    assert right[second]["current"] < 0.3
    assert max(each["lag2"] for each in right) < 0.3
    for slot, offset in ((first, 0), (second, 8)):  # the read-out of an entity raises it most along what was planted for it
        read = fitted.directions(slot) @ V[offset : offset + 8].T
        assert read.argmax(1).tolist() == list(range(8))


def test_angles_are_those_of_the_planes_that_slots_read():
    """Three entities read in planes of known position: the second is the first turned by 30° about one of its axes."""
    turn = math.radians(30)
    one, other = [[1.0, 0, 0], [0.0, 1, 0]], [[1.0, 0, 0], [0.0, math.cos(turn), math.sin(turn)]]
    fitted = SlotsFitted(
        maps=torch.tensor([one, other], dtype=torch.float64),
        classifier=torch.tensor([[1, 0], [0, 1], [-1, -1]], dtype=torch.float64),
        bias=torch.zeros(3, dtype=torch.float64),
        mean=torch.zeros(3, dtype=torch.float64),
        scale=torch.ones(3, dtype=torch.float64),
        loss=0.0,
    )
    assert fitted.angles(0, 1) == pytest.approx((0, 30), abs=1e-4)
    assert fitted.angles(0, 0) == pytest.approx((0, 0), abs=1e-4)


def test_the_order_within_a_set_and_of_the_slots_changes_nothing():
    entities = drawn(60)
    rows, sets = rows_of(entities), entities[:, :2]
    one = fit_slots(rows, sets, n_entities=8, steps=10)
    other = fit_slots(rows, sets.flip(1), n_entities=8, steps=10)
    assert one.loss == pytest.approx(other.loss, abs=1e-12)
    torch.testing.assert_close(one.maps, other.maps)


def telling() -> Reader:
    """Each marked character holds V[i], and attention leaves V[8 + i] of every one that was seen."""
    model = planted({name: 2 * V[i] for i, name in enumerate(NAMES)})
    hf: Any = model.hf
    with torch.no_grad():
        hf.model.layers[0].self_attn.o_proj.weight[:, :8].copy_(V[8:].T)
    return Reader(model=model, site=SITE)


def test_stories_are_read_at_the_end_of_each_sentence():
    """Both slots mostly name somebody of the set on held-out stories (a quarter would be chance). So few distinct rows do not say which lag is
    whose: the test above does."""
    told = [Story(sentences=("on " + a, "is " + b), entities=(a, b)) for a in NAMES for b in NAMES if a != b] * 2
    made = slots(telling(), told=told, steps=200)
    assert sorted(made.names) == ["current", "prior"]
    assert set(made.made) == {f"{name}-{who}" for name in ("current", "prior") for who in NAMES}
    for right in made.right:
        assert right["current"] + right["prior"] > 0.65
    assert all(result.baselines["shuffled"] < 0.6 for result in made.results if result.name in ("current_right", "prior_right"))
    assert made.made["current-Q"].direction.provenance["entities"] == sorted(NAMES)
    assert any("does not show that the model uses it" in note for note in made.notes)


def test_entities_that_the_sentences_do_not_name_are_hardly_read_and_the_notes_say_so():
    told = [Story(sentences=one.sentences, entities=other.entities) for one, other in zip(stories(n=40), stories(n=40, seed=9), strict=True)]
    made = slots(Reader(model=planted({}), site=SITE), told=told, steps=60)
    assert any("hardly such a slot" in note for note in made.notes)
    assert max(result.value for result in made.results if result.name.endswith("_right")) < 0.4


def test_our_stories_name_each_entity_once():
    told = stories(n=20)
    assert told == stories(n=20)
    for story in told:
        assert len(set(story.entities)) == 4
        assert all(sentence.startswith(name) for sentence, name in zip(story.sentences, story.entities, strict=True))
    with pytest.raises(ConfigError, match="story"):
        Story(sentences=("Anna sits.",), entities=("Anna",))
    with pytest.raises(NotEnoughTokens, match="stories"):
        slots(telling(), told=told[:3])
    with pytest.raises(ConfigError, match="slots"):
        slots(telling(), told=told, n_slots=5)
