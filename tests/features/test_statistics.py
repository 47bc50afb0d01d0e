"""Every number of a card against a brute-force computation from the dense activations."""

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from microtome.activations import SPLITS
from microtome.features import FeatureIndex
from microtome.features.blocks import Block
from microtome.features.postings import Firings
from microtome.features.statistics import histogram, percentile
from tests.features.small_store import D_DICT, Made


@pytest.mark.parametrize("feature", range(0, D_DICT, 5))
def test_moments(index: FeatureIndex, dense: npt.NDArray[np.float32], *, made: Made, feature: int) -> None:
    numbers, active = index.card(feature).statistics, dense[:, feature][dense[:, feature] > 0].astype(np.float64)
    assert numbers.count == len(active)
    assert numbers.density == len(active) / made.shards.keep.sum()
    docs = {int(doc) for doc in made.corpus.doc_of(np.flatnonzero(dense[:, feature]))}
    assert numbers.documents == len(docs)
    assert numbers.document_share == len(docs) / made.corpus.n_docs
    assert numbers.max == pytest.approx(active.max())
    assert numbers.mean == pytest.approx(active.mean())
    assert numbers.second_moment == pytest.approx((active**2).mean())


def test_a_dead_feature_has_a_card_of_zeros(index: FeatureIndex) -> None:
    card = index.card(D_DICT - 1)
    assert (card.statistics.count, card.statistics.max, card.statistics.mean, card.tokens.entropy) == (0, 0, 0, 0)
    assert (card.top, card.strata, card.tokens.tokens) == ((), (), ())
    assert card.label.text == "never fires"
    assert len(card.neighbours) == 5, "its direction still has neighbours and logits"


def test_the_histogram_counts_every_firing_once(index: FeatureIndex, dense: npt.NDArray[np.float32]) -> None:
    for feature in range(0, D_DICT - 2, 7):
        shown, active = index.card(feature).histogram, dense[:, feature][dense[:, feature] > 0].astype(np.float64)
        assert sum(shown.counts) == len(active)
        assert len(shown.counts) == 64
        for count, low, high in zip(shown.counts, shown.edges[:-1], shown.edges[1:], strict=True):
            top = active <= high if high == shown.edges[-1] else active < high
            assert count == ((active >= low) & top).sum()
        ratios = np.diff(np.log(shown.edges))
        np.testing.assert_allclose(ratios, ratios.mean(), rtol=1e-6, err_msg="bins are even in the logarithm")


def test_a_histogram_of_equal_values_keeps_them() -> None:
    edges, counts = histogram(Block.of(Firings(positions=np.arange(5), values=np.full(5, 2.0, dtype=np.float32))))
    assert counts.values.sum() == 5
    assert (edges.values[0], edges.values[-1]) == (1.0, 2.0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("n_asked", [3, 300])
def test_percentiles_are_the_exact_share_of_weaker_firings(dtype: type[np.floating[Any]], n_asked: int) -> None:
    draw = np.random.default_rng(0)
    values = np.exp(draw.normal(size=5_000)).round(1).astype(dtype)
    values = values[values > 0]
    asked = np.concatenate([[0.0], np.exp(draw.normal(size=n_asked)).round(1), [6e4]]).astype(dtype).astype(np.float32)
    assert percentile(asked, values=values).tolist() == [(values < a).mean() if a > 0 else 0.0 for a in asked]


def test_the_percentile_of_ties_and_of_a_single_firing() -> None:
    one, ties = np.array([2.0], dtype=np.float16), np.array([3, 1, 3, 3], dtype=np.float16)
    assert percentile(np.array([1.0, 2.0, 3.0], dtype=np.float32), values=one).tolist() == [0.0, 0.0, 1.0]
    assert percentile(np.array([1.0, 3.0, 4.0], dtype=np.float32), values=ties).tolist() == [0.0, 0.25, 1.0]
    assert percentile(np.array([1.0], dtype=np.float32), values=one[:0]).tolist() == [0.0], "a dead feature has no firings"


@pytest.mark.parametrize("feature", range(1, D_DICT - 2, 9))
def test_token_profile(index: FeatureIndex, dense: npt.NDArray[np.float32], *, made: Made, feature: int) -> None:
    tokens, profile = made.corpus.tokens, index.card(feature).tokens
    where = np.flatnonzero(dense[:, feature])
    counts = Counter(tokens[where].tolist())
    shares = np.array(list(counts.values())) / len(where)
    assert profile.distinct == len(counts)
    assert profile.entropy == pytest.approx(-(shares * np.log2(shares)).sum(), abs=1e-5)
    sums = {token: float(dense[where[tokens[where] == token], feature].sum(dtype=np.float64)) for token in counts}
    assert [stat.token for stat in profile.tokens] == sorted(counts, key=lambda token: (-sums[token], token))[: len(profile.tokens)]
    for stat in profile.tokens:
        assert stat.count == counts[stat.token]
        assert stat.share == stat.count / len(where)
        assert stat.mean == pytest.approx(sums[stat.token] / stat.count, rel=1e-5)
        assert stat.rate == pytest.approx(stat.count / (made.shards.keep & (tokens == stat.token)).sum(), rel=1e-6)


def test_breakdowns(index: FeatureIndex, dense: npt.NDArray[np.float32], made: Made) -> None:
    corpus, keep = made.corpus, made.shards.keep
    docs = corpus.doc_of(np.arange(corpus.n_tokens))
    labels = np.array(corpus.docs["label"].to_pylist())[docs]
    splits = np.array(SPLITS)[corpus.splits[docs]]
    for feature in (0, 17, 40):
        breakdowns, active = index.card(feature).breakdowns, dense[:, feature] > 0
        for by, parts in (("corpus_label", labels), ("split", splits)):
            assert {entry.name for entry in breakdowns[by]} == set(parts.tolist())
            assert list(breakdowns[by]) == sorted(breakdowns[by], key=lambda entry: (-entry.density, entry.name))
            for entry in breakdowns[by]:
                mine = parts == entry.name
                assert (entry.count, entry.tokens) == ((active & mine).sum(), (keep & mine).sum())
                assert entry.density == entry.count / entry.tokens
                assert entry.lift == pytest.approx(entry.density / (active.sum() / keep.sum()))
        best = max(breakdowns["corpus_label"], key=lambda entry: entry.lift)
        row = index.table(filter=f"feature = {feature}").rows[0]
        assert (row.corpus_label, row.lift) == (best.name, pytest.approx(best.lift))


def test_offsets(index: FeatureIndex, dense: npt.NDArray[np.float32], made: Made) -> None:
    starts = made.corpus.doc_start[made.corpus.doc_of(np.arange(made.corpus.n_tokens))]
    offsets = np.arange(made.corpus.n_tokens) - starts
    shown = index.card(7).offsets
    counts, _ = np.histogram(offsets[dense[:, 7] > 0], bins=shown.edges)
    assert shown.counts == tuple(counts.tolist())
