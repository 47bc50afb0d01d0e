"""Models whose circuit is known because their weights were written by hand: the graph must find the circuit, and nothing strong beside it.

Every model is a tiny Llama with one attention head. What a token is stands in its own coordinate of the stream; one constant coordinate dominates
the norm, so that norms change little; MLPs are off and transcoders write what the circuit says, so that errors are what is left.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from microtome.circuits import Graph, LogitDifference, Logits, Target, TraceConfig, trace
from microtome.dictionaries import DictionarySet, ReLU, Transcoder
from microtome.models import Model, Site, tiny_tokenizer

D, N_LAYERS, N_VOCAB = 64, 3, 384
CONSTANT, FEATURES, OUT = 0, 32, 48
"""Coordinates: tokens 1 to 31 are 1 to 31, what features write begins at 32, what is unembedded at 48."""
BIG = 40.0
"""The constant coordinate: norms are then nearly the same everywhere."""


@dataclass(frozen=True, kw_only=True)
class Wire:
    """A feature of a layer: fires when the sum of weighted coordinates that it reads exceeds a threshold, and writes coordinates."""

    reads: Mapping[int, float]
    writes: Mapping[int, float]
    threshold: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A circuit: moves of coordinates by attention, features by layer, and the edges that the graph must have."""

    moves: Mapping[int, Mapping[int, int]]
    """By layer, from which coordinate of the previous token to which of this one."""
    wires: Mapping[int, tuple[Wire, ...]]
    edges: tuple[tuple[str, str, int], ...]
    """Source, row, sign; nodes as `E@p`, `Ll.fi@p`, `logit`."""
    tokens: tuple[int, ...]
    target: Target


