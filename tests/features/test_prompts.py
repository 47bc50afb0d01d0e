"""Many prompts on one feature, and features found by prompts, by a token and by two sets of texts: against brute force over everything."""

from itertools import permutations, product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.stats import mannwhitneyu, rankdata

from microtome.config import to_dict
from microtome.errors import FeatureNotFound, QueryInvalid
from microtome.features import FeatureIndex
from microtome.features.separate import auc, mid_ranks, null
from microtome.features.statistics import standing
from tests.features.small_store import D_DICT, SITE, Made, random_sae

SEA = ("the ship was on the sea", "that crew of 1912 was in the sea", "hello ship")
LAW = ("the judge of the world", "that ruling was for the court")
Matrix = npt.NDArray[np.float64]


def activations(made: Made, index: FeatureIndex, text: str) -> npt.NDArray[np.float32]:
    """Every feature on every token of a text, by hand: a line break before it, all activations of the dictionary, rounded as stored."""
    tokens = made.model.tokenizer.encode("\n") + made.model.tokenizer.encode(text)
    x = made.model.capture(torch.tensor([tokens]), [SITE])[SITE][0, 1:]
    codes = random_sae(made.model.width(SITE)).encode(x.float())
    return torch.zeros(len(x), D_DICT).scatter_(1, codes.indices.long(), codes.values).clamp_min(0).half().float().numpy()


@pytest.fixture
def shares(made: Made, index: FeatureIndex, dense: npt.NDArray[np.float32]) -> Matrix:
    """Largest activation over the largest in the store, [prompts of SEA and LAW, features]."""
    top = dense.max(0)
    rows = np.stack([activations(made, index, text).max(0) for text in (*SEA, *LAW)]).astype(np.float64)
    return np.where(top > 0, rows / np.where(top > 0, top, 1), (rows > 0).astype(float))


def test_a_prompt_is_placed_among_the_stores_firings(index: FeatureIndex, made: Made, dense: npt.NDArray[np.float32]) -> None:
    feature = index.search(made.model, SEA[0]).hits[0].feature
    tested = index.test_all(made.model, feature, texts=SEA)
    held = dense[:, feature][dense[:, feature] > 0]
    assert (tested.store_count, tested.store_max) == (len(held), pytest.approx(held.max()))
    for one, text in zip(tested.tests, SEA, strict=True):
        expected = activations(made, index, text)[:, feature]
        np.testing.assert_allclose(one.activations, expected, rtol=2e-3)
        np.testing.assert_allclose(one.shares_of_max, np.array(one.activations) / held.max(), rtol=1e-6)
        assert list(one.ranks) == [1 + int((held > a).sum()) if a > 0 else 0 for a in one.activations]
        assert list(one.percentiles) == [(held < a).mean() if a > 0 else 0.0 for a in one.activations]
        assert one == index.test(made.model, feature, text=text)
    assert tested.above_store == sum(max(one.activations) > held.max() for one in tested.tests)


def test_a_prompt_above_the_store_is_flagged_and_first(index: FeatureIndex, made: Made, shares: Matrix) -> None:
    prompt, feature = (int(found) for found in np.argwhere(shares > 1.01)[0])
    tested = index.test_all(made.model, feature, texts=[(*SEA, *LAW)[prompt], *SEA])
    first = tested.tests[0]
    assert first.above_store
    assert (first.ranks[first.peak], first.percentiles[first.peak]) == (1, 1.0)
    assert first.shares_of_max[first.peak] == pytest.approx(shares[prompt, feature], rel=2e-3)
    assert tested.above_store == sum(one.above_store for one in tested.tests)
    assert index.test_all(made.model, D_DICT - 1, texts=SEA).above_store == 0, "a dead feature that stays silent is above nothing"


@pytest.mark.parametrize("n_asked", [3, 40])
def test_a_place_counts_the_stronger_firings(n_asked: int) -> None:
    draw = np.random.default_rng(0)
    values = np.exp(draw.normal(size=1_000)).round(1).astype(np.float16)
    values = values[values > 0]
    asked = np.concatenate([[0.0], np.exp(draw.normal(size=n_asked)).round(1), [6e4]]).astype(np.float16).astype(np.float32)
    assert standing(asked, values=values).tolist() == [1 + (values > a).sum() if a > 0 else 0 for a in asked]


