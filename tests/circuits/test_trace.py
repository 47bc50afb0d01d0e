"""Every row of a graph adds up, on every family and by both engines, and a column is what doubling the feature does."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from circuits.sets import transcoders
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from microtome.artifacts import Draft
from microtome.circuits import Along, FeatureTarget, Graph, LogitDifference, Logits, Loss, Replacement, Target, TraceConfig, trace
from microtome.circuits.graph import FEATURE
from microtome.circuits.targets import rows_of
from microtome.dictionaries import SAE, DictionarySet, ReLU, Transcoder, save
from microtome.directions import Direction
from microtome.errors import ActivationsNotFinite, ConfigError, GraphUnbalanced, ModelUnsupported, ShapeMismatch, TargetInvalid, TokenOutOfRange
from microtome.models import TINY_FAMILIES, Frozen, Model, Site, tiny, tiny_tokenizer
from tests.circuits.made import stored

TOKENS = [17, 44, 101, 60, 203, 44, 9]
ALL: list[Target] = [Logits(), LogitDifference(token=5, against=9, position=4), Loss(position=2)]
KINDS: dict[str, dict[str, Any]] = {"layers": {}, "skip": {"skip": True}, "cross-layer": {"kind": "cross-layer", "skip": True}}


@cache
def model_of(family: str) -> Model:
    return tiny(family)


MATRIX = [
    *((family, "cross-layer") for family in TINY_FAMILIES),
    *((family, kind) for family in ("llama", "gpt_neox") for kind in ("layers", "skip")),
]


@pytest.mark.parametrize(("family", "kind"), MATRIX)
def test_inputs_sum_to_what_the_model_measured_and_both_engines_agree(family: str, kind: str) -> None:
    model = model_of(family)
    given = transcoders(model, **KINDS[kind])
    sweep, autograd = (trace(model, given, TOKENS, target=ALL, config=TraceConfig(engine=engine, batch_rows=40)) for engine in ("sweep", "autograd"))
    assert sweep.config["engine"] == "sweep"
    assert autograd.config["engine"] == "autograd"
    assert len(sweep.rows) > 30
    assert np.array_equal(sweep.rows, autograd.rows)
    assert max(sweep.balance(), autograd.balance()) < 1e-4
    left, right = stored(sweep), stored(autograd)
    assert np.abs(left - right).max() <= 1e-5 * np.abs(right).max()
    assert (np.abs(left).max(1) > 0).all()


@pytest.mark.parametrize(("family", "kind"), MATRIX)
def test_doubling_a_feature_with_everything_held_changes_each_pre_activation_by_its_column(family: str, kind: str) -> None:
    model = model_of(family)
    given = transcoders(model, **KINDS[kind])
    graph = trace(model, given, TOKENS, target=LogitDifference(token=5, against=9))
    columns, nodes = stored(graph), graph.nodes
    skips = {layer: member.W_skip * member.input_scale for layer, member in enumerate(given.members) if member.W_skip is not None}  # type: ignore[union-attr]  # all are transcoders
    reads = [member.reads for member in given.members]
    frozen = Frozen(model, torch.tensor(TOKENS), read=[*reads, Site("final_norm")], skips=skips)
    strongest = [int(columns[:, layer_of(graph, layer)].__abs__().sum(0).argmax()) + int(layer_of(graph, layer)[0]) for layer in (0, 1)]
    for node in strongest:
        layer, position = int(nodes.layer[node]), int(nodes.position[node])
        member = given.members[layer]
        bump: dict[Site, torch.Tensor] = {}
        for site in member.writes:
            delta = torch.zeros(len(TOKENS), model.d_model)
            delta[position] = member.direction(int(nodes.feature[node]), write=site) * float(nodes.activation[node])
            bump[site] = delta
        moved = frozen.run(read=[*reads, Site("final_norm")], bump=bump).values
        still = frozen.run(read=[*reads, Site("final_norm")]).values
        wanted = columns[:, node]
        for i, row in enumerate(graph.rows):
            at = int(nodes.position[row])
            if i < len(graph.rows) - 1:
                reader = given.members[int(nodes.layer[row])]
                change = (moved[reader.reads][at] - still[reader.reads][at]) @ reader.encoder_direction(int(nodes.feature[row]))
            else:
                head: Any = model.hf.get_output_embeddings()
                weight = head.weight
                change = (moved[Site("final_norm")][at] - still[Site("final_norm")][at]) @ (weight[5] - weight[9])
            assert math.isclose(float(change), wanted[i], rel_tol=1e-3, abs_tol=2e-5 * np.abs(columns).max())
        assert np.abs(wanted).max() > 0


def layer_of(graph: Graph, layer: int) -> np.ndarray[Any, Any]:
    """Features of a layer."""
    return np.flatnonzero((graph.nodes.kind == 3) & (graph.nodes.layer == layer))


def test_without_adaptive_limits_a_small_graph_is_a_part_of_the_whole_one() -> None:
    model = model_of("llama")
    given = transcoders(model)
    whole = trace(model, given, TOKENS)
    part = trace(model, given, TOKENS, config=TraceConfig(max_rows=20, update_rows=6, batch_rows=4))
    assert len(part.rows) == 20 + part.n_targets
    assert part.balance() < 1e-4
    rows = {int(node): row for node, row in zip(whole.rows, stored(whole), strict=True)}
    for node, row in zip(part.rows, stored(part), strict=True):
        assert np.allclose(row, rows[int(node)], atol=1e-6 * np.abs(stored(whole)).max())


def test_features_are_expanded_by_influence() -> None:
    """Brute force: every feature's influence by summing powers of the normalised matrix; the rows chosen one by one are the best known then."""
    model = model_of("llama")
    given = transcoders(model)
    whole = trace(model, given, TOKENS, target=LogitDifference(token=5, against=9))
    one = trace(model, given, TOKENS, target=LogitDifference(token=5, against=9), config=TraceConfig(max_rows=6, update_rows=1))
    matrix = np.zeros((len(whole.nodes), len(whole.nodes)))
    matrix[whole.rows] = np.abs(stored(whole)) / np.abs(stored(whole)).sum(1, keepdims=True)
    expanded: list[int] = []
    start = np.zeros(len(whole.nodes))
    start[-1] = 1
    for _ in range(6):
        known = np.zeros_like(matrix)
        rows = np.array([*expanded, len(matrix) - 1])
        known[rows] = matrix[rows]
        influence, flow = np.zeros(len(start)), start
        while flow.any():
            flow = flow @ known
            influence += flow
        influence[np.array([*expanded, *np.flatnonzero(whole.nodes.kind != 3)])] = -1
        expanded.append(int(influence.argmax()))
    assert sorted(expanded) == one.rows[:-1].tolist()


