"""A model that was trained here, in seconds, to add modulo 5: its MLPs are taken as they are, neuron by neuron, and ablation confirms the graph.

GPT-2 with ReLU: an MLP is exactly a transcoder (W_in, ReLU, W_out), so that nothing is left to errors and every wrong prediction is the graph's own,
by what it holds: attention, norms and which neurons are active. It is trained in fp64, so that rounding cannot lead to another model.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from microtome.circuits import (
    Graph,
    LogitDifference,
    Patching,
    influence,
    interventions,
    node_name,
    patch,
    scores,
    trace,
)
from microtome.dictionaries import DictionarySet, ReLU, Transcoder
from microtome.models import Model, Site, tiny_tokenizer
from microtome.steering import Row, times_current

P, FIRST, EQUALS, STEPS, NAMED = 5, 40, 60, 500, 10
"""Numbers are the tokens from FIRST on; a prompt is `a b =`."""


@cache
def trained() -> tuple[Model, DictionarySet]:
    """The model, which answers every sum, and its MLPs as transcoders."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config: Any = CONFIG_MAPPING["gpt2"]
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 16, "vocab_size": 384, "bos_token_id": 0, "eos_token_id": 0}
        hf = AutoModelForCausalLM.from_config(config(activation_function="relu", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **sizes)).double()
        pairs, answers = sums()
        optimiser = torch.optim.Adam(hf.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.02, STEPS)
        for _ in range(STEPS):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(hf(pairs).logits[:, -1], answers).backward()
            optimiser.step()
            schedule.step()
    model = Model(hf.float().eval().requires_grad_(False), tiny_tokenizer(), ref="sums modulo 5")
    members: list[Transcoder] = []
    for layer, block in enumerate(hf.transformer.h):
        inside, outside = block.mlp.c_fc, block.mlp.c_proj
        weights = {"W_enc": inside.weight.T, "b_enc": inside.bias, "W_dec": outside.weight, "b_dec": outside.bias}
        weights = {name: weight.detach().clone().contiguous() for name, weight in weights.items()}
        members.append(Transcoder(reads=Site("mlp_in", layer), writes=(Site("mlp_out", layer),), nonlinearity=ReLU(), weights=weights))
    return model, DictionarySet(tuple(members))


def sums() -> tuple[torch.Tensor, torch.Tensor]:
    a, b = torch.meshgrid(torch.arange(P), torch.arange(P), indexing="ij")
    pairs = torch.stack([FIRST + a.flatten(), FIRST + b.flatten(), torch.full((P * P,), EQUALS)], 1)
    return pairs, FIRST + (a + b).flatten() % P


def graph_of(a: int, b: int) -> Graph:
    """Why the right sum rather than the next one."""
    model, given = trained()
    right = (a + b) % P
    return trace(model, given, [FIRST + a, FIRST + b, EQUALS], target=LogitDifference(token=FIRST + right, against=FIRST + (right + 1) % P))


def test_the_model_has_learnt_and_nothing_is_left_to_errors() -> None:
    model, _ = trained()
    pairs, answers = sums()
    assert (model.logits(pairs)[:, -1].argmax(-1) == answers).all()
    graph = graph_of(3, 5)
    assert graph.balance() < 1e-4
    errors = set(graph.nodes.where("error").tolist())
    weights = np.abs(graph.edges.weight[[source in errors for source in graph.edges.source.tolist()]])
    assert float(weights.max(initial=0)) < 1e-4 * float(np.abs(graph.edges.weight).max())
    assert scores(graph).completeness > 0.99


def test_ablating_what_the_graph_names_costs_the_answer_and_as_many_others_do_not() -> None:
    """How far the right answer falls against the next one when the ten features with most influence are set to 0, and ten active ones of the rest."""
    named: list[float] = []
    others: list[list[float]] = []
    for a, b in [(one, other % P) for one in range(P) for other in (one, one + 2)]:
        graph = graph_of(a, b)
        features = graph.nodes.where("feature")
        order = features[np.argsort(-influence(graph).nodes[features], kind="stable")]
        draw = np.random.default_rng(0)
        named.append(fallen(graph, order[:NAMED]))
        others.append([fallen(graph, draw.permutation(order[NAMED:])[:NAMED]) for _ in range(3)])
    assert np.mean(named) > 3 * np.abs(np.mean(others, axis=0)).max()
    assert np.mean(named) > 1


def fallen(graph: Graph, nodes: npt.NDArray[np.int64]) -> float:
    """How much less the right answer is ahead of the next one, in logits, when these features are 0 and everything after them is live."""
    model, given = trained()
    right = (graph.tokens[0] + graph.tokens[1] - 2 * FIRST) % P
    group = interventions([node_name(graph, int(node)) for node in nodes], times_current(0), operation="multiply")
    found = patch(model, given, prompt=Row(tokens=graph.tokens), groups=[group], patching=Patching(attention="live"))
    change = found.change()[0, 0]
    return -float(change[FIRST + right] - change[FIRST + (right + 1) % P])
