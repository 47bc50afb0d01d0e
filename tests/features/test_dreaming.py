"""Dreaming, against brute force over every prompt of a small vocabulary, with a trigram detector planted in a tiny model."""

import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from microtome.errors import ArtifactMissing, ConfigError, QueryInvalid
from microtome.features import FeatureIndex
from microtome.features.components import Component
from microtome.features.dreaming import Dream, DreamConfig, direction_target, downstream_target, dream, feature_target, read_dream
from microtome.features.dreaming import dreams as module
from microtome.features.dreaming.front import Point, best_within, front, hypervolume
from microtome.features.dreaming.judge import Judge
from microtome.features.probe import lead
from microtome.models import Site
from tests.features.small_store import D_DICT, Made

WHERE = Site("resid_post", 2)
PLANTED = (" hello", " world", " that")
WORDS = (*PLANTED, " the", " and", " in", " on", " of", " for", " to", " is", " user", " system", " assistant")
CONFIG = DreamConfig(length=3, population=6, children=6, iterations=25, top_k=4, restart_every=10, penalty_low=0.003, penalty_high=0.3)


def ids(made: Made) -> list[int]:
    """The words that are one token, so that any of them after another is text."""
    return sorted(tokens[0] for tokens in map(made.model.tokenizer.encode, WORDS) if len(tokens) == 1)


@pytest.fixture(scope="module")
def detector(made: Made, index: FeatureIndex) -> Component:
    """A direction along which the planted trigram is further out than any other: a least-squares fit to the number of tokens at their places,
    then steps of a perceptron until nothing else is ahead."""
    planted = [made.model.tokenizer.encode(word)[0] for word in PLANTED]
    prompts = torch.tensor([[index.store.facts["break"][0], *prompt] for prompt in product(ids(made), repeat=3)])
    x = made.model.capture(prompts, [WHERE])[WHERE][:, -1].double()
    wanted = (prompts[:, 1:] == torch.tensor(planted)).double().sum(1)
    gram = x.T @ x + 1e-6 * torch.eye(x.shape[1], dtype=torch.float64)
    vector, goal = torch.linalg.solve(gram, x.T @ wanted), int(wanted.argmax())
    for _ in range(5000):
        ahead = int((x @ vector).argmax())
        if ahead == goal:
            break
        vector += 0.01 * vector.norm() * (x[goal] - x[ahead]) / (x[goal] - x[ahead]).norm()
    return index.component(WHERE, vector.float(), source=made.model, name="trigram")


@pytest.fixture(scope="module")
def everything(made: Made, index: FeatureIndex, detector: Component) -> tuple[Point, ...]:
    """Every prompt of three tokens of the small vocabulary, judged: activation by hand, cross-entropy from `Model.loss`."""
    prompts = list(product(ids(made), repeat=3))
    tokens = torch.tensor([[index.store.facts["break"][0], *prompt] for prompt in prompts])
    share = (made.model.capture(tokens, [WHERE])[WHERE][:, -1] @ detector.vector).clamp_min(0) / float(detector.values.max())
    losses = made.model.loss(tokens).mean(1)
    return tuple(
        Point(tokens=prompt, share=float(a), cross_entropy=float(x), iteration=0) for prompt, a, x in zip(prompts, share, losses, strict=True)
    )


@pytest.fixture(scope="module")
def dreamt(made: Made, index: FeatureIndex, detector: Component) -> Dream:
    return dream(index, made.model, target=direction_target(detector), config=CONFIG, vocabulary=ids(made))


def test_the_planted_trigram_is_found_and_the_front_is_that_of_brute_force(made: Made, dreamt: Dream, everything: tuple[Point, ...]) -> None:
    best = max(everything, key=lambda point: point.share)
    assert made.model.tokenizer.text(best.tokens) == "".join(PLANTED), "the detector detects what was planted"
    assert dreamt.front[0].tokens == best.tokens
    assert dreamt.front[0].share == pytest.approx(best.share, rel=1e-4)
    assert dreamt.prompts < len(everything) / 2, "it tried fewer than brute force"
    worst = math.log(made.model.n_vocab)
    assert dreamt.hypervolumes[-1] > 0.8 * hypervolume(everything, worst=worst)
    known = {point.tokens: point for point in everything}
    for one in dreamt.front:
        assert (one.share, one.cross_entropy) == pytest.approx((known[one.tokens].share, known[one.tokens].cross_entropy), rel=1e-3, abs=1e-5)