def test_expansion_stops_at_a_share_of_the_influence() -> None:
    model = model_of("llama")
    given = transcoders(model)
    few, many = (len(trace(model, given, TOKENS, config=TraceConfig(influence=share, update_rows=4)).rows) for share in (0.3, 0.9))
    assert few < many < len(trace(model, given, TOKENS).rows)


def test_top_edges_and_the_remainder_still_add_up() -> None:
    model = model_of("qwen2")
    given = transcoders(model)
    whole = trace(model, given, TOKENS)
    top = trace(model, given, TOKENS, config=TraceConfig(edges_per_row=8))
    assert np.diff(top.edges.indptr).max() == 8
    assert top.balance() < 1e-4
    of_feature = whole.nodes.kind == FEATURE
    for node, kept, dropped in zip(top.rows, np.abs(stored(top)), top.dropped_abs, strict=True):
        full = np.abs(stored(whole)[whole.row_of(int(node))])
        best = np.argsort(-np.where(of_feature, full, -1))[:4]
        others = np.sort(np.delete(full, best))[-4:]
        assert np.allclose(full[best].sum() + others.sum(), kept.sum(), rtol=1e-5)
        assert np.allclose(full.sum() - kept.sum(), dropped, atol=1e-4)


def test_rows_that_errors_outweigh_lead_on_to_features() -> None:
    model = model_of("qwen2")
    weak = transcoders(model, writes_by=1e-4)
    graph = trace(model, weak, TOKENS, config=TraceConfig(edges_per_row=8, max_rows=40))
    strongest = np.argsort(-np.abs(stored(trace(model, weak, TOKENS, config=TraceConfig(max_rows=0)))), axis=1)[:, :8]
    assert (graph.nodes.kind[strongest] != FEATURE).all()
    assert len(graph.rows) > graph.n_targets + 20  # none but the targets when only the strongest are kept


def test_a_feature_a_direction_and_a_loss_are_targets_at_any_position() -> None:
    model = model_of("gemma2")
    given = transcoders(model)
    whole = trace(model, given, TOKENS)
    layer, position, feature = (int(getattr(whole.nodes, name)[layer_of(whole, 2)[-1]]) for name in ("layer", "position", "feature"))
    site = Site("resid_mid", 1)
    direction = Direction(name="up", site=site, vector=torch.arange(1.0, 1 + model.d_model), model=model.fingerprint)
    targets: list[Target] = [FeatureTarget(layer=layer, feature=feature, position=position), Along(direction=direction, position=3), Loss(position=1)]
    graph = trace(model, given, TOKENS, target=targets)
    assert graph.balance() < 1e-4
    node = whole.node("feature", layer=layer, position=position, feature=feature)
    n = len(whole.nodes) - whole.n_targets
    assert np.allclose(stored(graph)[-3][:n], stored(whole)[whole.row_of(node)][:n], atol=1e-6)
    assert graph.pre[-3] == pytest.approx(float(whole.nodes.activation[node]), rel=1e-4)
    frozen = Frozen(model, torch.tensor(TOKENS), read=[site], logits_at=[1])
    assert graph.pre[-2] == pytest.approx(float(direction.project(frozen.clean[site][3])), rel=1e-4)
    assert graph.target_labels[0] == f"L{layer}.f{feature}@{position}"


