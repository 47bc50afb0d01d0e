"""Gemma Scope 2: `{site}/layer_L_width_W_l0_S/params.safetensors` and perhaps `config.json`; a cross-layer transcoder has one file a layer.

`w_enc [d, n]`, `w_dec [n, d]` (of a cross-layer transcoder `[n, layers, d]`, slot j for layer j; the slots of earlier layers are not used), `b_enc`,
`b_dec`, `threshold`, perhaps `affine_skip_connection [d_in, d_out]` applied as x A. JumpReLU, b_dec not subtracted from the input. `config.json`
names the modules (`hf_hook_point_in`, `…_out`); without it the folder's name says the site.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from microtome.dictionaries.dictionary import Dictionary
from microtome.dictionaries.formats.format import FORMATS, Hints, Read, made_set, read_only
from microtome.dictionaries.formats.hooks import module_side
from microtome.dictionaries.formats.plain import Plain, nonnegative
from microtome.dictionaries.formats.tensors import Shapes, checked, read_json, read_safetensors
from microtome.dictionaries.layers import DictionarySet
from microtome.dictionaries.nonlinearity import JumpReLU
from microtome.errors import DictionaryInvalid, FormatUnsupported, HookUnknown
from microtome.models import Site
from microtome.shapes import Tensor

CONFIG, FILE = "config.json", "params.safetensors"
_SHARD = re.compile(r"params_layer_(\d+)\.safetensors")
_SHAPES: Shapes = {"w_enc": ("d_in", "n"), "b_enc": ("n",), "b_dec": ("d_out",), "threshold": ("n",)}
_KINDS = {"resid_post": "resid_post", "attn_out": "attn_heads", "mlp_out": "mlp_out", "transcoder": "mlp_in", "clt": "mlp_in"}
"""What the first folder of a path says about the site."""


class GemmaScope2:
    """See the top of this file."""

    name = "gemma_scope_2"

    def detect(self, names: Collection[str]) -> tuple[str, ...]:
        weights = [name for name in names if name == FILE or _SHARD.fullmatch(name)]
        return (*sorted(weights), *([CONFIG] if CONFIG in names else [])) if weights else ()

    def read(self, folder: Path, *, hints: Hints) -> Read:
        config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
        if config.get("architecture", "jump_relu") != "jump_relu":
            got = str(config["architecture"])
            raise FormatUnsupported(f"this Gemma Scope 2 dictionary is a {got}.", got=got, wanted="jump_relu", do="Ask for support of it.")
        model = str(config.get("model_name") or "").replace("-v3", "-3")
        about = {"model_name": model if "/" in model else f"google/{model}"} if model else {}
        if (folder / FILE).is_file():
            return Read(_single(folder / FILE, config, hints=hints).build(), about)
        return Read(_cross_layer(folder, hints=hints), about)

    def write(self, dictionary: Dictionary | DictionarySet, folder: Path, *, about: Mapping[str, Any]) -> None:
        raise read_only("Gemma Scope 2")


FORMATS.register("gemma_scope_2")(GemmaScope2())


def own(stored: Mapping[str, Tensor], *, where: str, layer: int | None = None, layers: int = 0) -> dict[str, Tensor]:
    """The tensors of one file in our names and orientation; with `layer`, those of one of the `layers` of a cross-layer transcoder."""
    decoder: Shapes = {"w_dec": ("n", "d_out") if layer is None else ("n", layers, "d_out")}
    stored = checked(stored, {**_SHAPES, **decoder}, where=where, optional={"affine_skip_connection": ("d_in", "d_out")})
    W_dec = stored["w_dec"] if layer is None else stored["w_dec"][:, layer:].squeeze(1)
    weights = {"W_enc": stored["w_enc"].T.contiguous(), "W_dec": W_dec.contiguous(), "b_enc": stored["b_enc"], "b_dec": stored["b_dec"]}
    if "affine_skip_connection" in stored:
        weights["W_skip"] = stored["affine_skip_connection"].T.contiguous()
    return {**weights, "threshold": nonnegative(stored["threshold"])}


def _single(file: Path, config: Mapping[str, Any], *, hints: Hints) -> Plain:
    reads, writes = hints.reads, hints.writes
    if reads is None:
        into, out = config.get("hf_hook_point_in"), config.get("hf_hook_point_out")
        reads = module_side(into) if isinstance(into, str) else _named(hints.name)
        if writes is None and isinstance(out, str):
            writes = module_side(out)
    if writes is None:
        writes = Site("mlp_out", reads.layer) if reads.kind == "mlp_in" else reads
    return Plain(reads=reads, writes=(writes,), nonlinearity=JumpReLU(), weights=own(read_safetensors(file), where=str(file)))


def _cross_layer(folder: Path, *, hints: Hints) -> DictionarySet:
    if "crosscoder" in hints.name:
        raise FormatUnsupported("this is a crosscoder of Gemma Scope 2.", got=hints.name, wanted="an SAE, transcoder or CLT", do="Read another one.")
    files = {int(match[1]): file for file in folder.iterdir() if (match := _SHARD.fullmatch(file.name))}
    if sorted(files) != list(range(len(files))):
        got = ", ".join(map(str, sorted(files)))
        raise DictionaryInvalid(f"{folder} does not hold every layer.", got=got, wanted="layers from 0 without a gap", do="Give the whole folder.")
    members: list[Dictionary] = []
    for layer in [layer for layer in range(len(files)) if hints.asks_for(Site("mlp_in", layer))]:
        weights = own(read_safetensors(files[layer]), where=str(files[layer]), layer=layer, layers=len(files))
        writes = tuple(Site("mlp_out", later) for later in range(layer, len(files)))
        plain = Plain(reads=Site("mlp_in", layer), writes=writes, nonlinearity=JumpReLU(), weights=weights)
        members.append(plain.build())
    return made_set(members, "cross-layer", hints=hints)


def _named(name: str) -> Site:
    """The site that a path `…/transcoder_all/layer_3_width_16k_l0_small` says."""
    layer = re.search(r"layer_(\d+)_", name)
    kinds = [kind for part, kind in _KINDS.items() if re.search(rf"(?:^|/){part}(?:_all)?/", name)]
    if layer is None or not kinds:
        wanted = "resid_post/layer_9_width_16k_l0_small, or a config.json"
        raise HookUnknown("the path does not say where this dictionary sits.", got=name, wanted=wanted, do='Say it: reads="L9.resid_post".')
    return Site(kinds[0], int(layer[1]))
