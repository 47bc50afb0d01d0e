"""Graphs through SAEs of the residual stream: what is later reads the SAE's features, error and bias; only features read what came before."""

import numpy as np
import pytest
import torch

from microtome.circuits import LogitDifference, TraceConfig, head_loadings, node_name, trace
from microtome.circuits.graph import ERROR, FEATURE, STREAM_ERROR
from microtome.circuits.scores import scores, subgraph_scores
from microtome.dictionaries import SAE, DictionarySet, ReLU
from microtome.errors import ShapeMismatch
from microtome.models import Frozen, Model, Site, tiny
from tests.circuits.made import stored

TOKENS = [17, 44, 101, 60, 203, 44, 9]
TARGET = LogitDifference(token=5, against=9)


def sae(model: Model, site: Site, *, seed: int = 0, centred: bool = True) -> SAE:
    random = torch.Generator().manual_seed(seed)
    weights = {name: torch.randn(24, model.d_model, generator=random) / 5 for name in ("W_enc", "W_dec")}
    weights |= {"b_enc": torch.randn(24, generator=random) / 10, "b_dec": torch.randn(model.d_model, generator=random) / 10}
    return SAE(site=site, nonlinearity=ReLU(), weights=weights, input_scale=1.3, centred=centred)


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma2", "gpt2"])
def test_rows_add_up_and_both_engines_agree(family: str) -> None:
    model = tiny(family, n_layers=4)
    given = DictionarySet((sae(model, Site("resid_post", 0)), sae(model, Site("resid_pre", 3), seed=1, centred=False)))
    sweep, autograd = (trace(model, given, TOKENS, target=TARGET, config=TraceConfig(engine=engine)) for engine in ("sweep", "autograd"))
    assert sweep.config["engine"] == "sweep"
    assert max(sweep.balance(), autograd.balance()) < 1e-4
    left, right = stored(sweep), stored(autograd)
    assert np.abs(left - right).max() <= 1e-5 * np.abs(right).max()
    codes = given.members[0].encode(model.capture(torch.tensor([TOKENS]), [Site("resid_post", 0)])[Site("resid_post", 0)][0])
    assert (sweep.nodes.layer[sweep.nodes.where("feature")] == 0).sum() == int((codes.values > 0).sum())


def test_a_column_is_what_adding_it_to_the_stream_does_and_what_came_before_acts_through_features_alone() -> None:
    model = tiny("llama", n_layers=4)
    place = Site("resid_post", 1)
    given = sae(model, place)
    graph = trace(model, given, TOKENS, target=TARGET)
    nodes, final, head = graph.nodes, Site("final_norm"), model.hf.get_output_embeddings()
    frozen = Frozen(model, torch.tensor(TOKENS), read=[final, place])
    still = frozen.run(read=[final]).values[final]
    x = frozen.clean[place]
    error = x - given.decode(given.encode(x))
    source, weight = graph.edges.row(len(graph.rows) - 1)
    row = dict(zip(source.tolist(), weight.tolist(), strict=True))
    before = (nodes.kind == ERROR) & (nodes.feature == -1) & (nodes.layer <= 1) | (nodes.kind == 0)
    assert not any(node in row for node in np.flatnonzero(before))
    tried = [*nodes.where("feature")[::11], *np.flatnonzero(nodes.feature == STREAM_ERROR)[::3]]
    assert {int(nodes.kind[node]) for node in tried} == {FEATURE, ERROR}
    for node in map(int, tried):
        position, delta = int(nodes.position[node]), torch.zeros(len(TOKENS), model.d_model)
        written = given.direction(int(nodes.feature[node])) * float(nodes.activation[node]) if nodes.kind[node] == FEATURE else error[position]
        delta[position] = written
        moved = frozen.run(read=[final], bump={Site("resid_pre", 2): delta}).values[final]
        wanted = float((moved - still)[-1] @ (head.weight[5] - head.weight[9]))  # type: ignore[union-attr]  # a tiny model has a head
        assert row.get(node, 0.0) == pytest.approx(wanted, rel=1e-3, abs=1e-5)


def test_nodes_have_names_of_their_own_and_merged_features_go_to_the_stream_s_error() -> None:
    model = tiny("llama", n_layers=3)
    graph = trace(model, sae(model, Site("resid_post", 1)), TOKENS, target=TARGET)
    names = [node_name(graph, node) for node in range(len(graph.nodes))]
    assert len(set(names)) == len(names)
    assert {"L1.error@4", "L1.error.stream@4", "L1.bias.stream"} <= set(names)
    whole, none = scores(graph), subgraph_scores(graph, np.zeros(len(graph.nodes), dtype=np.bool_))
    assert 0 < whole.replacement < 1
    assert none.replacement == 0
    assert none.error_share == pytest.approx(1)


def test_head_loadings_add_up_behind_the_sae() -> None:
    model = tiny("llama", n_layers=4)
    given = sae(model, Site("resid_post", 1))
    graph = trace(model, given, TOKENS, target=TARGET)
    goal = int(graph.nodes.where("target")[0])
    feature, stream = int(graph.nodes.where("feature")[3]), int(np.flatnonzero(graph.nodes.feature == STREAM_ERROR)[2])
    early = int(graph.nodes.where("embedding")[2])
    found = head_loadings(model, given, graph, edges=[(feature, goal), (stream, goal), (early, goal), (early, feature)], target=TARGET)
    source, weight = graph.edges.row(len(graph.rows) - 1)
    row = dict(zip(source.tolist(), weight.tolist(), strict=True))
    assert np.allclose(found.weight[:3], [row.get(node, 0.0) for node in (feature, stream, early)], atol=1e-6)
    assert not found.heads[2].any()
    assert np.abs(found.heads[:2, 2:]).max() > 0
    assert not found.heads[:2, :2].any()


@pytest.mark.parametrize("site", ["L2.resid_post", "L0.resid_pre", "L1.mlp_out", "L1.resid_mid"])
def test_an_sae_elsewhere_is_refused(site: str) -> None:
    model = tiny("llama", n_layers=3)
    with pytest.raises(ShapeMismatch, match="through this SAE"):
        trace(model, sae(model, Site.parse(site)), TOKENS)
    with pytest.raises(ShapeMismatch, match="through this SAE"):
        trace(model, DictionarySet((sae(model, Site("resid_post", 0)), sae(model, Site("resid_pre", 1)))), TOKENS)
