"""Measured effects against a plain forward under the edit, and what the catalogue keeps of them."""

import numpy as np
import pytest
import torch

from microtome.errors import ConfigError, ShapeMismatch
from microtome.features import Effects, EffectsConfig, FeatureIndex
from microtome.models import tiny
from microtome.shapes import Tensor
from tests.features.small_set import D, MadeSet
from tests.features.small_store import SITE, Made

FEW = EffectsConfig(examples=3, tokens=5)


def _logs(made: Made, index: FeatureIndex, feature: int, *, peak: int, factor: float) -> Tensor:
    """Log-probabilities after the peak from a forward of the whole context, its activations multiplied by hand."""
    corpus = made.corpus
    context = int(corpus.context_of([peak])[0])
    start, end = int(corpus.context_start[context]), int(corpus.context_start[context + 1])
    tokens = torch.from_numpy(np.asarray(corpus.tokens[start:end]).astype(np.int64))[None]
    amounts = np.zeros(end - start, np.float32)
    firings = index.store.postings.within(feature, start=start, end=end)
    amounts[firings.positions - start] = firings.values
    amounts[peak - start + 1 :] = 0
    place = index.place(feature)
    dictionary = index.store.members.dictionaries[place.member]

    def edit(write: int) -> Tensor:
        return (factor - 1) * torch.from_numpy(amounts)[:, None] * dictionary.direction(place.number, write=dictionary.writes[write])

    added = [edit(i) for i in range(len(dictionary.writes))]
    edits = {site: (lambda x, i=i: x + added[i]) for i, site in enumerate(dictionary.writes)}
    return made.model.logits(tokens, edit=edits)[0, peak - start, : len(made.model.tokenizer)].double().log_softmax(-1)


def _by_hand(made: Made, index: FeatureIndex, feature: int, *, found: Effects) -> None:
    peaks = index.store.rows.row(feature)["top_positions"][: FEW.examples]
    assert found.n == len(peaks) > 0
    plain = [_logs(made, index, feature, peak=peak, factor=1.0) for peak in peaks]
    for change in found.changes:
        edited = [_logs(made, index, feature, peak=peak, factor=change.factor) for peak in peaks]
        kl = [float((new.exp() * (new - old)).sum()) for new, old in zip(edited, plain, strict=True)]
        assert change.kl == pytest.approx(np.mean(kl), rel=1e-3, abs=1e-9)
        shift = torch.stack(edited).exp().mean(0) - torch.stack(plain).exp().mean(0)
        best = shift.topk(FEW.tokens)
        assert [each.change for each in change.promoted] == pytest.approx(best.values.tolist(), rel=1e-3, abs=1e-9)
        assert min(change.kl_low, change.control_low) >= 0
        assert all(each.change < 0 for each in change.suppressed)


def test_an_sae_feature_is_ablated_and_doubled_as_a_plain_forward_says(made: Made, index: FeatureIndex) -> None:
    feature = int(index.store.rows.numbers["documents"].argmax())
    found = index.effects(feature, model=made.model, config=FEW)
    assert found is not None
    assert [change.factor for change in found.changes] == [0.0, 2.0]
    _by_hand(made, index, feature, found=found)
    size = index.store.rows.numbers["decoder_norm"][feature] * found.activation
    assert found.size == pytest.approx(size, rel=1e-4)
    assert SITE in index.store.members.dictionaries[0].writes


@pytest.mark.parametrize("kind", ["layers", "cross"])
def test_a_transcoder_feature_is_edited_at_every_site_that_it_writes(kind: str, request: pytest.FixtureRequest) -> None:
    made: MadeSet = request.getfixturevalue(kind)
    index: FeatureIndex = request.getfixturevalue(f"{kind}_index")
    found = index.effects(3, model=made.base.model, config=FEW)
    assert found is not None
    _by_hand(made.base, index, 3, found=found)


def test_a_feature_that_writes_nothing_has_no_effect_and_a_planted_strong_one_beats_its_control(made: Made, index: FeatureIndex) -> None:
    """A direction along the unembedding of one token raises that token; a random one of the same length does not."""
    strong = index.effects(5, model=made.model, config=EffectsConfig(examples=4))
    assert strong is not None
    assert all(change.kl > 0 and change.control > 0 for change in strong.changes)
    dead = index.effects(63, model=made.model, config=FEW)
    assert dead is not None
    assert (dead.n, dead.changes) == (0, ())


def test_what_is_stored_is_not_measured_again_and_an_interrupted_job_goes_on(
    made: Made, index: FeatureIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EffectsConfig(examples=1, tokens=2, seed=7)
    wanted = [1, 2, 4]
    assert index.effects(1, config=config) is None
    real, seen = made.model.logits, []

    def stops(tokens: Tensor, **options: object) -> Tensor:
        seen.append(1)
        if len(seen) > 2:
            raise KeyboardInterrupt
        return real(tokens, **options)  # pyright: ignore[reportArgumentType]  # passed on as they came

    monkeypatch.setattr(made.model, "logits", stops)
    with pytest.raises(KeyboardInterrupt):
        index.measure_effects(made.model, wanted, config=config)
    monkeypatch.undo()
    kept = [index.effects(feature, config=config) for feature in wanted]
    assert [each is not None for each in kept] == [True, True, False]
    assert index.measure_effects(made.model, wanted, config=config) == 1
    assert [index.effects(feature, config=config) for feature in wanted][:2] == kept[:2]
    assert index.measure_effects(made.model, wanted, config=config) == 0


def test_a_larger_draw_goes_on_where_a_smaller_one_ended(made: Made, layers_index: FeatureIndex) -> None:
    config = EffectsConfig(examples=1, tokens=2)
    assert layers_index.measure_effects(made.model, 2, config=config) == 2
    assert layers_index.measure_effects(made.model, 3, config=config) == 1
    with pytest.raises(ConfigError, match="at least 1"):
        EffectsConfig(examples=0)


def test_another_model_is_refused(layers_index: FeatureIndex) -> None:
    with pytest.raises(ShapeMismatch):
        layers_index.effects(D, model=tiny("llama", seed=9), config=FEW)
