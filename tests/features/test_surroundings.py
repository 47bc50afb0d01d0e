"""N-grams, positions and losses around firings, counted by brute force over all tokens."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from microtome.features import FeatureIndex, measure_losses
from tests.features.small_store import Made


@pytest.mark.parametrize("feature", [0, 7, 30])
def test_ngrams_and_positions_equal_brute_force(made: Made, index: FeatureIndex, dense: np.ndarray, *, feature: int) -> None:
    tokens, keep = np.asarray(made.corpus.tokens), index.store.postings.keep()
    docs = made.corpus.doc_of(np.arange(len(tokens)))
    fires = dense[:, feature] > 0
    found = index.surroundings(feature, limit=1000)
    for before, after, listed in ((1, 0, found.before), (2, 0, found.before), (0, 1, found.after), (0, 2, found.after)):
        inside = [t for t in range(before, len(tokens) - after) if docs[t - before] == docs[t + after]]
        all_of = Counter(tuple(tokens[t - before : t + after + 1].tolist()) for t in inside if keep[t])
        of_firings = Counter(tuple(tokens[t - before : t + after + 1].tolist()) for t in inside if fires[t])
        grams = [gram for gram in listed if (gram.centre, len(gram.tokens)) == (before, before + after + 1)]
        assert {gram.tokens: gram.count for gram in grams} == of_firings
        for gram in grams:
            assert gram.occurrences == all_of[gram.tokens]
            assert gram.rate == gram.count / gram.occurrences
            assert gram.share == gram.count / fires.sum()
    counts = [gram.count for gram in found.before]
    assert counts == sorted(counts, reverse=True)
    offsets = np.arange(len(tokens)) - made.corpus.doc_start[docs]
    assert sum(one.count for one in found.positions) == fires.sum()
    for one in found.positions:
        here = keep & (offsets >= one.low) & (offsets < one.high)
        assert (one.tokens, one.count) == (here.sum(), (here & fires).sum())
        assert one.lift == pytest.approx(one.density / (fires.sum() / keep.sum()))


def test_a_dead_feature_has_no_surroundings(index: FeatureIndex) -> None:
    found = index.surroundings(63)
    assert (found.n, found.before, found.after) == (0, (), ())
    assert all(one.lift == 0 for one in found.positions)


def test_losses_are_the_models_and_a_feature_has_its_share(made: Made, index: FeatureIndex) -> None:
    assert index.loss(7) is None
    out = made.workspace.place("losses", "texts")
    measure_losses(made.model, made.corpus, out=out)
    corpus, by_hand = made.corpus, np.full(made.corpus.n_tokens, np.nan)
    for low, high in zip(corpus.context_start[:-1].tolist(), corpus.context_start[1:].tolist(), strict=True):
        logs = made.model.logits(torch.from_numpy(np.asarray(corpus.tokens[low:high]).astype(np.int64))[None])[0].log_softmax(-1)
        for t in range(low + 1, high):
            by_hand[t] = -float(logs[t - 1 - low, int(corpus.tokens[t])])
    losses = index.store.losses()
    assert losses is not None
    np.testing.assert_allclose(losses.here, by_hand, rtol=1e-3, atol=1e-4)
    firings = index.store.postings.feature(7)
    found = index.loss(7)
    assert found is not None
    assert found.here is not None
    assert found.after is not None
    assert found.here.mean == pytest.approx(np.nanmean(by_hand[firings.positions]), rel=1e-3)
    after = np.append(by_hand[1:], np.nan)
    assert found.after.mean == pytest.approx(np.nanmean(after[firings.positions]), rel=1e-3)
    assert found.after.n == np.isfinite(after[firings.positions]).sum()
    assert found.here.low < found.here.mean < found.here.high
    keep = index.store.postings.keep()
    assert (found.store_here, found.store_after) == (
        pytest.approx(np.nanmean(by_hand[keep]), rel=1e-3),
        pytest.approx(np.nanmean(after[keep]), rel=1e-3),
    )
    assert sum(one.here.n for one in found.slices if one.here) == found.here.n
    edges = [one.low for one in found.slices]
    assert edges == sorted(edges, reverse=True)


def test_an_interrupted_measurement_of_losses_goes_on(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from microtome.features import losses

    monkeypatch.setattr(losses, "_RANGE", 400)
    real, calls = made.model.loss, []

    def stops(tokens: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(tokens)

    monkeypatch.setattr(made.model, "loss", stops)
    with pytest.raises(KeyboardInterrupt):
        measure_losses(made.model, made.corpus, out=tmp_path / "part")
    before = len(calls)
    measure_losses(made.model, made.corpus, out=tmp_path / "part")
    again = len(calls) - before
    measure_losses(made.model, made.corpus, out=tmp_path / "whole")
    assert again < len(calls) - before - again
    part, whole = (losses.Losses.open(tmp_path / name).here for name in ("part", "whole"))
    np.testing.assert_array_equal(part, whole)