def test_the_loss_is_right_to_first_order() -> None:
    """A small push at the final norm changes the loss by what the linear target says, soft cap included."""
    model = model_of("gemma2")
    final, push = Site("final_norm"), 1e-3 * torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
    given = transcoders(model)
    clean = Frozen(model, torch.tensor(TOKENS), read=[final], logits_at=[2])
    unembedding: Any = model.hf.get_output_embeddings()
    head = unembedding.weight
    cap = model.hf.config.final_logit_softcapping
    losses = [
        torch.nn.functional.cross_entropy(
            cap * torch.tanh(head @ (clean.clean[final][2].double() + step * push.double()).to(head) / cap), torch.tensor(TOKENS[3])
        )
        for step in (-1, 1)
    ]
    members = {layer: member for layer, member in enumerate(given.members) if isinstance(member, Transcoder)}
    replacement = Replacement(model, members, torch.tensor(TOKENS), logits_at=[2])
    rows, _ = rows_of(replacement, [Loss(position=2)])
    logits = replacement.frozen.logits[2]
    slope = logits.softmax(-1)
    slope[TOKENS[3]] -= 1
    slope = slope * (1 - (logits / cap).square())
    assert float(losses[1] - losses[0]) / 2 == pytest.approx(float(slope @ head @ push), rel=1e-2)
    assert float(rows.pre[0]) == pytest.approx(float(slope @ head @ clean.clean[final][2]), rel=1e-4)


