"""A split pair and an absorbed feature that were planted are suspected; look-alikes and shuffled controls are not."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch

from microtome.features import FeatureIndex
from microtome.shapes import Tensor
from tests.features.planted import planted
from tests.features.small_store import Made

LEFT, RIGHT, PARENT, CHILD, BIG, SMALL, SAME, OTHER = range(8)
F = 16


class Planted(NamedTuple):
    """The activations and the directions."""

    dense: npt.NDArray[np.float32]
    encoders: Tensor
    decoders: Tensor


@pytest.fixture(scope="module")
def truth(made: Made, index: FeatureIndex) -> Planted:
    """`LEFT` and `RIGHT` share a word by document; `CHILD` fires on a word of `PARENT`'s, which is silent there. `BIG` and `SMALL` look alike in
    encoder and decoder and never fire together; `SAME` and `OTHER` share a word, but not a direction."""
    tokens, keep = np.asarray(made.corpus.tokens), index.store.postings.keep()
    docs = made.corpus.doc_of(np.arange(len(tokens)))
    common = np.argsort(-np.bincount(tokens[keep]), kind="stable")[:12]
    draw = np.random.default_rng(0)
    fires = np.zeros((len(tokens), F), bool)
    word = [tokens == token for token in common]
    fires[:, LEFT], fires[:, RIGHT] = word[0] & (docs % 2 == 0), word[0] & (docs % 2 == 1)
    fires[:, PARENT], fires[:, CHILD] = word[1] | word[2] | word[3], word[4]
    fires[:, BIG], fires[:, SMALL] = word[5] | word[6] | word[7], word[8]
    fires[:, SAME], fires[:, OTHER] = word[9] & (docs % 2 == 0), word[9] & (docs % 2 == 1)
    fires[:, 8:] = draw.random((len(tokens), F - 8)) < 0.05
    dense = (fires * draw.uniform(1.0, 1.5, fires.shape)).astype(np.float32)
    basis = torch.linalg.qr(torch.randn(made.model.d_model, made.model.d_model, generator=torch.Generator().manual_seed(0)))[0]
    encoders, decoders = basis[:F].clone(), basis[:F].clone()
    decoders[LEFT], decoders[RIGHT] = basis[LEFT] + 0.3 * basis[20], basis[LEFT] + 0.3 * basis[21]
    decoders[PARENT], decoders[CHILD] = basis[PARENT], basis[PARENT] + basis[CHILD]
    encoders[PARENT], encoders[CHILD] = basis[PARENT] - basis[CHILD], basis[CHILD]
    decoders[SMALL] = encoders[SMALL] = basis[BIG] + basis[SMALL]
    return Planted(dense, encoders, decoders)


def _suspected(index: FeatureIndex) -> dict[int, list[tuple[str, int]]]:
    return {feature: [(each.kind, each.feature) for each in index.suspects(feature)] for feature in range(F)}


def test_the_planted_pairs_are_found_and_nothing_else(made: Made, index: FeatureIndex, truth: Planted) -> None:
    found = planted(made, index, truth.dense, encoders=truth.encoders, decoders=truth.decoders, name="planted")
    wanted = {LEFT: [("split", RIGHT)], RIGHT: [("split", LEFT)], PARENT: [("absorbs", CHILD)], CHILD: [("absorbed by", PARENT)]}
    assert _suspected(found) == {feature: wanted.get(feature, []) for feature in range(F)}
    (half,) = found.suspects(LEFT)
    words = np.asarray(made.corpus.tokens)[found.store.postings.keep()]
    n = [int(found.store.rows.numbers["count"][each]) for each in (LEFT, RIGHT)]
    total = int((words == np.bincount(words).argmax()).sum())
    assert (half.together, half.expected) == (0, pytest.approx(n[0] * n[1] / total))
    (child,) = found.suspects(PARENT)
    mean = found.store.rows.numbers["mean"]
    assert child.strength == pytest.approx(mean[CHILD] / mean[PARENT], rel=1e-3)
    assert (child.decoder, child.encoder) == (pytest.approx(0.5**0.5, abs=1e-4), pytest.approx(-(0.5**0.5), abs=1e-4))


def test_directions_and_firings_dealt_out_anew_are_not_suspected(made: Made, index: FeatureIndex, truth: Planted) -> None:
    """Splitting needs both; directions that are all different leave no suspicion at all."""
    turn = np.roll(np.arange(F), 3)
    turned = planted(made, index, truth.dense, encoders=truth.encoders[turn], decoders=truth.decoders[turn], name="turned")
    assert not _splits(turned)
    draw = np.random.default_rng(1)
    kept = np.flatnonzero(index.store.postings.keep())
    moved = truth.dense.copy()
    for feature in range(F):
        moved[kept, feature] = moved[draw.permutation(kept), feature]
    assert not _splits(planted(made, index, moved, encoders=truth.encoders, decoders=truth.decoders, name="moved"))
    basis = torch.linalg.qr(torch.randn(made.model.d_model, made.model.d_model, generator=torch.Generator().manual_seed(5)))[0][:F]
    assert not any(_suspected(planted(made, index, truth.dense, encoders=basis, decoders=basis, name="apart")).values())


def _splits(index: FeatureIndex) -> list[int]:
    return [feature for feature, found in _suspected(index).items() if any(kind == "split" for kind, _ in found)]
