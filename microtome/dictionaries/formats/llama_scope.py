"""Llama Scope (He et al. 2024): `hyperparams.json` and `checkpoints/final.safetensors`.

`encoder.weight [n, d]`, `encoder.bias`, `decoder.weight [d, n]`, `decoder.bias`, b_dec not subtracted from the input. With
s = √d / dataset_average_activation_norm.in and t the same for `out`, the dictionary sees s x and says t y. A JumpReLU's single threshold θ is
compared with the pre-activation in the model's own units, W_enc x + b_enc / s, times the norm of the feature's decoder row where
`sparsity_include_decoder_norm`: so compute both OpenMOSS's library, which folds s before it applies θ, and SAELens' reader. The threshold of
feature i is therefore s θ / |W_dec,i| here.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from microtome.dictionaries.dictionary import Dictionary
from microtome.dictionaries.formats.format import FORMATS, Hints, Read, read_only
from microtome.dictionaries.formats.hooks import lens_hook
from microtome.dictionaries.formats.plain import Plain, hook_read, row, with_gain
from microtome.dictionaries.formats.tensors import Shapes, asked, checked, checked_scale, read_json, read_safetensors
from microtome.dictionaries.layers import DictionarySet
from microtome.dictionaries.nonlinearity import JumpReLU, Nonlinearity, ReLU, TopK
from microtome.errors import FormatUnsupported
from microtome.shapes import Tensor

CONFIG, FILE = "hyperparams.json", "checkpoints/final.safetensors"
_SHAPES: Shapes = {"encoder.weight": ("n", "d"), "encoder.bias": ("n",), "decoder.weight": ("d", "n"), "decoder.bias": ("d",)}


class LlamaScope:
    """See the top of this file."""

    name = "llama_scope"

    def detect(self, names: Collection[str]) -> tuple[str, ...]:
        return (CONFIG, FILE) if {CONFIG, FILE} <= set(names) else ()

    def read(self, folder: Path, *, hints: Hints) -> Read:
        where = str(folder / CONFIG)
        config = read_json(folder / CONFIG)
        stored = checked(read_safetensors(folder / FILE), _SHAPES, where=str(folder / FILE))
        into, out = _scales(config, stored["decoder.bias"].shape[0], where=where)
        W_dec = stored["decoder.weight"].T.contiguous()
        weights = {"W_enc": stored["encoder.weight"], "W_dec": W_dec, "b_enc": stored["encoder.bias"], "b_dec": stored["decoder.bias"]}
        act, own = _nonlinearity(config, weights, into=into, where=where)
        factors = {"W_enc": into, "W_dec": 1 / out, "b_dec": 1 / out}
        scaled = {name: weight * factors.get(name, 1.0) for name, weight in own.items()}
        hook = hook_read(hints, lambda: lens_hook(asked(config, "hook_point_in", (str,), where=where)))
        same = config.get("hook_point_out", config.get("hook_point_in")) == config.get("hook_point_in")
        writes = hook.site if same else hints.writes or lens_hook(config["hook_point_out"]).site
        plain = Plain(reads=hook.site, writes=(writes,), nonlinearity=act, weights=scaled)
        return Read(with_gain(plain, hook, hints).build(), {key: config[key] for key in ("top_k", "expansion_factor") if key in config})

    def write(self, dictionary: Dictionary | DictionarySet, folder: Path, *, about: Mapping[str, Any]) -> None:
        raise read_only("Llama Scope")


FORMATS.register("llama_scope")(LlamaScope())


def _scales(config: Mapping[str, Any], d_model: int, *, where: str) -> tuple[float, float]:
    """√d / mean norm, of what is read and of what is written; 1 where the norms are folded already."""
    norm = config.get("norm_activation", "dataset-wise")
    if norm in ("inference", "none"):
        return 1.0, 1.0
    if norm != "dataset-wise":
        got = f"norm_activation: {norm}"
        raise FormatUnsupported("this Llama Scope dictionary normalises every row.", got=got, wanted="dataset-wise", do="Use it in its own library.")
    norms = asked(config, "dataset_average_activation_norm", (dict,), where=where)
    into, out = (checked_scale(asked(norms, side, (int, float), where=where), f"the norm `{side}` of {where}") for side in ("in", "out"))
    return d_model**0.5 / into, d_model**0.5 / out


def _nonlinearity(config: Mapping[str, Any], weights: dict[str, Tensor], *, into: float, where: str) -> tuple[Nonlinearity, dict[str, Tensor]]:
    """The nonlinearity, and the weights with what it needs: thresholds, or decoder rows of norm 1 where a TopK ranks by that norm."""
    name = str(asked(config, "act_fn", (str,), where=where)).lower()
    norm = weights["W_dec"].norm(dim=1) if config.get("sparsity_include_decoder_norm") else torch.ones(len(weights["W_dec"]))
    if name == "jumprelu":
        threshold = float(asked(config, "jump_relu_threshold", (int, float), where=where))
        return JumpReLU(), {**weights, "threshold": row(torch.tensor(threshold * into), len(norm)) / norm}
    if name == "topk":
        folded = {"W_enc": weights["W_enc"] * norm[:, None], "b_enc": weights["b_enc"] * norm, "W_dec": weights["W_dec"] / norm[:, None]}
        return TopK(k=asked(config, "top_k", (int,), where=where)), {**weights, **folded}
    if name == "relu":
        return ReLU(), weights
    raise FormatUnsupported(
        f"this Llama Scope dictionary has the activation {name}.", got=name, wanted="jumprelu, topk or relu", do="Use its own library."
    )