@pytest.mark.parametrize(("misses", "allow", "rank"), [(0, 0.0, "specific"), (1, 0.0, "share"), (0, 0.6, "share"), (2, 0.2, "specific")])
def test_prompts_intersect_and_subtract(index: FeatureIndex, made: Made, shares: Matrix, *, misses: int, allow: float, rank: str) -> None:
    found = index.by_prompts(made.model, SEA, negative=LAW, misses=misses, allow=allow, rank=rank, limit=D_DICT)
    documents = np.array([index.card(feature).statistics.documents for feature in range(D_DICT)])
    expected: dict[int, float] = {}
    for feature in range(D_DICT):
        answers = sorted(shares[: len(SEA), feature])
        if answers[misses] > 0 and all(shares[len(SEA) + n, feature] <= allow for n in range(len(LAW))):
            rarity = np.log((1 + made.corpus.n_docs) / (1 + documents[feature]))
            expected[feature] = answers[misses] * (rarity if rank == "specific" else 1)
    assert expected, "the case shows nothing"
    assert {hit.feature: hit.score for hit in found.hits} == pytest.approx(expected, rel=2e-3)
    scores = [hit.score for hit in found.hits]
    assert scores == sorted(scores, reverse=True)
    assert found.n_left == len(expected)
    assert found.n_active == int((shares[: len(SEA)] > 0).any(0).sum())
    for hit in found.hits:
        np.testing.assert_allclose([*hit.positive, *hit.negative], shares[:, hit.feature], rtol=2e-3, atol=1e-6)


def test_one_prompt_alone_is_a_search_by_text(index: FeatureIndex, made: Made) -> None:
    one, search = index.by_prompts(made.model, SEA[:1], limit=D_DICT), index.search(made.model, SEA[0], limit=D_DICT)
    assert [(hit.feature, hit.score) for hit in one.hits] == [(hit.feature, pytest.approx(hit.score)) for hit in search.hits]


def test_a_token_finds_its_features_as_brute_force_does(index: FeatureIndex, made: Made, dense: npt.NDArray[np.float32]) -> None:
    token = made.model.tokenizer.encode(" the")
    assert len(token) == 1
    found = index.by_token(" the", limit=D_DICT)
    here = (made.corpus.tokens == token[0]) & index.store.postings.keep()
    assert found.occurrences == here.sum() > 50
    active = dense > 0
    both = active[here].sum(0)
    expected = {f: 2 * both[f] / (here.sum() + active[:, f].sum()) for f in np.flatnonzero(both)}
    assert {hit.feature: hit.f1 for hit in found.hits} == pytest.approx(expected)
    best = found.hits[0]
    assert (best.rate, best.share) == pytest.approx((both[best.feature] / here.sum(), both[best.feature] / active[:, best.feature].sum()))
    assert best.mean == pytest.approx(dense[here, best.feature][active[here, best.feature]].mean(), rel=1e-4)
    assert [hit.f1 for hit in found.hits] == sorted((hit.f1 for hit in found.hits), reverse=True)


def test_other_spellings_of_a_token_are_meant_when_asked_for(index: FeatureIndex, made: Made) -> None:
    exact, loose = index.by_token(" the"), index.by_token(" the", spellings=True)
    assert len(exact.tokens) == 1
    assert set(exact.tokens) < set(loose.tokens)
    assert {piece.strip().casefold() for piece in loose.pieces} == {"the"}
    with pytest.raises(QueryInvalid, match="no token is exactly") as error:
        index.by_token("the crew")
    assert "none is like it" in str(error.value)
    with pytest.raises(QueryInvalid) as error:
        index.by_token("th\u00eb")
    with pytest.raises(QueryInvalid, match='" the"'):
        index.by_token("  the")


def test_ranks_and_auc_are_those_of_scipy() -> None:
    draw = np.random.default_rng(0)
    values = draw.integers(0, 4, size=(17, 30)).astype(float)
    np.testing.assert_array_equal(mid_ranks(values), rankdata(values, axis=0))
    expected = [mannwhitneyu(column[:7], column[7:]).statistic / 70 for column in values.T]
    np.testing.assert_allclose(auc(values, n_positive=7), expected)
    pairs = np.mean([(a > b) + 0.5 * (a == b) for a, b in product(values[:7, 0], values[7:, 0])])
    assert auc(values, n_positive=7)[0] == pytest.approx(pairs)


