"""Measured effects against a plain forward under the edit, and what the catalogue keeps of them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from microtome.errors import ConfigError, ModelTapped, ShapeMismatch
from microtome.features import Effects, EffectsConfig, FeatureIndex, measure_losses
from microtome.features.dreaming import dream, feature_target
from microtome.features.effects import _controls  # pyright: ignore[reportPrivateUsage]  # the part under test
from microtome.models import Site, tiny
from microtome.shapes import Tensor
from tests.features.planted import planted
from tests.features.small_set import D, MadeSet
from tests.features.small_store import SITE, Made

FEW = EffectsConfig(examples=3, tokens=5)


def _logs(made: Made, index: FeatureIndex, feature: int, *, peak: int, factor: float, along: Mapping[Site, Tensor] | None = None) -> Tensor:
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

    vectors = along or {site: dictionary.direction(place.number, write=site) for site in dictionary.writes}
    added = {site: (factor - 1) * torch.from_numpy(amounts)[:, None] * vector for site, vector in vectors.items()}
    edits = {site: (lambda x, part=part: x + part) for site, part in added.items()}
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


def test_a_planted_direction_raises_its_token_doubled_and_lowers_it_ablated(made: Made, index: FeatureIndex) -> None:
    """Feature 0 writes along the unembedding of one token."""
    token, draw = 75, torch.Generator().manual_seed(1)
    decoders = torch.randn(8, made.model.d_model, generator=draw)
    rows = made.model.unembed().float()
    decoders[0] = 20 * rows[token] / rows[token].norm()
    dense = np.zeros((made.corpus.n_tokens, 8), np.float32)
    dense[::5] = 1.0
    strong = planted(made, index, dense, encoders=decoders, decoders=decoders, name="strong")
    found = strong.effects(0, model=made.model, config=EffectsConfig(examples=6, tokens=3))
    assert found is not None
    ablated, doubled = found.changes
    assert doubled.promoted[0].token == token
    assert ablated.suppressed[0].token == token
    assert doubled.promoted[0].change > 2 * doubled.promoted[1].change
    assert doubled.loss is not None
    assert found.size == pytest.approx(20.0, rel=1e-3)


def test_the_control_is_another_features_direction_made_as_long(layers: MadeSet, layers_index: FeatureIndex) -> None:
    """By hand: the same pushes along the directions that were drawn."""
    feature, store = 3, layers_index.store
    found = layers_index.effects(feature, model=layers.base.model, config=FEW)
    assert found is not None
    writes = store.wiring.writes(feature)
    peaks = store.rows.row(feature)["top_positions"][: found.n]
    drawn = _controls(store, feature, writes, n=found.n, seed=FEW.seed)
    for change in found.changes:
        kl: list[float] = []
        for peak, control in zip(peaks, drawn, strict=True):
            for site, vector in control.items():
                assert float(vector.norm()) == pytest.approx(float(writes[site].norm()), rel=1e-5)
                cosines = [float(torch.cosine_similarity(vector, store.wiring.writes(other)[site], dim=0)) for other in range(D) if other != feature]
                assert max(cosines) == pytest.approx(1.0, abs=1e-5)
            plain, edited = (_logs(layers.base, layers_index, feature, peak=peak, factor=factor, along=control) for factor in (1.0, change.factor))
            kl.append(float((edited.exp() * (edited - plain)).sum()))
        assert change.control == pytest.approx(np.mean(kl), rel=1e-3, abs=1e-9)


def test_a_dead_feature_has_no_examples_to_measure_on(made: Made, index: FeatureIndex) -> None:
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


def test_nothing_is_measured_under_a_tap(made: Made, index: FeatureIndex, tmp_path: Path) -> None:
    with made.model.tap(edit={Site("resid_pre", 0): lambda x: 0.1 * x}):
        with pytest.raises(ModelTapped, match="effects"):
            index.effects(0, model=made.model)
        with pytest.raises(ModelTapped, match="losses"):
            measure_losses(made.model, made.corpus, out=tmp_path / "losses")
        with pytest.raises(ModelTapped, match="dream"):
            dream(index, made.model, target=feature_target(index, 0), out=tmp_path / "dream")
    assert not any(tmp_path.iterdir())
