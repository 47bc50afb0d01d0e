"""Rule labels: exact F1 by brute force, planted rules found, honest when none fits."""

import re

import numpy as np
import numpy.typing as npt
import pytest

from microtome.features import FeatureIndex, RuleLabel
from microtome.features.blocks import Block
from microtome.features.context import Context, surroundings
from microtome.features.postings import Firings
from microtome.features.rules import CLASSES, WEAK, class_of, rulebook
from microtome.features.text import Vocabulary
from tests.features.small_store import CONFIG, D_DICT, Made

PIECES = [" the", "The", " city", " Olympic", " Games", ",", " of", " 1912", "\n", " run", "ning", " Paris"]


def _store(n_docs: int = 60, length: int = 40) -> Context:
    """Random tokens; "Olympic" is followed by "Games" or something else."""
    draw = np.random.default_rng(0)
    tokens = draw.integers(0, len(PIECES), size=n_docs * length)
    doc = np.repeat(np.arange(n_docs), length)
    return Context(
        tokens=tokens,
        keep=np.ones(len(tokens), dtype=bool),
        doc=doc,
        offset=np.tile(np.arange(length), n_docs).astype(np.int32),
        split=(doc % 3).astype(np.int8),
        role=np.zeros(len(tokens), dtype=np.int8),
        label=(doc % 4).astype(np.int32),
        surroundings=surroundings(tokens, doc),
        roles=("text",),
        labels=("Art", "Biology", "Law", "War"),
        n_docs=n_docs,
    )


def _label(context: Context, fires: npt.NDArray[np.bool_]) -> RuleLabel:
    vocabulary = Vocabulary.of(lambda token: PIECES[token].encode(), n_vocab=len(PIECES))
    positions = np.flatnonzero(fires)
    book = rulebook(context, vocabulary, fire_share=0.1)
    return book.labels(Block.of(Firings(positions=positions, values=np.ones(len(positions), dtype=np.float32))))[0]


def test_part_of_a_character_is_a_token_and_no_word() -> None:
    store, part = _store(), PIECES.index(" Paris")
    vocabulary = Vocabulary.of(lambda token: b"\xe2\x80" if token == part else PIECES[token].encode(), n_vocab=len(PIECES))
    fires = np.flatnonzero(store.tokens == part)
    book = rulebook(store, vocabulary, fire_share=0.1)
    (label,) = book.labels(Block.of(Firings(positions=fires, values=np.ones(len(fires), dtype=np.float32))))
    assert label.text == 'the token "<0xE2><0x80>"'


def _is(context: Context, piece: str) -> npt.NDArray[np.bool_]:
    return context.tokens == PIECES.index(piece)


def _follows(context: Context, piece: str) -> npt.NDArray[np.bool_]:
    return np.concatenate([[False], _is(context, piece)[:-1]]) & (context.offset > 0)


def test_planted_rules_are_found_and_named() -> None:
    store = _store()
    planted = {
        'the token " city"': _is(store, " city"),
        'the tokens "," and " city"': _is(store, " city") | _is(store, ","),
        'the word "the", however written': _is(store, " the") | _is(store, "The"),
        'what follows " of"': _follows(store, " of"),
        '" Olympic" + " Games"': _is(store, " Games") & _follows(store, " Olympic"),
        "text about Biology": store.label == 1,
        "the start of a text (its first 4 tokens)": store.offset < 4,
        "capitalised words": _is(store, " Olympic") | _is(store, " Games") | _is(store, " Paris"),
    }
    for text, fires in planted.items():
        label = _label(store, fires)
        assert (label.f1, label.precision, label.recall, label.f1_test) == (1, 1, 1, 1), text
        if text == "capitalised words":
            assert label.kind in ("class", "token")
        elif text.startswith("the word"):
            assert label.kind in ("word", "token")
        else:
            assert label.text == text
        assert not label.weak


