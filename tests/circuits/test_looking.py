"""A score taken apart sums to the score, and scores are what the patterns were made of."""

import math

import numpy as np
import pytest
import torch
from circuits.sets import transcoders

from microtome.circuits import looking
from microtome.errors import ModelUnsupported, TargetInvalid
from microtome.models import TINY_FAMILIES, Frozen, tiny

TOKENS = [17, 44, 101, 60, 203, 44, 9]


@pytest.mark.parametrize("family", [family for family in TINY_FAMILIES if family != "gemma2"])
def test_parts_sum_to_the_score_and_two_scores_give_the_ratio_of_their_weights(family: str) -> None:
    model = tiny(family)
    found = looking(model, transcoders(model), TOKENS, layer=2, head=3, at=(6, 2), against=4)
    pattern = Frozen(model, torch.tensor(TOKENS)).pattern(2)[3, 6]
    assert found.score == pytest.approx(math.log(float(pattern[2] / pattern[4])), abs=1e-4)
    scale = max(float(np.abs(found.query).sum()), 1e-3)
    assert float(found.query.sum()) == pytest.approx(found.score, abs=1e-4 * scale)
    assert float(found.key.sum()) == pytest.approx(found.score, abs=1e-4 * scale)


def test_every_pair_is_listed_when_asked_and_they_sum_to_both_sides() -> None:
    model = tiny("qwen3")
    found = looking(model, transcoders(model, d_dict=6), TOKENS, layer=1, head=0, at=(3, 1), most=10**6)
    table = np.zeros((len(found.nodes), len(found.nodes)))
    for pair in found.pairs:
        table[pair.query, pair.key] = pair.weight
    assert np.allclose(table.sum(1), found.query, atol=1e-5)
    assert np.allclose(table.sum(0), found.key, atol=1e-5)
    few = looking(model, transcoders(model, d_dict=6), TOKENS, layer=1, head=0, at=(3, 1), most=5)
    assert np.allclose(sorted(np.abs(table).flatten())[-5:], sorted(abs(pair.weight) for pair in few.pairs), atol=1e-6)
    assert few.unlisted == pytest.approx(abs(few.pairs[-1].weight))
    sources = [pair.query for pair in found.pairs if pair.weight != 0]
    assert found.nodes.layer[sources][found.nodes.kind[sources] == 3].tolist().count(0) > 0
    assert not (found.nodes.layer[sources][found.nodes.kind[sources] == 3] >= 1).any()  # features of the layer come after its attention


def test_a_head_that_is_not_there_and_a_look_ahead_are_named() -> None:
    model = tiny("llama")
    for wrong in ({"layer": 9, "head": 0, "at": (3, 1)}, {"layer": 0, "head": 4, "at": (3, 1)}, {"layer": 0, "head": 0, "at": (3, 5)}):
        with pytest.raises(TargetInvalid):
            looking(model, transcoders(model), TOKENS, **wrong)  # type: ignore[arg-type]  # three shapes in one list


def test_capped_scores_are_refused_by_name() -> None:
    model = tiny("gemma2")
    with pytest.raises(ModelUnsupported, match="gemma2 cannot be taken apart"):
        looking(model, transcoders(model), TOKENS, layer=1, head=0, at=(3, 1))
