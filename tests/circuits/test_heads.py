"""Head loadings are what held forwards and gradients through the model's own modules say."""

import numpy as np
import pytest
import torch
from circuits.sets import transcoders

from microtome.circuits import LogitDifference, head_loadings, trace
from microtome.errors import GraphInvalid
from microtome.models import TINY_FAMILIES, Frozen, Site, tiny

TOKENS = [17, 44, 101, 60, 203]


@pytest.mark.parametrize(("family", "skip"), [("llama", False), *((family, True) for family in TINY_FAMILIES)])
def test_each_head_carries_what_the_model_s_own_modules_carry(family: str, skip: bool) -> None:
    model = tiny(family)
    given = transcoders(model, skip=skip)
    target = LogitDifference(token=5, against=9)
    graph = trace(model, given, TOKENS, target=target)
    source, weight = graph.edges.row(len(graph.rows) - 1)
    early = (graph.nodes.layer[source] == 0) & (graph.nodes.kind[source] == 3) & (graph.nodes.position[source] < 4)
    node = int(source[early][np.abs(weight[early]).argmax()])
    goal = len(graph.nodes) - 1
    embedding = graph.node("embedding", position=1)
    found = head_loadings(model, given, graph, edges=[(node, goal), (embedding, goal)], target=target)
    assert found.weight[0] == pytest.approx(float(weight[source == node][0]), rel=1e-4)

    final, heads = Site("final_norm"), [Site("attn_heads", layer) for layer in range(model.n_layers)]
    skips = {layer: member.W_skip * member.input_scale for layer, member in enumerate(given.members)} if skip else {}  # type: ignore[union-attr]  # all are transcoders
    frozen = Frozen(model, torch.tensor(TOKENS), skips=skips)
    ran = frozen.run(read=[final], leaves=heads)
    head: torch.nn.Linear = model.hf.get_output_embeddings()  # type: ignore[assignment]  # it is one
    gradients = torch.autograd.grad(ran.values[final][-1] @ (head.weight[5] - head.weight[9]), [ran.leaves[site] for site in heads])
    position = int(graph.nodes.position[node])
    bump = torch.zeros(len(TOKENS), model.d_model)
    bump[position] = given.members[0].direction(int(graph.nodes.feature[node])) * float(graph.nodes.activation[node])
    moved, still = (frozen.run(read=heads, bump={Site("mlp_out", 0): scale * bump}).values for scale in (1.0, 0.0))
    for layer, (site, gradient) in enumerate(zip(heads, gradients, strict=True)):
        wanted = (gradient[0] * (moved[site] - still[site])).view(len(TOKENS), 4, -1).sum((0, 2))
        assert np.allclose(found.heads[0, layer], wanted.detach().numpy(), atol=1e-4 * float(np.abs(weight).max()))
    assert not found.heads[0, 0].any()
    assert np.abs(found.heads[0, 1:]).max() > 0
    assert np.abs(found.heads[1, 0]).max() > 0
    assert np.allclose(found.past(1), found.weight - found.heads[:, 1].sum(1))


def test_an_edge_that_runs_through_attention_alone_is_carried_by_the_heads_of_one_layer_after_another() -> None:
    """From another position, nothing can pass all attention by: the parts of heads that move it add up over two layers."""
    model = tiny("llama", n_layers=2)
    given = transcoders(model)
    graph = trace(model, given, TOKENS, target=LogitDifference(token=5, against=9))
    source, weight = graph.edges.row(len(graph.rows) - 1)
    moved = source[(graph.nodes.layer[source] == 0) & (graph.nodes.kind[source] == 3) & (graph.nodes.position[source] < 4)].tolist()
    assert moved
    goal = len(graph.nodes) - 1
    found = head_loadings(model, given, graph, edges=[(node, goal) for node in moved], target=LogitDifference(token=5, against=9))
    assert np.allclose(found.heads[:, 1].sum(1), found.weight, rtol=1e-4, atol=1e-6)
    assert np.allclose(found.weight, [weight[source == node][0] for node in moved], rtol=1e-4, atol=1e-6)


def test_a_bias_and_another_graph_s_nodes_are_refused() -> None:
    model = tiny("llama")
    given = transcoders(model)
    graph = trace(model, given, TOKENS)
    with pytest.raises(GraphInvalid, match="no head loadings"):
        head_loadings(model, given, graph, edges=[(int(graph.nodes.where("bias")[0]), len(graph.nodes) - 1)])
    with pytest.raises(GraphInvalid, match="another model"):
        head_loadings(tiny("llama", seed=1), given, graph, edges=[])
