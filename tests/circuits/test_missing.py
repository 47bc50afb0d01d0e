import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from circuits.made import graph_of

from microtome.circuits import Graph
from microtome.circuits.graph import EMBEDDING, TARGET
from microtome.circuits.missing import SwapConfig, missing_edges
from microtome.config import canonical_json
from microtome.errors import GraphInvalid
from microtome.models import Model, tiny

N = 61
REACH = 45
"""A tiny Mistral has 3 layers with a window of 16 tokens: what stands more than 3 × 15 tokens before the target cannot reach it."""


def graph_that_says(model: Model, influence: list[float]) -> Graph:
    """A graph in which each token feeds the likeliest next token directly, that much."""
    known = sorted(model.tokenizer.text_ids)
    picks = torch.randint(len(known), (N,), generator=torch.Generator().manual_seed(0)).tolist()
    tokens = tuple(known[i] for i in picks)
    best = int(model.logits(torch.tensor([tokens]))[0, -1].argmax())
    matrix = np.zeros((N + 1, N + 1))
    matrix[N, :N] = influence
    graph = graph_of(
        matrix,
        kind=[EMBEDDING] * N + [TARGET],
        layer=[-1] * N + [3],
        position=[*range(N), N - 1],
        feature=[*tokens, best],
        rows=[N],
        target_weight=[1.0],
        pieces=tuple(model.tokenizer.decode_pieces(list(tokens))),
        tokens=tokens,
    )
    return replace(graph, model_fingerprint=model.fingerprint)


def test_tokens_out_of_reach_do_not_matter_and_a_graph_that_says_otherwise_is_found_out():
    model = tiny("mistral")
    far = N - 1 - REACH
    truth = [0.001 * position if position < far else 1.0 + position for position in range(N)]
    share = SwapConfig(swaps=3, share=(far - 1) / (N - 2))
    right = missing_edges(model, graph_that_says(model, truth), config=share)
    assert right.unimportant == tuple(range(1, far))
    for position in right.positions:
        assert (position.mean_kl == 0) is (position.position < far)
    ratio = right.result("ratio")
    assert ratio is not None
    assert ratio.value == 0
    assert right.suspects() == ()
    ranks = right.result("ranks")
    assert ranks is not None
    assert ranks.value > ranks.baselines["shuffled, high"]
    wrong = missing_edges(model, graph_that_says(model, truth[::-1]), config=share)
    ranks = wrong.result("ranks")
    assert ranks is not None
    assert ranks.value < ranks.baselines["shuffled, low"]
    assert {each.position for each in wrong.suspects()} == set(range(N - far, N - 1)) - {N - 1}
    assert wrong.result("ratio") is None  # nothing that should matter does: there is no ratio


def test_swaps_keep_length_and_sort_and_measure_the_model():
    model = tiny("mistral")
    graph = graph_that_says(model, [1.0 + position for position in range(N)])
    found = missing_edges(model, graph, config=SwapConfig(swaps=2, ends=True, seed=4))
    assert [each.position for each in found.positions] == list(range(N))
    worst = max(found.positions, key=lambda each: max(each.kl))
    swap = int(np.argmax(worst.kl))
    other = next(i for i in sorted(model.tokenizer.text_ids) if model.tokenizer.piece(i) == worst.swapped_for[swap])
    rows = torch.tensor([graph.tokens, (*graph.tokens[: worst.position], other, *graph.tokens[worst.position + 1 :])])
    before, after = model.logits(rows)[:, -1].double().log_softmax(-1)
    assert worst.kl[swap] == pytest.approx(float((before.exp() * (before - after)).sum()), rel=1e-3)
    moved = after - before
    token = int(graph.nodes.feature[-1])
    assert worst.change[swap] == pytest.approx(float(moved[token] - moved.mean()), rel=1e-3, abs=1e-5)
    assert json.loads(canonical_json(found.to_json()))["suspects"] == [each.position for each in found.suspects()]
    assert missing_edges(model, graph, config=SwapConfig(swaps=2, ends=True, seed=4)) == found


def test_swaps_refuse_what_cannot_be_compared():
    model = tiny("mistral")
    graph = graph_that_says(model, [1.0] * N)
    with pytest.raises(GraphInvalid, match="another model"):
        missing_edges(tiny("mistral", seed=1), graph)
    with pytest.raises(GraphInvalid, match="logit"):
        missing_edges(model, graph, target=0)