def test_the_front_never_falls_back_and_is_a_front(dreamt: Dream) -> None:
    assert list(dreamt.hypervolumes) == sorted(dreamt.hypervolumes)
    assert len(dreamt.hypervolumes) == CONFIG.iterations == dreamt.iterations
    shares, fluency = [one.share for one in dreamt.front], [one.cross_entropy for one in dreamt.front]
    assert shares == sorted(shares, reverse=True)
    assert fluency == sorted(fluency, reverse=True)


def test_the_corpus_is_held_against_it_at_equal_cross_entropy(made: Made, index: FeatureIndex, *, detector: Component, dreamt: Dream) -> None:
    strongest = detector.positions[np.argsort(-detector.values, kind="stable")]
    texts: list[tuple[int, ...]] = []
    for position in strongest.tolist():
        docs = made.corpus.doc_of(np.array([max(0, position - 2), position]))
        text = tuple(made.corpus.tokens[position - 2 : position + 1].tolist())
        if position >= 2 and docs[0] == docs[1] and text not in texts:
            texts.append(text)
    texts = texts[: CONFIG.corpus_texts]
    assert dreamt.corpus_texts == len(texts)
    tokens = torch.tensor([[index.store.facts["break"][0], *text] for text in texts])
    share = (made.model.capture(tokens, [WHERE])[WHERE][:, -1] @ detector.vector).clamp_min(0) / float(detector.values.max())
    fluency = made.model.loss(tokens).mean(1)
    for one in dreamt.front:
        fluent = share[fluency <= one.cross_entropy]
        assert one.corpus_share == (None if not len(fluent) else pytest.approx(float(fluent.max()), rel=1e-3))


def test_the_slope_is_the_change_to_first_order(made: Made, index: FeatureIndex, detector: Component) -> None:
    """Against finite differences along the straight line between two tokens' embeddings, and the exact change of what is predicted."""
    usable = torch.tensor(ids(made))
    judge = Judge(model=made.model, target=direction_target(detector), lead=lead(index.store), usable=usable, at_last=True)
    prompt, penalty = tuple(usable[[3, 1, 4]].tolist()), 0.2
    slopes = judge.slopes([prompt], np.array([penalty]))[0]
    tokens = torch.tensor([[*judge.lead, *prompt]])
    embed = Site("embed", None)
    table = made.model.capture(usable[:, None], [embed])[embed][:, 0]

    def loss(place: int, other: int, step: float) -> float:
        def edit(x: torch.Tensor) -> torch.Tensor:
            moved = x.clone()
            moved[0, 1 + place] += step * (table[other] - x[0, 1 + place])
            return moved

        with made.model.tap(read=[WHERE], edit={embed: edit}) as seen:
            logits = made.model.logits(tokens)
        fluency = torch.nn.functional.cross_entropy(logits[0, :-1].double(), tokens[0, 1:])
        return float(penalty * fluency - seen[WHERE][0, -1].double() @ detector.vector.double() / judge.scale)

    surprise = -made.model.logits(tokens)[0].log_softmax(-1)
    for place, other in product(range(3), (0, 5, 9)):
        through_input = (loss(place, other, 1e-2) - loss(place, other, -1e-2)) / 2e-2
        own = (usable == prompt[place]).nonzero()[0, 0]
        as_target = penalty / 3 * float(surprise[place, usable[other]] - surprise[place, prompt[place]])
        assert float(slopes[place, other] - slopes[place, own]) == pytest.approx(through_input + as_target, rel=2e-2, abs=2e-4)


