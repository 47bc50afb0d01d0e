"""The contract on the real demo model."""

import pytest
import torch
from steering.small import CHAT

from microtome.directions import Direction
from microtome.models import Model, Site, load
from microtome.steering import (
    Ablate,
    Add,
    Batch,
    Cap,
    EditSet,
    Sampling,
    ablated_weights,
    applied,
    generate,
    of_norm,
    percentile,
    residual_writes,
)
from microtome.testing import check_edit

pytestmark = pytest.mark.network
SITE = Site("resid_post", 15)


@pytest.fixture(scope="module")
def demo() -> Model:
    return load("demo", selfcheck=False)


@pytest.fixture(scope="module")
def direction(demo: Model) -> Direction:
    """The mean difference of two sentences: a direction that activations really have."""
    glad, sad = (demo.capture(torch.tensor([demo.tokenizer.encode(text)]), [SITE])[SITE][0, 1:] for text in ("I am so glad and happy", "I am so sad"))
    made = Direction(name="glad", site=SITE, vector=glad.mean(0) - sad.mean(0), model=demo.fingerprint)
    return made.calibrated(made.project(torch.cat([glad, sad])), source="two sentences")


def test_the_contract_holds_on_the_demo_model(demo: Model, direction: Direction):
    for edit in (
        Add(component=direction, strength=of_norm(0.2)),
        Cap(component=direction, strength=percentile(50), side="floor"),
    ):
        check_edit(edit, demo)


def test_weights_and_activations_forget_alike(demo: Model, direction: Direction):
    batch = Batch.of(demo, [CHAT])
    with applied(demo, Ablate(component=direction, sites=residual_writes(demo)), batch=batch):
        by_activations = demo.logits(batch.tokens)
    with ablated_weights(demo, direction):
        by_weights = demo.logits(batch.tokens)
    torch.testing.assert_close(by_weights, by_activations, atol=5e-3, rtol=5e-3)


def test_an_unedited_row_is_what_the_model_says(demo: Model, direction: Direction):
    settings = Sampling(max_new_tokens=6)
    edit = Add(component=direction, strength=of_norm(0.3))
    plain, pushed = generate(demo, [CHAT, CHAT], edits=[EditSet.of(edit).at(0), EditSet.of(edit)], sampling=settings)
    assert plain.tokens == generate(demo, CHAT, sampling=settings)[0].tokens
    assert pushed.n_edited > plain.n_edited == 0