def built(planted: Planted) -> tuple[Model, DictionarySet]:
    """The model and its transcoders."""
    config: Any = CONFIG_MAPPING["llama"]
    sizes = {"hidden_size": D, "num_hidden_layers": N_LAYERS, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": D}
    hf = AutoModelForCausalLM.from_config(config(vocab_size=N_VOCAB, intermediate_size=8, max_position_embeddings=32, **sizes))
    for parameter in hf.parameters():
        parameter.data.zero_()
    inner, head = hf.model, hf.lm_head
    inner.embed_tokens.weight.data[:, CONSTANT] = BIG
    for token in range(1, 32):
        inner.embed_tokens.weight.data[token, token] = 1.0
    for token in range(1, 16):
        head.weight.data[token, OUT + token] = 1.0
    for norm in (inner.norm, *(norm for block in inner.layers for norm in (block.input_layernorm, block.post_attention_layernorm))):
        norm.weight.data.fill_(BIG / D**0.5)  # undoes the norm of a row whose constant dominates
    for layer, moved in planted.moves.items():
        _attend_to_previous(inner.layers[layer].self_attn, moved)
    model = Model(hf.eval().requires_grad_(False), tiny_tokenizer(), ref="planted")
    return model, DictionarySet(tuple(_transcoder(layer, planted.wires.get(layer, ())) for layer in range(N_LAYERS)))


def _attend_to_previous(attention: Any, moved: Mapping[int, int]) -> None:
    """Rotary positions of the constant coordinate make the key of the previous token the best match."""
    half = D // 2
    frequencies = 10_000.0 ** -(torch.arange(half) / half)
    for i in range(half):
        angle = float(frequencies[i])
        # query (cos, sin) turned one back: its product with a key of (1, 0) at distance t is cos((t − 1) angle)
        attention.q_proj.weight.data[i, CONSTANT] = 2 * float(np.cos(angle))
        attention.q_proj.weight.data[i + half, CONSTANT] = -2 * float(np.sin(angle))
        attention.k_proj.weight.data[i, CONSTANT] = 2.0
    for source, goal in moved.items():
        attention.v_proj.weight.data[source, source] = 1.0
        attention.o_proj.weight.data[goal, source] = 1.0


def _transcoder(layer: int, wires: tuple[Wire, ...]) -> Transcoder:
    n = max(1, len(wires))
    weights = {"W_enc": torch.zeros(n, D), "W_dec": torch.zeros(n, D), "b_enc": torch.full((n,), -1.0), "b_dec": torch.zeros(D)}
    for i, wire in enumerate(wires):
        weights["b_enc"][i] = -wire.threshold
        for coordinate, weight in wire.reads.items():
            weights["W_enc"][i, coordinate] = weight
        for coordinate, weight in wire.writes.items():
            weights["W_dec"][i, coordinate] = weight
    site = Site("mlp_in", layer)
    return Transcoder(reads=site, writes=(Site("mlp_out", layer),), nonlinearity=ReLU(), weights=weights)


class Wired:
    """Puts what the transcoders say in the place of the MLPs, so that errors are 0."""

    def __init__(self, model: Model, given: DictionarySet) -> None:
        for layer, member in enumerate(given.members):
            module = model.module(Site("mlp_out", layer))
            module.register_forward_hook(self._hook(member), prepend=True)  # taps read what it writes

    def _hook(self, member: Any) -> Callable[..., torch.Tensor]:
        def run(_: Any, args: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
            return member.reconstruct(args[0].flatten(0, 1)).view_as(out)

        return run


CIRCUITS: dict[str, Planted] = {
    # the previous token is copied to where it is unembedded
    "copy": Planted(
        moves={0: {3: OUT + 3, 5: OUT + 5}},
        wires={},
        edges=(("E@2", "logit", 1),),
        tokens=(9, 7, 5, 8),
        target=Logits(tokens=(5,)),
    ),
    # Dallas (3) → Texas (a feature) → moved to the next token → Austin
    "two-hop": Planted(
        moves={1: {FEATURES: FEATURES + 1}},
        wires={
            0: (Wire(reads={3: 1.0}, writes={FEATURES: 2.0}), Wire(reads={4: 1.0}, writes={FEATURES + 5: 2.0})),
            2: (Wire(reads={FEATURES + 1: 1.0}, writes={OUT + 6: 3.0}), Wire(reads={FEATURES + 6: 1.0}, writes={OUT + 7: 3.0})),
        },
        edges=(("E@2", "L0.f0@2", 1), ("L0.f0@2", "L2.f0@3", 1), ("L2.f0@3", "logit", 1)),
        tokens=(9, 7, 3, 8),
        target=LogitDifference(token=6, against=7),
    ),
    # a feature at the previous token holds another one down, which raises the logit
    "inhibition": Planted(
        moves={1: {FEATURES: FEATURES + 1}},
        wires={
            0: (Wire(reads={3: 1.0}, writes={FEATURES: 1.0}), Wire(reads={8: 1.0}, writes={FEATURES + 2: 3.0})),
            2: (Wire(reads={FEATURES + 2: 1.0, FEATURES + 1: -1.0}, writes={OUT + 6: 2.0}),),
        },
        edges=(
            ("E@2", "L0.f0@2", 1),
            ("E@3", "L0.f1@3", 1),
            ("L0.f0@2", "L2.f0@3", -1),
            ("L0.f1@3", "L2.f0@3", 1),
            ("L2.f0@3", "logit", 1),
        ),
        tokens=(9, 7, 3, 8),
        target=LogitDifference(token=6, against=7),
    ),
    # fires only if both were there
    "and": Planted(
        moves={0: {3: FEATURES}},
        wires={
            1: (
                Wire(reads={FEATURES: 1.0, 8: 1.0}, writes={OUT + 6: 4.0}, threshold=1.5),
                Wire(reads={FEATURES: 1.0, 5: 1.0}, writes={OUT + 7: 4.0}, threshold=1.5),
            )
        },
        edges=(("E@2", "L1.f0@3", 1), ("E@3", "L1.f0@3", 1), ("L1.f0@3", "logit", 1)),
        tokens=(9, 7, 3, 8),
        target=LogitDifference(token=6, against=7),
    ),
}


def name_of(graph: Graph, node: int) -> str:
    nodes = graph.nodes
    kind, layer, position, feature = (int(getattr(nodes, part)[node]) for part in ("kind", "layer", "position", "feature"))
    return {0: f"E@{position}", 1: f"L{layer}.error@{position}", 2: f"bias{feature}.{layer}", 3: f"L{layer}.f{feature}@{position}", 4: "logit"}[kind]


def edges_of(graph: Graph) -> dict[tuple[str, str], float]:
    """Every edge's share of its row's sizes, the biases that say when a feature fires left out."""
    made: dict[tuple[str, str], float] = {}
    for i, row in enumerate(graph.rows):
        source, weight = graph.edges.row(i)
        inner = graph.nodes.kind[source] != 2
        total = np.abs(weight[inner]).sum()
        made |= {
            (name_of(graph, int(node)), name_of(graph, int(row))): float(w / total) for node, w in zip(source[inner], weight[inner], strict=True)
        }
    return made


@pytest.mark.parametrize("name", CIRCUITS)
@pytest.mark.parametrize("engine", ["sweep", "autograd"])
def test_the_graph_of_a_known_circuit_has_its_edges_and_no_others(name: str, engine: Any) -> None:
    planted = CIRCUITS[name]
    model, given = built(planted)
    Wired(model, given)
    graph = trace(model, given, list(planted.tokens), target=planted.target, config=TraceConfig(engine=engine))
    found = edges_of(graph)
    recovered = [edge for edge in planted.edges if found.get(edge[:2], 0.0) * edge[2] > 0.1]
    assert len(recovered) >= 0.95 * len(planted.edges), found
    false = {pair: share for pair, share in found.items() if abs(share) > 0.1 and pair not in {edge[:2] for edge in planted.edges}}
    assert not false
    assert graph.balance() < 1e-4


@pytest.mark.parametrize("name", ["two-hop", "inhibition", "and"])
def test_taking_a_cause_away_does_what_the_edge_says(name: str) -> None:
    """The graph's claim, tested in the model: another token in the place of the cause moves the target as the sign says."""
    planted = CIRCUITS[name]
    model, given = built(planted)
    Wired(model, given)
    tokens = list(planted.tokens)
    changed = [*tokens[:2], 10, tokens[3]]
    before, after = (model.logits(torch.tensor([ids]))[0, -1] for ids in (tokens, changed))
    change = float((after[6] - after[7]) - (before[6] - before[7]))
    assert change < -0.1 if name != "inhibition" else change > 0.1