def test_a_feature_is_dreamt_of_and_the_activation_is_the_one_that_a_test_shows(made: Made, index: FeatureIndex) -> None:
    feature = max(range(D_DICT), key=lambda one: index.card(one).statistics.count)
    config = DreamConfig(length=4, population=3, children=3, iterations=4, top_k=32, start="corpus", at="any")
    found = dream(index, made.model, target=feature_target(index, feature), config=config)
    assert found.feature == feature
    assert found.store_max == pytest.approx(index.card(feature).statistics.max)
    assert found.front
    assert found.hypervolumes[0] > 0
    for one in found.front:
        tested = index.test(made.model, feature, text="".join(one.pieces))
        assert tested.tokens == one.tokens
        assert tested.max == pytest.approx(one.activation, rel=2e-3)


def test_what_a_feature_feeds_is_a_weighted_sum(made: Made, layers_index: FeatureIndex) -> None:
    feature = next(one for one in range(20) if layers_index.downstream(one).promotes)
    target = downstream_target(layers_index, feature, limit=3)
    promoted = layers_index.downstream(feature, limit=3).promotes
    assert sum(weight for _, weight in target.terms) == pytest.approx(1)
    assert {term for term, _ in target.terms} == {link.feature for link in promoted}
    text = "the ship was on the sea"
    tokens = torch.tensor([[*lead(layers_index.store), *made.model.tokenizer.encode(text)]])
    rows = {site: x[0, 1:] for site, x in made.model.capture(tokens, target.sites).items()}
    expected = sum(weight * np.array(layers_index.test(made.model, term, text=text).activations) for term, weight in target.terms)
    np.testing.assert_allclose(target.measure(rows).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_an_interrupted_dream_goes_on_as_it_would_have(
    made: Made, index: FeatureIndex, detector: Component, *, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DreamConfig(length=3, population=3, children=3, iterations=6, top_k=4, restart_every=4)
    whole = dream(index, made.model, target=direction_target(detector), config=config, vocabulary=ids(made), out=tmp_path / "whole")
    calls: list[int] = []
    real = module.advance

    def interrupted(*arguments: Any) -> None:
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(1)
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "advance", interrupted)
        with pytest.raises(KeyboardInterrupt):
            dream(index, made.model, target=direction_target(detector), config=config, vocabulary=ids(made), out=tmp_path / "cut")
    half = read_dream(tmp_path / "cut")
    assert (half.iterations, half.planned, half.hypervolumes) == (3, 6, whole.hypervolumes[:3])
    resumed = dream(index, made.model, target=direction_target(detector), config=config, vocabulary=ids(made), out=tmp_path / "cut")
    assert resumed == whole == read_dream(tmp_path / "cut")
    assert dream(index, made.model, target=direction_target(detector), config=config, vocabulary=ids(made), out=tmp_path / "whole") == whole


def test_fronts_and_their_area_by_hand() -> None:
    points = [
        Point(tokens=(i,), share=share, cross_entropy=x, iteration=0) for i, (share, x) in enumerate([(1, 6), (0.5, 3), (0.4, 4), (0, 1), (1, 7)])
    ]
    assert [point.tokens for point in front(points)] == [(0,), (1,)]
    assert hypervolume(points, worst=10) == pytest.approx(1 * 4 + 0.5 * 3)
    assert hypervolume(points, worst=5) == pytest.approx(0.5 * 2)
    assert (best_within(points, cross_entropy=5), best_within(points, cross_entropy=0.5)) == (0.5, None)


def test_what_cannot_be_dreamt_is_said(made: Made, index: FeatureIndex, *, detector: Component, tmp_path: Path) -> None:
    with pytest.raises(QueryInvalid, match="never fires"):
        feature_target(index, D_DICT - 1)
    with pytest.raises(QueryInvalid, match="needs tokens"):
        dream(index, made.model, target=direction_target(detector), vocabulary=[])
    with pytest.raises(ConfigError, match="iterations is too small"):
        DreamConfig(iterations=0)
    with pytest.raises(ConfigError, match="no range"):
        DreamConfig(penalty_low=2.0)
    with pytest.raises(ArtifactMissing, match="no dream"):
        read_dream(tmp_path / "nothing")