def test_the_null_is_the_best_of_all_features_over_shuffles() -> None:
    """Against all orders of six texts: the shares of shuffles at each value, within what 4,000 draws allow."""
    values = np.random.default_rng(1).integers(0, 3, size=(6, 5)).astype(float)
    drawn = null(values, n_positive=2, shuffles=4000, seed=0)
    exact = np.array([np.abs(auc(values[list(order)], n_positive=2) - 0.5).max() for order in permutations(range(6))])
    for level in np.unique(exact.round(6)):
        assert (drawn >= level - 1e-6).mean() == pytest.approx((exact >= level - 1e-6).mean(), abs=0.03)


def test_under_the_null_few_searches_find_anything() -> None:
    """The family-wise error: of 200 searches among 40 features of noise, about 5 % call their best one significant."""
    draw, false = np.random.default_rng(2), 0
    for seed in range(200):
        values = draw.normal(size=(16, 40))
        best = np.abs(auc(values, n_positive=8) - 0.5).max()
        reached = null(values, n_positive=8, shuffles=99, seed=seed) >= best - 1e-12
        false += (1 + reached.sum()) / 100 <= 0.05
    assert false <= 20
    assert false >= 2


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_two_sets_of_texts_are_told_apart(index: FeatureIndex, made: Made, pool: str) -> None:
    positive = [f"{text} {n}" for n, text in enumerate(SEA * 4)]
    negative = [f"{text} {n}" for n, text in enumerate(LAW * 6)]
    how: dict[str, Any] = {"negative": negative, "pool": pool, "shuffles": 199, "limit": D_DICT}
    found = index.separate(made.model, positive, **how)
    rows = [activations(made, index, text) for text in (*positive, *negative)]
    values = np.stack([row.max(0) if pool == "max" else row.mean(0) for row in rows]).astype(np.float64)
    active = np.flatnonzero(values.max(0))
    assert found.n_tested == len(active)
    expected = dict(zip(active.tolist(), auc(values[:, active], n_positive=len(positive)), strict=True))
    assert {hit.feature: hit.auc for hit in found.hits} == pytest.approx(expected, abs=0.02)
    assert found.hits[0].p == 1 / 200, "texts this different are told apart"
    assert found.n_significant == sum(hit.p <= 0.05 for hit in found.hits)
    assert all(hit.low <= hit.auc <= hit.high and hit.high - hit.low > 0.1 for hit in found.hits), "no certainty from 24 texts"
    assert found == index.separate(made.model, positive, **how), "seeded"
    other = index.separate(made.model, positive, **how, seed=1)
    assert [hit.auc for hit in other.hits] == [hit.auc for hit in found.hits]


def test_the_answers_have_a_json_form(index: FeatureIndex, made: Made) -> None:
    answers: list[Any] = [
        index.test_all(made.model, 3, texts=["hello 🦜"]),
        index.by_prompts(made.model, ["hello 🦜"]),
        index.by_token(" the"),
        index.separate(made.model, SEA, negative=LAW, shuffles=19),
    ]
    for answer in answers:
        assert to_dict(answer)


def test_what_cannot_be_asked_is_said(index: FeatureIndex, made: Made) -> None:
    with pytest.raises(QueryInvalid, match="prompt 2 is empty"):
        index.test_all(made.model, 3, texts=["a", ""])
    with pytest.raises(QueryInvalid, match="no prompt"):
        index.test_all(made.model, 3, texts=[])
    with pytest.raises(FeatureNotFound):
        index.test_all(made.model, D_DICT, texts=["a"])
    with pytest.raises(QueryInvalid, match="no positive prompt"):
        index.by_prompts(made.model, [], negative=["a"])
    with pytest.raises(QueryInvalid, match="one positive prompt at least"):
        index.by_prompts(made.model, ["a"], misses=1)
    with pytest.raises(QueryInvalid, match='no rank "maks"'):
        index.by_prompts(made.model, ["a"], rank="maks")
    with pytest.raises(QueryInvalid, match="is a share"):
        index.by_prompts(made.model, ["a"], allow=-0.1)
    with pytest.raises(QueryInvalid, match="too few texts"):
        index.separate(made.model, ["a", "b"], negative=["c"])
    with pytest.raises(QueryInvalid, match='no "median"'):
        index.separate(made.model, SEA, negative=LAW, pool="median")
    with pytest.raises(QueryInvalid, match="too few shuffles"):
        index.separate(made.model, SEA, negative=LAW, shuffles=9)
