from functools import cache

import pytest
import torch
from circuits.sets import transcoders

from microtome.circuits.intervene import Intervention, Patching, continuations, interventions, patch, sweep_end_layers
from microtome.dictionaries import DictionarySet, Transcoder
from microtome.errors import EditInvalid, EditsConflict, FeatureNotFound, StrengthUncalibrated, TokenOutOfRange
from microtome.models import TINY_FAMILIES, Frozen, Model, Site, tiny
from microtome.steering import Batch, EditSet, Sampling, Window, applied, raw, times_current, times_max

PROMPT = "the world and the user"
DIRECT = 2
"""The last layer of a tiny model: with it as end layer everything is held."""


@cache
def tiny_model(family: str = "llama") -> Model:
    return tiny(family)


def strongest(model: Model, dictionaries: DictionarySet, *, layer: int) -> tuple[str, float]:
    """The most active feature of a layer at a token in the middle: its id and its activation."""
    tokens = Batch.of(model, [PROMPT]).tokens
    member = dictionaries.members[layer]
    codes = member.encode(model.capture(tokens, [member.reads])[member.reads][0, 3:4])
    best = int(codes.values.argmax())
    return f"L{layer}.f{int(codes.indices.flatten()[best])}@3", float(codes.values.max())


def logits_of(model: Model, dictionaries: DictionarySet, *groups: list[Intervention], patching: Patching | None = None) -> torch.Tensor:
    return patch(model, dictionaries, prompt=PROMPT, groups=groups, patching=patching or Patching(), keep=range(-2, 0)).logits