def test_logit_targets_are_the_likeliest_tokens_less_the_mean_logit() -> None:
    model = model_of("gpt2")
    graph = trace(model, transcoders(model), TOKENS, target=Logits(mass=0.1, most=4))
    logits = model.logits(torch.tensor([TOKENS]))[0, -1]
    p = logits.softmax(-1).sort(descending=True)
    n = min(4, int((p.values.cumsum(0) < 0.1).sum()) + 1)
    assert graph.nodes.feature[graph.nodes.kind == 4].tolist() == p.indices[:n].tolist()
    assert np.allclose(graph.target_weight, p.values[:n], rtol=1e-4)
    assert np.allclose(graph.pre[-n:], (logits - logits.mean())[p.indices[:n]], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("engine", ["sweep", "autograd"])
def test_a_model_in_half_precision_is_traced_within_its_rounding(engine: Any) -> None:
    model = tiny("llama", dtype=torch.bfloat16)
    graph = trace(model, transcoders(model), TOKENS, config=TraceConfig(engine=engine))
    assert 1e-4 < graph.balance() < 0.1
    assert graph.config["engine"] == engine


def test_a_prompt_of_one_token_and_a_set_whose_features_are_all_dead_are_graphs() -> None:
    model = model_of("llama")
    given = transcoders(model)
    assert trace(model, given, [17]).balance() < 1e-4
    dead = DictionarySet(tuple(silent(member) for member in given.members))
    graph = trace(model, dead, TOKENS)
    assert graph.n_features == 0
    assert len(graph.rows) == graph.n_targets
    assert graph.balance() < 1e-4


def silent(member: Any) -> Transcoder:
    return member.with_weights({**member.weights(), "b_enc": torch.full_like(member.b_enc, -1e4)})


def test_a_layer_without_a_transcoder_is_refused_or_an_error_as_a_whole() -> None:
    model = model_of("llama")
    given = transcoders(model)
    part = DictionarySet(given.members[1:])
    with pytest.raises(ShapeMismatch, match="no transcoder for some layers"):
        trace(model, part, TOKENS)
    graph = trace(model, part, TOKENS, config=TraceConfig(missing="error"))
    assert graph.balance() < 1e-4
    assert not len(layer_of(graph, 0))


def other_site(model: Model) -> Any:
    weights = {
        "W_enc": torch.eye(model.d_model),
        "W_dec": torch.eye(model.d_model),
        "b_enc": torch.zeros(model.d_model),
        "b_dec": torch.zeros(model.d_model),
    }
    return SAE(site=Site("mlp_out", 1), nonlinearity=ReLU(), weights=weights, input_scale=1.0)


BAD: dict[str, tuple[Callable[[Model], Any], type[Exception], str]] = {
    "empty": (lambda model: trace(model, transcoders(model), ""), TokenOutOfRange, "no tokens"),
    "too long": (lambda model: trace(model, transcoders(model), [5] * 20_000), TokenOutOfRange, "longer than"),
    "no such id": (lambda model: trace(model, transcoders(model), [10**6]), TokenOutOfRange, "outside"),
    "an SAE": (lambda model: trace(model, other_site(model), TOKENS), ShapeMismatch, "through this SAE"),
    "more layers": (lambda model: trace(model, transcoders(tiny("llama", n_layers=5)), TOKENS), ShapeMismatch, "another model"),
    "wider": (lambda model: trace(model, transcoders(tiny("llama", d_model=64)), TOKENS), ShapeMismatch, "another model"),
    "two tokens": (lambda model: trace(model, transcoders(model), TOKENS, target="Los Angeles"), TargetInvalid, "single token"),
    "no token": (lambda model: trace(model, transcoders(model), TOKENS, target=Logits(tokens=(10**6,))), TargetInvalid, "vocabulary"),
    "no position": (lambda model: trace(model, transcoders(model), TOKENS, target=Logits(position=7)), TargetInvalid, "no position"),
    "inactive": (lambda model: trace(model, transcoders(model), TOKENS, target=FeatureTarget(layer=0, feature=999)), TargetInvalid, "not active"),
    "no next token": (lambda model: trace(model, transcoders(model), TOKENS, target=Loss(position=-1)), TargetInvalid, "no token follows"),
    "no target": (lambda model: trace(model, transcoders(model), TOKENS, target=[]), ConfigError, "no target"),
    "a write": (
        lambda model: trace(
            model, transcoders(model), TOKENS, target=Along(direction=Direction(name="x", site=Site("mlp_out", 0), vector=torch.ones(model.d_model)))
        ),
        TargetInvalid,
        "cannot reach",
    ),
    "rows": (lambda model: TraceConfig(batch_rows=0), ConfigError, "batch_rows"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case: str) -> None:
    make, kind, words = BAD[case]
    with pytest.raises(kind, match=words) as caught:
        make(model_of("llama"))
    assert "do:" in str(caught.value)


def test_a_model_that_overflows_is_named_with_its_place() -> None:
    model = tiny("llama", seed=3)
    embedding: Any = model.hf.get_input_embeddings()
    embedding.weight.data[44] = float("nan")
    with pytest.raises(ActivationsNotFinite, match="not finite") as caught:
        trace(model, transcoders(model), TOKENS)
    assert "position 1" in str(caught.value)


def test_a_family_off_the_attention_interface_is_refused_by_name() -> None:
    config: Any = CONFIG_MAPPING["gptj"]
    torch.manual_seed(0)
    hf = AutoModelForCausalLM.from_config(config(vocab_size=384, n_embd=32, n_layer=2, n_head=4, rotary_dim=4)).eval().requires_grad_(False)
    model = Model(hf, tiny_tokenizer(), ref="gptj")
    with pytest.raises(ModelUnsupported, match="gptj cannot be held"):
        trace(model, transcoders(model), TOKENS)


def test_a_graph_that_does_not_add_up_is_refused() -> None:
    """A norm that is not held as it is: the check sees it."""
    model = model_of("llama")
    with pytest.raises(GraphUnbalanced, match="do not add up"):
        trace(model, transcoders(model), TOKENS, config=TraceConfig(tolerance=0.0))


def test_a_stored_dictionary_of_another_model_is_refused_and_ones_own_is_named(tmp_path: Path) -> None:
    model = model_of("llama")
    given = transcoders(model)
    ids: list[str] = []
    for name, fingerprint in (("own", model.fingerprint), ("other", "0" * 16)):
        with Draft.open(tmp_path / name, "dictionary", config={}, inputs={"model": fingerprint}) as draft:
            save(given, draft)
            ids.append(draft.finish().id)
    assert trace(model, tmp_path / "own", TOKENS).dictionaries == (ids[0],)
    with pytest.raises(ShapeMismatch, match="another model"):
        trace(model, tmp_path / "other", TOKENS)


def test_a_graph_is_the_same_again_from_disk_and_in_another_thread(tmp_path: Path) -> None:
    model = model_of("phi3")
    given = transcoders(model)
    graph = trace(model, given, "hello world and the")
    graph.save(tmp_path / "g")
    read = Graph.open(tmp_path / "g")
    assert read.prompt == "hello world and the"
    assert np.array_equal(stored(read), stored(graph))
    assert replace(read).target_labels == graph.target_labels
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: trace(model, given, "hello world and the"), range(2)))
    assert all(np.array_equal(stored(one), stored(graph)) for one in both)
    assert model.hf.config._attn_implementation != "microtome_held"
