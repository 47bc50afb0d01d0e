import torch

from microtome.models import Model, Replay, Site

CAPPED = {"gemma2"}
"""Does more to its logits than unembed, so its forwards are whole ones."""


def test_a_forward_from_the_middle_is_the_whole_one(model: Model, tokens: torch.Tensor):
    with Replay(model) as replay:
        recorded = replay.record(tokens, layers=[1])
    assert torch.equal(recorded.losses, model.loss(tokens))
    assert set(recorded.inputs) == {1}
    for site in (Site("resid_pre", 1), Site("mlp_out", 1), Site("resid_post", 1)):
        edit = {site: lambda x: 2 * x + 0.1}
        assert torch.allclose(replay.loss(recorded, edit=edit), model.loss(tokens, edit=edit), atol=1e-5), site
        assert not torch.allclose(replay.loss(recorded, edit=edit), recorded.losses, atol=1e-3), site


def test_layers_before_the_first_edit_are_not_run(model: Model, tokens: torch.Tensor):
    with Replay(model) as replay:
        recorded = replay.record(tokens, layers=[1])
    assert replay.holds == (model.family not in CAPPED)
    if model.family in CAPPED:
        return
    ran: list[int] = []
    hooks = [
        model.module(Site("resid_pre", layer)).register_forward_hook(lambda *_, layer=layer: ran.append(layer)) for layer in range(model.n_layers)
    ]
    replay.loss(recorded, edit={Site("resid_post", 1): torch.clone})
    replay.loss(recorded, edit={Site("resid_post", 0): torch.clone})
    for hook in hooks:
        hook.remove()
    rest = list(range(1, model.n_layers))
    assert ran == [*rest, 0, *rest], "an edit before the recorded layer takes the whole forward"


def test_padding_and_other_forwards_change_nothing(model: Model, tokens: torch.Tensor):
    mask = torch.ones_like(tokens, dtype=torch.bool)
    mask[0, -3:] = False
    with Replay(model) as replay:
        recorded = replay.record(tokens, mask=mask, layers=[1])
        model.loss(tokens + 1)
    edit = {Site("resid_post", 1): lambda x: 0 * x}
    assert torch.allclose(replay.loss(recorded, edit=edit), model.loss(tokens, mask=mask, edit=edit), atol=1e-5)
    hooked = [module for module in model.hf.modules() if any(hook.__name__ == "_note" for hook in module._forward_pre_hooks.values())]
    assert not hooked