@pytest.mark.parametrize("kind", ["layers", "cross-layer"])
@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_with_all_held_doubling_and_ablating_are_the_analytic_direct_effects(family: str, kind: str):
    """The oracle is autograd through the held forward: ⟨gradient at each write, activation · decoder row⟩, for a feature and for a logit."""
    model = tiny_model(family)
    dictionaries = transcoders(model, kind="layers" if kind == "layers" else "cross-layer", skip=True)
    node, activation = strongest(model, dictionaries, layer=0)
    feature = int(node[4:-2])
    groups = [[Intervention.on(node, times_current(factor), operation="multiply")] for factor in (2, 0)]
    last, norm = Site("mlp_in", model.n_layers - 1), Site("final_norm")
    found = patch(model, dictionaries, prompt=PROMPT, groups=groups, patching=Patching(end_layer=DIRECT), read=[last, norm])
    writer = dictionaries.members[0]
    sites = writer.writes
    members = [member for member in dictionaries.members if isinstance(member, Transcoder)]
    skips = {layer: member.W_skip * member.input_scale for layer, member in enumerate(members) if member.W_skip is not None}
    frozen = Frozen(model, torch.tensor(found.tokens), skips=skips)
    reader = dictionaries.members[-1].encoder_directions()[5]
    unembedding = model.hf.get_output_embeddings()
    assert unembedding is not None
    head = unembedding.weight[7]
    for site, vector in ((last, reader), (norm, head)):
        ran = frozen.run(read=[site], leaves=sites)
        (ran.values[site][-1] @ vector).backward()
        wanted = sum(
            float(leaf.grad[0, 3] @ (activation * writer.direction(feature, write=at))) for at, leaf in ran.leaves.items() if leaf.grad is not None
        )
        doubled, ablated = ((found.read[site][:, -1] - found.clean_read[site][-1]) @ vector).tolist()
        assert abs(wanted) > 1e-4
        assert doubled == pytest.approx(wanted, rel=1e-3, abs=1e-5)
        assert ablated == pytest.approx(-wanted, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("attention", ["frozen", "live"])
@pytest.mark.parametrize("end", [None, 1, DIRECT])
def test_a_change_of_nothing_changes_no_bit(attention: str, end: int | None):
    model, dictionaries = tiny_model(), transcoders(tiny_model(), skip=True)
    node, _ = strongest(model, dictionaries, layer=1)
    patching = Patching(attention="frozen" if attention == "frozen" else "live", end_layer=end)
    for strength, operation in ((times_current(1), "multiply"), (raw(0), "add"), (times_current(0), "add")):
        same = Intervention.on(node, strength, operation="multiply" if operation == "multiply" else "add")
        found = patch(model, dictionaries, prompt=PROMPT, groups=[[same]], patching=patching, keep=[0, -1])
        assert torch.equal(found.logits[0], found.clean)
        assert not found.kl().any()
        assert torch.allclose(found.clean, model.logits(torch.tensor([found.tokens]))[0, [0, -1]], atol=1e-5)


def test_the_end_layers_meet_the_iterative_patch_where_no_later_mlp_could_differ():
    """A per-layer feature changes nothing before its layer, so holding MLPs up to its own holds nothing: iterative is the first end."""
    model, dictionaries = tiny_model(), transcoders(tiny_model(), skip=True)
    node, activation = strongest(model, dictionaries, layer=1)
    group = [Intervention.on(node, raw(activation + 2), operation="set")]
    points = sweep_end_layers(model, dictionaries, prompt=PROMPT, group=group)
    assert [point.end_layer for point in points] == [1, 2, None]
    first, direct, iterative = (point.patched.logits for point in points)
    assert torch.allclose(first, iterative, atol=1e-5)
    assert not torch.allclose(direct, iterative, atol=1e-3)


def test_the_last_end_layer_is_linear_and_iterative_patching_is_not():
    model, dictionaries = tiny_model(), transcoders(tiny_model())
    node, activation = strongest(model, dictionaries, layer=0)
    both = interventions([node, strongest(model, dictionaries, layer=1)[0]], times_current(-3), operation="multiply")
    for end, adds_up in ((DIRECT, True), (None, False)):
        groups = [[both[0]], [both[1]], list(both), [Intervention.on(node, raw(5 * activation), operation="set")]]
        found = patch(model, dictionaries, prompt=PROMPT, groups=groups, patching=Patching(end_layer=end), read=[Site("final_norm")])
        moved = found.read[Site("final_norm")][:, -1] - found.clean_read[Site("final_norm")][-1]
        assert torch.allclose(moved[0] + moved[1], moved[2], atol=1e-5) is adds_up
        assert torch.allclose(-moved[0], moved[3], atol=1e-5) is adds_up  # −3 is −4 activations, and 5 is +4


def test_a_cross_layer_feature_is_not_written_beyond_the_end_layer():
    model, dictionaries = tiny_model(), transcoders(tiny_model(), kind="cross-layer")
    node, _ = strongest(model, dictionaries, layer=0)
    double = [Intervention.on(node, times_current(2), operation="multiply")]
    sites = [Site("mlp_out", layer) for layer in range(3)]
    held = patch(model, dictionaries, prompt=PROMPT, groups=[double], patching=Patching(end_layer=1), read=sites)
    whole = patch(model, dictionaries, prompt=PROMPT, groups=[double], patching=Patching(end_layer=2), read=sites)
    writer, feature = dictionaries.members[0], int(node[4:-2])
    for site in sites:
        added = whole.read[site][0] - whole.clean_read[site]
        direction = writer.direction(feature, write=site)
        assert torch.allclose(added[3], float(added[3] @ direction / direction.square().sum()) * direction, atol=1e-5)
        assert not torch.cat([added[:3], added[4:]]).any()
    for site in sites[:2]:
        assert torch.allclose(held.read[site], whole.read[site], atol=1e-6)
    assert not torch.allclose(held.read[sites[2]], whole.read[sites[2]], atol=1e-3)


def test_frozen_patterns_are_those_of_the_clean_prompt_and_live_ones_are_not():
    model, dictionaries = tiny_model(), transcoders(tiny_model())
    node, _ = strongest(model, dictionaries, layer=0)
    strong = Intervention.on(node, times_current(10), operation="multiply")
    frozen = logits_of(model, dictionaries, [strong])
    live = logits_of(model, dictionaries, [strong], patching=Patching(attention="live"))
    assert not torch.allclose(frozen, live, atol=1e-3)
    batch = Batch.of(model, [PROMPT])
    named = {"L0": dictionaries.members[0]}
    with applied(model, strong.edit(), batch=batch, dictionaries=named):
        steered = model.logits(batch.tokens, last=2)
    assert torch.equal(live, steered)


def test_a_group_is_what_it_is_alone_and_the_model_is_as_it_was():
    model, dictionaries = tiny_model(), transcoders(tiny_model(), kind="cross-layer", skip=True)
    tokens = Batch.of(model, [PROMPT]).tokens
    before = model.logits(tokens)
    nodes = [strongest(model, dictionaries, layer=layer)[0] for layer in range(2)]
    groups = [list(interventions(nodes, times_current(factor), operation="multiply")) for factor in (-10, 0, 2)]
    for patching in (Patching(), Patching(end_layer=1), Patching(attention="live", end_layer=2)):
        together = logits_of(model, dictionaries, *groups, patching=patching)
        alone = torch.cat([logits_of(model, dictionaries, group, patching=patching) for group in groups])
        assert torch.allclose(together, alone, atol=1e-5)
        assert torch.equal(model.logits(tokens), before)
    broken = Intervention(layer=0, feature=99, positions=Window(start=3, stop=4), operation="multiply", strength=times_current(0))
    with pytest.raises(FeatureNotFound):
        logits_of(model, dictionaries, [broken])
    assert torch.equal(model.logits(tokens), before)
    assert model.hf.config._attn_implementation == tiny("llama").hf.config._attn_implementation


def test_padding_does_not_change_what_an_intervention_does():
    model, dictionaries = tiny_model(), transcoders(tiny_model(), kind="cross-layer")
    node, _ = strongest(model, dictionaries, layer=0)
    change = Intervention.on(node, times_current(-2), operation="multiply")
    alone = logits_of(model, dictionaries, [change], patching=Patching(attention="live"))[0, -1]
    batch = Batch.of(model, [PROMPT, PROMPT + " of hello in the world, is that an assistant?"])
    with applied(model, [EditSet.of(change.edit()), EditSet()], batch=batch, dictionaries={"L0": dictionaries.members[0]}):
        padded = model.logits(batch.tokens, mask=batch.mask)[0, -1]
    assert torch.allclose(padded, alone, atol=1e-4)


def test_open_positions_go_on_over_the_continuation():
    model, dictionaries = tiny_model(), transcoders(tiny_model(), skip=True)
    node, _ = strongest(model, dictionaries, layer=1)
    sampling = Sampling(max_new_tokens=6, temperature=1.0, seed=3, ends_at_eos=False)
    closed, opened = Intervention.on(node, raw(20), operation="set"), Intervention.on(node.replace("@3", "@3:"), raw(20), operation="set")
    n = len(Batch.of(model, [PROMPT]).rows[0].tokens)
    for change, edited in ((closed, 1), (opened, n - 3 + 5)):
        both = continuations(model, dictionaries, prompt=PROMPT, group=[change], sampling=sampling)
        assert both.edited.n_edited == edited
        assert both.unedited.n_edited == 0
        assert both.unedited.tokens != both.edited.tokens
        again = continuations(model, dictionaries, prompt=PROMPT, group=[change], sampling=sampling)
        assert again.edited.tokens == both.edited.tokens
    same = Intervention.on(node.replace("@3", "@:"), times_current(1), operation="multiply")
    nothing = continuations(model, dictionaries, prompt=PROMPT, group=[same], sampling=sampling)
    assert nothing.edited.choices == nothing.unedited.choices


def test_what_cannot_be_meant_is_refused():
    model, dictionaries = tiny_model(), transcoders(tiny_model())
    zero = times_current(0)
    with pytest.raises(EditInvalid, match="not the id"):
        Intervention.on("L0.error@3", zero, operation="multiply")
    with pytest.raises(EditInvalid, match="takes no strength"):
        Intervention.on("L0.f1@3", raw(2), operation="multiply")
    with pytest.raises(TokenOutOfRange):
        logits_of(model, dictionaries, [Intervention.on("L0.f1@99", zero, operation="multiply")])
    with pytest.raises(FeatureNotFound, match="layer 7"):
        logits_of(model, dictionaries, [Intervention.on("L7.f1@3", zero, operation="multiply")])
    with pytest.raises(EditInvalid, match="end layer"):
        logits_of(model, dictionaries, [Intervention.on("L2.f1@3", zero, operation="multiply")], patching=Patching(end_layer=1))
    twice = [Intervention.on(node, zero, operation="multiply") for node in ("L0.f1@3", "L0.f1@2:5")]
    with pytest.raises(EditsConflict):
        logits_of(model, dictionaries, twice)
    with pytest.raises(StrengthUncalibrated):
        logits_of(model, dictionaries, [Intervention.on("L0.f1@3", times_max(2), operation="set")], patching=Patching(end_layer=1))
