"""A trained vector on a model whose answer is known: it is the difference of what the two continuations read."""

import pytest
import torch
from directions.planted import SITE, alike, basis, planted

from microtome.directions import Reader, asked
from microtome.directions.recipes import Preference, trained
from microtome.errors import ConfigError, NotEnoughTokens
from microtome.models import Model
from microtome.steering import Add, Batch, applied, raw

V = basis()
WORDS = ("hello", "world", "the user", "and that", "in this", "on it", "was for", "of old", "is as", "to be", "we saw", "he said")


def speaking() -> Model:
    return planted({}, says={"!": 4 * V[0], "?": 4 * V[1]})


def preferences(n: int = 12) -> list[Preference]:
    return [Preference(prompt=WORDS[i], target="!", against="?") for i in range(n)]


def test_it_finds_what_the_wanted_token_reads_and_the_other_does_not():
    made = trained(Reader(model=speaking(), site=SITE), preferences=preferences(), length=0.5, steps=25)
    assert alike(made.direction.vector, V[0] - V[1]) > 0.97
    gain = made.results[0]
    assert gain.low is not None
    assert gain.low > max(gain.baselines.values()) + 1
    assert made.losses[0] == pytest.approx(0.6931, abs=1e-4)  # ln 2: nothing is gained by nothing
    assert made.losses[-1] < made.losses[0] / 2


def test_a_small_vector_is_the_gradient_of_the_gain():
    """Brute force: the mean gain of a small step along each coordinate, by finite differences."""
    model, size = speaking(), 1e-2
    made = trained(Reader(model=model, site=SITE), preferences=preferences(), length=0.01, steps=60)
    batches = [torch.tensor([model.tokenizer.encode(word)]) for word in WORDS[:9]]
    one, other = (model.tokenizer.encode(text)[0] for text in "!?")

    def margin(vector: torch.Tensor) -> float:
        rows = [model.logits(tokens, edit={SITE: lambda x: x + vector})[0, -1] for tokens in batches]
        return sum(float(row[one] - row[other]) for row in rows)

    slope = torch.tensor([margin(step) - margin(-step) for step in size * torch.eye(32)])
    assert alike(made.direction.vector, slope) > 0.99
    lengths = [float(model.capture(tokens, [SITE])[SITE].norm(dim=-1).max()) for tokens in batches]
    assert made.direction.norm <= 0.01 * max(lengths)


def test_what_it_gains_is_what_the_edit_gains():
    """The held-out figure is of `Add` at full strength, alone and in a batch of unequal lengths."""
    model = speaking()
    made = trained(Reader(model=model, site=SITE, batch_size=3), preferences=preferences(), length=0.5, steps=10)
    edit = Add(component=made.direction, strength=raw(1))
    one, other = (model.tokenizer.encode(text)[0] for text in "!?")
    gains: list[float] = []
    for prompt in WORDS[9:]:
        batch = Batch.of(model, [prompt])
        plain = model.logits(batch.tokens)[0, -1]
        with applied(model, edit, batch=batch):
            edited = model.logits(batch.tokens)[0, -1]
        gains.append(float((edited - plain)[one] - (edited - plain)[other]))
    assert made.results[0].n == 3
    assert made.results[0].value == pytest.approx(sum(gains) / 3, abs=1e-4)


def test_preferences_that_cannot_be_trained_on_are_refused():
    here = Reader(model=speaking(), site=SITE)
    with pytest.raises(NotEnoughTokens, match="preferences"):
        trained(here, preferences=preferences(7))
    with pytest.raises(ConfigError, match="differ"):
        Preference(prompt="hello", target="!", against="!")
    with pytest.raises(ConfigError, match="so"):
        trained(here, preferences=preferences(), length=0)
    talk = [Preference(prompt=asked(word), target="!", against="?") for word in WORDS]
    assert trained(here, preferences=talk, steps=2).direction.norm > 0
