"""Odd features: each test finds what was planted for it, and nothing where nothing was."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.stats import spearmanr

from microtome.artifacts import Draft
from microtome.config import to_dict
from microtome.dictionaries import SAE, ReLU, save
from microtome.errors import ConfigError
from microtome.features import FeatureIndex, build_index
from microtome.features.odd import Odd, OddConfig, odd_report
from microtome.features.odd.categories import Tokens, alphabet, classes_of, first_component, pc1, token_categories
from microtome.features.text import Vocabulary
from tests.features.small_store import CONFIG, SITE, Made

UP, DOWN, TWIN, SHIFTED, ONE, RARE, SILENT, NOISE = range(8)


@pytest.fixture(scope="module")
def planted(made: Made) -> tuple[FeatureIndex, npt.NDArray[np.float32]]:
    """Two halves of the first principal component, a duplicate of one, a feature of one token, a rare one, a dead one, and its dense activations."""
    rows = torch.cat([made.shards.block(number, SITE).x.float() for number in range(len(made.shards.ranges))])
    keep = torch.cat([made.shards.block(number, SITE).keep for number in range(len(made.shards.ranges))])
    kept, d = rows[keep], rows.shape[1]
    draw = torch.Generator().manual_seed(5)
    axis = torch.from_numpy(first_component(kept.numpy())).float()
    middle = float((kept @ axis).median())
    is_the = torch.from_numpy(made.corpus.tokens.astype(np.int64))[keep] == made.model.tokenizer.encode(" the")[0]
    centred = torch.cat([kept, torch.ones(len(kept), 1)], 1).double()
    fit = torch.linalg.lstsq(centred, is_the[:, None].double()).solution[:, 0].float()
    others = (kept @ fit[:d])[~is_the].max()
    noise = torch.randn(d, generator=draw)
    along = torch.sort(kept @ noise, descending=True).values
    W, b = torch.zeros(8, d), torch.zeros(8)
    W[UP], b[UP] = axis, -middle
    W[DOWN], b[DOWN] = -axis, middle
    W[TWIN], b[TWIN] = 1.1 * axis, -1.1 * middle
    W[SHIFTED], b[SHIFTED] = axis + 0.9 * noise / noise.norm(), -1e3
    W[ONE], b[ONE] = fit[:d], -float(others) - 1e-3
    W[RARE], b[RARE] = noise, -float(along[4])
    W[SILENT], b[SILENT] = torch.randn(d, generator=draw), -1e3
    W[NOISE], b[NOISE] = torch.randn(d, generator=draw), 0.0
    decoder = torch.nn.functional.normalize(W, dim=1)
    sae = SAE(site=SITE, nonlinearity=ReLU(), weights={"W_enc": W, "W_dec": decoder, "b_enc": b, "b_dec": torch.zeros(d)}, input_scale=1.0)
    place = made.workspace.place("dictionary", "odd")
    with Draft.open(place, "dictionary", config={}, inputs={"shards": made.shards.id}) as draft:
        save(sae, draft)
        draft.finish()
    out = made.workspace.place("index", "odd")
    index = build_index(place, made.shards, corpus=made.corpus, model=made.model, out=out, config=CONFIG)
    return index, ((rows @ W.T + b).clamp_min(0) * keep[:, None]).half().float().numpy()


@pytest.fixture(scope="module")
def report(planted: tuple[FeatureIndex, npt.NDArray[np.float32]]) -> Odd:
    return odd_report(planted[0])


def test_two_halves_of_a_line_are_found_and_never_fire_together(report: Odd) -> None:
    dense = {each.feature: each for each in report.dense}
    up, down = dense[UP].antipode, dense[DOWN].antipode
    assert up is not None
    assert down is not None
    assert (up.feature, down.feature in (UP, TWIN)) == (DOWN, True)
    assert up.score == pytest.approx(1, abs=1e-3)
    assert (up.encoder_cosine, up.decoder_cosine) == (pytest.approx(-1, abs=1e-3), pytest.approx(-1, abs=1e-3))
    assert up.cofire == 0
    assert {"antipodal", "PC1"} <= set(dense[UP].explained)


def test_a_duplicate_is_no_antipode(report: Odd, planted: tuple[FeatureIndex, npt.NDArray[np.float32]]) -> None:
    """Its product of cosines is 1 too; both are positive."""
    assert [(pair.feature, pair.other) for pair in report.duplicates] == [(UP, TWIN)]
    pair, active = report.duplicates[0], planted[1] > 0
    assert pair.decoder_cosine == pytest.approx(1, abs=1e-3)
    assert pair.encoder_cosine == pytest.approx(1, abs=1e-3)
    assert pair.jaccard == pytest.approx((active[:, UP] & active[:, TWIN]).sum() / (active[:, UP] | active[:, TWIN]).sum())


def test_lists_hold_what_the_activations_say(report: Odd, planted: tuple[FeatureIndex, npt.NDArray[np.float32]]) -> None:
    index, full = planted
    count, kept = (full > 0).sum(0), index.store.facts["kept"]
    assert set(report.dead) == set(np.flatnonzero(count == 0).tolist()) >= {SILENT, SHIFTED}
    assert {each.feature: each.count for each in report.rare} == {f: count[f] for f in np.flatnonzero((count > 0) & (count < 10))}
    assert RARE in {each.feature for each in report.rare}
    assert [(each.feature, each.token) for each in report.one_token] == [(ONE, " the")]
    assert [each.feature for each in report.dense] == sorted(np.flatnonzero(count / kept > 0.1), key=lambda f: -count[f])
    assert report.counts["dense"] == len(report.dense)
    assert (report.counts["dead"], report.counts["one_token"], report.counts["duplicates"]) == (len(report.dead), 1, 1)


def test_a_random_direction_is_dense_without_an_antipode_that_counts(report: Odd) -> None:
    noise = next(each for each in report.dense if each.feature == NOISE)
    assert "antipodal" not in noise.explained
    assert noise.antipode is None or noise.antipode.score < 0.5


def test_the_report_has_a_json_form_and_its_lists_a_limit(planted: tuple[FeatureIndex, npt.NDArray[np.float32]]) -> None:
    short = odd_report(planted[0], config=OddConfig(limit=1))
    assert (len(short.dense), len(short.dead)) == (1, 1)
    assert short.counts["dead"] >= 2
    assert to_dict(short)
    with pytest.raises(ConfigError, match="not a density"):
        OddConfig(dense=0.0)


@pytest.fixture
def made_up() -> Tokens:
    """A thousand tokens with a class each, drawn at random."""
    draw = np.random.default_rng(0)
    kind = draw.integers(0, 4, 1000)
    classes = {name: kind == number for number, name in enumerate(("newline", "punctuation", "content word"))}
    return Tokens(positions=np.arange(1000), offset=np.tile(np.arange(100), 10), classes=classes)


@pytest.mark.parametrize("name", ["newline", "punctuation", "content word"])
def test_a_class_that_drives_a_feature_is_named_alone(made_up: Tokens, name: str) -> None:
    values = np.random.default_rng(1).random(1000) + 0.8 * made_up.classes[name]
    assert [each.name for each in token_categories(values, made_up) if each.holds] == [name]
    silence = np.random.default_rng(1).random(1000) * ~made_up.classes[name]
    assert [each.name for each in token_categories(silence, made_up) if each.holds] == [name], "silence marks them"


def test_position_is_a_rank_correlation(made_up: Tokens) -> None:
    noise = np.random.default_rng(2).random(1000)
    late, free = np.exp(made_up.offset / 50) + noise, noise
    found = {each.name: each for each in token_categories(late, made_up)}
    assert found["position"].holds
    expected: Any = spearmanr(late, made_up.offset)
    assert found["position"].value == pytest.approx(abs(expected.statistic))
    assert not any(each.holds for each in token_categories(free, made_up))


def test_classes_are_read_off_the_text() -> None:
    texts = [" the", " ship", "ing", ".", '?"', ",", "\n", "\n\n", " 12", "É", " Čapek", " ", "a."]
    entries = [text.encode() for text in texts]
    vocabulary = Vocabulary.of(lambda token: entries[token], n_vocab=len(entries))
    found = {name: [texts[i] for i in np.flatnonzero(truth)] for name, truth in classes_of(vocabulary, np.arange(len(texts))).items()}
    assert found["newline"] == ["\n", "\n\n"]
    assert found["punctuation"] == [".", '?"', ","]
    assert found["content word"] == [" ship", "ing", " Čapek"]
    assert found["sentence end"] == [".", '?"', "a."]


def test_alphabet_and_first_component() -> None:
    found = alphabet([" red", " Run", "rat", " 7"])
    assert found is not None
    assert (found.value, found.holds) == (0.75, False)
    assert alphabet(["1", "."]) is None
    draw = np.random.default_rng(0)
    axis = np.array([3.0, 4.0, 0.0]) / 5
    rows = 10 * draw.normal(size=(500, 1)) * axis + draw.normal(size=(500, 3)) + 7
    component = first_component(rows)
    assert pc1(-2 * axis, component).value == pytest.approx(1, abs=0.01)
    assert pc1(np.array([0.0, 0.0, 1.0]), component).value < 0.1
