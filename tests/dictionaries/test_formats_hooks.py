"""Other libraries' names for places become sites, and where there is none they are refused with the way out."""

import pytest

from microtome.dictionaries.formats.hooks import labelled, lens_hook, lens_name, module_hook, module_name, module_side
from microtome.errors import HookUnknown, MicrotomeError
from microtome.models import Site


@pytest.mark.parametrize(
    ("name", "site", "before_gain"),
    [
        ("blocks.3.hook_resid_post", "L3.resid_post", False),
        ("blocks.3.attn.hook_z", "L3.attn_heads", False),
        ("blocks.3.hook_mlp_in", "L3.resid_mid", False),  # stands before the norm there
        ("blocks.3.mlp.hook_in", "L3.mlp_in", False),
        ("blocks.3.ln2.hook_normalized", "L3.mlp_in", True),
        ("blocks.3.ln1.hook_normalized", "L3.attn_in", True),
        ("ln_final.hook_normalized", "final_norm", True),
        ("hook_embed", "embed", False),
    ],
)
def test_hooks_of_transformer_lens(name: str, site: str, before_gain: bool) -> None:
    assert lens_hook(name) == (Site.parse(site), before_gain)


def test_names_come_back() -> None:
    for kind in ("resid_pre", "resid_mid", "resid_post", "attn_heads", "attn_out", "mlp_in", "mlp_out"):
        assert lens_hook(lens_name(Site(kind, 7))).site == Site(kind, 7)
    for kind in ("resid_post", "mlp_out", "attn_out"):
        assert module_hook(module_name(Site(kind, 7))) == Site(kind, 7)


def test_modules_and_their_sides() -> None:
    assert module_hook("layers.3.mlp", side="input") == Site("mlp_in", 3)
    assert module_hook("gpt_neox.layers.3") == module_hook("transformer.h.3") == Site("resid_post", 3)
    assert module_side("model.layers.3.self_attn.o_proj.input") == Site("attn_heads", 3)
    assert module_side("language_model.layers.3.output") == Site("resid_post", 3)
    assert labelled("resid_post_layer_3") == Site("resid_post", 3)


def test_what_is_no_site_is_refused_with_the_nearest_name() -> None:
    for call, name in (
        (lens_hook, "blocks.3.hook_resid_pots"),
        (lens_hook, "blocks.3.mlp.hook_post"),
        (lens_hook, "blocks.3.attn.hook_q"),
        (module_hook, "layers.3.mlp.down_proj"),
        (module_side, "model.layers.3.mlp.gate_proj.output"),
        (labelled, "embed_layer_3"),
    ):
        with pytest.raises(HookUnknown) as caught:
            call(name)
        assert caught.value.got == name
        assert "reads=" in caught.value.do
    with pytest.raises(HookUnknown, match="hook_resid_post"):
        raise_with_text("blocks.3.hook_resid_pots")
    with pytest.raises(HookUnknown):
        lens_name(Site("attn_in", 2))


def raise_with_text(name: str) -> None:
    """`match` looks at the first sentence; here the whole message is the subject."""
    try:
        lens_hook(name)
    except MicrotomeError as error:
        raise HookUnknown(str(error), do=error.do) from error