def test_noise_gets_an_honest_weak_label_near_its_null() -> None:
    store = _store()
    label = _label(store, np.random.default_rng(1).random(len(store.tokens)) < 0.02)
    assert label.weak
    assert label.f1 < WEAK
    assert re.fullmatch(rf"often .+ \(weak rule, F1 {label.f1:.2f}\)", label.text)
    assert label.f1_test is not None
    assert label.f1_test == pytest.approx(label.f1_null, abs=0.06)


def test_a_feature_without_firings_never_fires() -> None:
    label = _label(_store(), np.zeros(60 * 40, dtype=bool))
    assert (label.text, label.kind, label.f1, label.f1_test, label.weak) == ("never fires", "dead", 0.0, None, False)


def test_a_feature_unseen_in_test_documents_has_no_test_f1() -> None:
    store = _store()
    assert _label(store, _is(store, " city") & (store.split != 2)).f1_test is None


def test_a_rule_picked_on_the_test_documents_has_no_test_f1() -> None:
    store = _store()
    label = _label(store, _is(store, " city") & (store.split == 2))
    assert label.f1 > 0, "it has a rule, picked on all documents"
    assert label.f1_test is None, "no document is left to test it on"


def test_f1_of_token_rules_equals_brute_force(index: FeatureIndex, dense: npt.NDArray[np.float32], made: Made) -> None:
    tokens, keep = made.corpus.tokens, made.shards.keep
    splits = made.corpus.splits[made.corpus.doc_of(np.arange(made.corpus.n_tokens))]
    names = {index.store.vocabulary.piece(token): token for token in range(len(index.store.vocabulary))}
    checked = 0
    for feature in range(D_DICT - 2):
        rule = index.card(feature).rule
        if rule.kind != "token" or rule.weak or "\\" in rule.text:
            continue
        ids = [names[piece] for piece in re.findall(r'"([^"]*)"', rule.text)]
        seen = dense[splits == 0, feature]
        threshold = CONFIG.fire_share * np.quantile(seen[seen > 0], 0.99, method="lower")
        assert rule.threshold == pytest.approx(threshold)
        fires = dense[:, feature] > threshold
        holds = np.isin(tokens, ids) & keep
        for group, found in ((np.ones_like(keep), rule.f1), (splits == 2, rule.f1_test)):
            hits = (fires & holds & group).sum()
            assert found == pytest.approx(2 * hits / ((fires & group).sum() + (holds & group).sum()))
        assert rule.precision == pytest.approx((fires & holds).sum() / holds.sum())
        assert rule.recall == pytest.approx((fires & holds).sum() / fires.sum())
        checked += 1
    assert checked > 10


def test_the_null_is_the_mean_over_shuffles() -> None:
    store = _store()
    fires = _is(store, " city") & (store.label < 2)
    label = _label(store, fires)
    test = np.flatnonzero(store.split == 2)
    holds, n_fires = _is(store, " city")[test], int(fires[test].sum())
    draw = np.random.default_rng(0)
    shuffled = [2 * holds[draw.permutation(len(test))[:n_fires]].sum() / (holds.sum() + n_fires) for _ in range(4000)]
    assert label.text == 'the token " city"'
    assert label.f1_null == pytest.approx(np.mean(shuffled), abs=0.005)


@pytest.mark.parametrize(
    ("piece", "name"),
    [
        ("\n\n", "line breaks"),
        (" 1912", "years"),
        ("7", "numbers"),
        (" (", "opening brackets and quotes"),
        (").", "closing brackets and quotes"),
        (",", "commas"),
        ("?!", "ends of sentences"),
        (" —", "other punctuation"),
        (" NATO", "words in capitals"),
        (" Paris", "capitalised words"),
        ("ning", "pieces inside words"),
        (" run", "lowercase words"),
        ("日本", "text in other alphabets"),
    ],
)
def test_classes_of_tokens(piece: str, name: str) -> None:
    assert CLASSES[class_of(piece)][0] == name
