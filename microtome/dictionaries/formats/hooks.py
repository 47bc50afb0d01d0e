"""Where other libraries say a dictionary sits, as a `Site`. The only place that knows their names.

| written | by | is |
|---|---|---|
| `blocks.3.hook_resid_post`, `blocks.3.attn.hook_z`, … | SAELens, circuit-tracer, Llama Scope | TransformerLens' names, see `_LENS` |
| `layers.3`, `layers.3.mlp`, `layers.3.self_attn` | sparsify | the output of that module (of a transcoder: its input and output) |
| `model.layers.3.output`, `….o_proj.input` | Gemma Scope 2 | a module of transformers and one of its two sides |
| `resid_post_layer_3` | dictionary_learning | a kind and a layer |

A hook between a norm's scale and its gain (`ln2.hook_normalized`) is no site by itself: its values are those of the site behind the norm, each
divided by the norm's gain. A reader takes the gain and folds it in.
"""

import re
from typing import NamedTuple

from microtome.errors import HookUnknown, nearest
from microtome.models import Site


class Hook(NamedTuple):
    """A place as a `Site`, and whether the values there lack the gain of the norm before the site."""

    site: Site
    before_gain: bool = False


_LENS = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_out",
    "attn.hook_z": "attn_heads",
    "hook_mlp_in": "resid_mid",  # in TransformerLens this hook stands before ln2
    "mlp.hook_in": "mlp_in",
    "hook_mlp_out": "mlp_out",
    "mlp.hook_out": "mlp_out",
}
_LENS_BEFORE_GAIN = {"ln1.hook_normalized": "attn_in", "ln2.hook_normalized": "mlp_in"}
_TO_LENS = {
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "attn_out": "hook_attn_out",
    "attn_heads": "attn.hook_z",
    "mlp_in": "mlp.hook_in",
    "mlp_out": "hook_mlp_out",
}
_LABELS = (*_TO_LENS, "attn_in")
_MODULE_OUTPUTS = {"": "resid_post", "mlp": "mlp_out", "self_attn": "attn_out", "attention": "attn_out", "attn": "attn_out"}
_MODULE_INPUTS = {"": "resid_pre", "mlp": "mlp_in", "self_attn": "attn_in", "attention": "attn_in", "attn": "attn_in"}
_MODULE_SIDES = {
    "output": "resid_post",
    "input": "resid_pre",
    "self_attn.o_proj.input": "attn_heads",
    "input_layernorm.output": "attn_in",
    "pre_feedforward_layernorm.input": "resid_mid",
    "pre_feedforward_layernorm.output": "mlp_in",
    "mlp.input": "mlp_in",
    "post_feedforward_layernorm.output": "mlp_out",
    "post_attention_layernorm.output": "attn_out",
}
"""Of the Gemma 3 blocks, where a norm follows attention and MLP before their outputs are added."""


def lens_hook(name: str, *, layer: int | None = None) -> Hook:
    """The place that TransformerLens calls `name`; with `layer`, `name` is what follows `blocks.<layer>.`.

    >>> lens_hook("blocks.3.hook_resid_post").site
    Site(kind='resid_post', layer=3)
    """
    if name in ("hook_embed", "ln_final.hook_normalized"):
        return Hook(Site("embed")) if name == "hook_embed" else Hook(Site("final_norm"), before_gain=True)
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)", name if layer is None else f"blocks.{layer}.{name}")
    if match and match[2] in _LENS:
        return Hook(Site(_LENS[match[2]], int(match[1])))
    if match and match[2] in _LENS_BEFORE_GAIN:
        return Hook(Site(_LENS_BEFORE_GAIN[match[2]], int(match[1])), before_gain=True)
    raise _unknown(name, (*_LENS, *_LENS_BEFORE_GAIN))


def lens_name(site: Site) -> str:
    """What TransformerLens calls `site`; `HookUnknown` where it has no name for it that means the same."""
    if site == Site("embed"):
        return "hook_embed"
    if site.kind not in _TO_LENS:
        raise HookUnknown(f"TransformerLens has no hook for {site}.", got=site, wanted=", ".join(_TO_LENS), do="Keep it in microtome's own format.")
    return f"blocks.{site.layer}.{_TO_LENS[site.kind]}"


def module_hook(name: str, *, side: str = "output") -> Site:
    """The place that sparsify calls `layers.3.mlp`: by default what the module puts out, with `side="input"` what it reads."""
    match = re.search(r"(?:^|[./])(?:layers|h|blocks)\.(\d+)(?:\.([\w.]+))?$", name)
    kinds = _MODULE_OUTPUTS if side == "output" else _MODULE_INPUTS
    if match is None or (match[2] or "") not in kinds:
        raise _unknown(name, ("layers.0", "layers.0.mlp", "layers.0.self_attn"))
    return Site(kinds[match[2] or ""], int(match[1]))


def module_name(site: Site) -> str:
    """What sparsify calls the module whose output `site` is; `HookUnknown` where there is none."""
    for tail, kind in _MODULE_OUTPUTS.items():
        if kind == site.kind:
            return f"layers.{site.layer}{'.' * bool(tail)}{tail}"
    raise HookUnknown(
        f"{site} is no module's output.", got=site, wanted="resid_post, mlp_out or attn_out", do="Use a format that can say where it sits."
    )


def module_side(name: str) -> Site:
    """The place that Gemma Scope 2 writes as `model.layers.3.self_attn.o_proj.input`."""
    match = re.search(r"(?:^|\.)layers\.(\d+)\.(.+)$", name)
    if match is None or match[2] not in _MODULE_SIDES:
        raise _unknown(name, tuple(f"model.layers.0.{side}" for side in _MODULE_SIDES))
    return Site(_MODULE_SIDES[match[2]], int(match[1]))


def labelled(name: str) -> Site:
    """The place that dictionary_learning's configs call `resid_post_layer_3`."""
    match = re.fullmatch(r"(\w+?)_layer_?(\d+)", name)
    kind = {"resid": "resid_post", "mlp": "mlp_out", "attention": "attn_out", "attn": "attn_out"}.get(match[1], match[1]) if match else ""
    if match is None or kind not in _LABELS:
        raise _unknown(name, ("resid_post_layer_0", "mlp_out_layer_0"))
    return Site(kind, int(match[2]))


def _unknown(name: str, known: tuple[str, ...]) -> HookUnknown:
    return HookUnknown(f'the hook "{name}" is no site.', got=name, wanted=", ".join(known), do=f"{nearest(name, known)} Or say the site: reads=….")
