"""Gemma Scope (Lieberum et al. 2024): `params.npz` in `layer_L/width_W/average_l0_X/`, no config; the path says the site.

`W_enc [d, n]`, `W_dec [n, d]`, `b_enc`, `b_dec`, `threshold [n]` (names may be lower case), b_dec not subtracted from the input, JumpReLU.

| repository | site |
|---|---|
| `…-res` | `resid_post`; under `embedding/` the embedding, before the model multiplies it by √d: folded |
| `…-mlp`, `…-att` | `mlp_out`, `attn_heads` |
| `…-transcoders` | from the values between the scale and the gain of the norm before the MLP (`gain=` is needed) to `mlp_out` |
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from microtome.dictionaries.dictionary import Dictionary
from microtome.dictionaries.formats.format import FORMATS, Hints, Read, read_only
from microtome.dictionaries.formats.hooks import Hook
from microtome.dictionaries.formats.plain import Plain, hook_read, nonnegative, with_gain
from microtome.dictionaries.formats.tensors import Shapes, checked, read_npz
from microtome.dictionaries.layers import DictionarySet
from microtome.dictionaries.nonlinearity import JumpReLU
from microtome.errors import FormatUnsupported, HookUnknown
from microtome.models import Site
from microtome.shapes import Tensor

FILE = "params.npz"
_SHAPES: Shapes = {"W_enc": ("d_in", "n"), "W_dec": ("n", "d_out"), "b_enc": ("n",), "b_dec": ("d_out",), "threshold": ("n",)}
_REPOSITORY = re.compile(r"gemma-scope-(\d+b)-(pt|it)-(res|mlp|att|transcoders)")
_KINDS = {"res": "resid_post", "mlp": "mlp_out", "att": "attn_heads", "transcoders": "mlp_in"}


class GemmaScope:
    """See the top of this file."""

    name = "gemma_scope"

    def detect(self, names: Collection[str]) -> tuple[str, ...]:
        return (FILE,) if FILE in names else ()

    def read(self, folder: Path, *, hints: Hints) -> Read:
        weights = own(read_npz(folder / FILE), where=str(folder / FILE))
        hook = hook_read(hints, lambda: _hook(hints.name))
        transcodes = hook.site.kind == "mlp_in"
        writes = hints.writes or (Site("mlp_out", hook.site.layer) if transcodes else hook.site)
        if hook.site == Site("embed"):
            scale = weights["W_enc"].shape[1] ** 0.5
            weights |= {"W_enc": weights["W_enc"] / scale, "W_dec": weights["W_dec"] * scale, "b_dec": weights["b_dec"] * scale}
        plain = Plain(reads=hook.site, writes=(writes,), nonlinearity=JumpReLU(), weights=weights)
        return Read(with_gain(plain, hook, hints).build(), _about(hints.name))

    def write(self, dictionary: Dictionary | DictionarySet, folder: Path, *, about: Mapping[str, Any]) -> None:
        raise read_only("Gemma Scope")


FORMATS.register("gemma_scope")(GemmaScope())


def own(stored: Mapping[str, Tensor], *, where: str) -> dict[str, Tensor]:
    """The tensors of one archive in our orientation."""
    renamed = {f"W_{name[2:]}" if name.startswith("w_") else name: tensor for name, tensor in stored.items()}
    weights = checked(renamed, _SHAPES, where=where, optional={"scaling_factor": ("n",)})
    factor = weights.pop("scaling_factor", None)
    if factor is not None and not bool((factor == 1).all()):
        what = "this Gemma Scope dictionary has scaling factors."
        raise FormatUnsupported(what, got="scaling_factor", wanted="none, or all 1", do="Fold them in before.")
    return {**weights, "W_enc": weights["W_enc"].T.contiguous(), "threshold": nonnegative(weights["threshold"])}


def _hook(name: str) -> Hook:
    repository, layer = _REPOSITORY.search(name), re.search(r"(?:^|/)layer_(\d+)(?:/|$)", name)
    if repository and re.search(r"(?:^|/)embedding(?:/|$)", name):
        return Hook(Site("embed"))
    if repository is None or layer is None:
        wanted = "…/gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71"
        do = 'Say where it sits: reads="L20.resid_post" (and writes=… for a transcoder).'
        raise HookUnknown("a Gemma Scope file says its site only by its path.", got=name, wanted=wanted, do=do)
    return Hook(Site(_KINDS[repository[3]], int(layer[1])), before_gain=repository[3] == "transcoders")


def _about(name: str) -> dict[str, Any]:
    found, width = _REPOSITORY.search(name), re.search(r"width_(\w+)/average_l0_(\d+)", name)
    model = {"model_name": f"google/gemma-2-{found[1]}{'-it' if found[2] == 'it' else ''}"} if found else {}
    return {**model, "average_l0": int(width[2])} if width else model
