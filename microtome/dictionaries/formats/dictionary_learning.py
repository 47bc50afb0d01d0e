"""dictionary_learning (Marks, Karvonen and others): `ae.pt`, a pickled state dict, and `config.json`. Read from the code of 0.1.0.

`trainer.dict_class` says which class the tensors are of:

| class | tensors | here |
|---|---|---|
| `AutoEncoder` | `encoder.weight [n, d]`, `encoder.bias`, `decoder.weight [d, n]`, `bias` (b_dec, subtracted from the input) | relu |
| `AutoEncoderNew` | the same with `decoder.bias`, not subtracted | relu |
| `AutoEncoderTopK`, `BatchTopKSAE` | as the first with `b_dec`, and buffers `k` and `threshold` | topk, batchtopk |
| `GatedAutoEncoder` | `encoder.weight`, `r_mag`, `gate_bias`, `mag_bias`, `decoder.weight`, `decoder_bias` (subtracted) | gated |
| `JumpReluAutoEncoder` | `W_enc [d, n]`, `W_dec [n, d]`, `b_enc`, `b_dec` (not subtracted), `threshold [n]` | jumprelu |
| `MatryoshkaBatchTopKSAE` | those names, `b_dec` subtracted, and buffers `k`, `threshold`, `group_sizes` | batchtopk |

A BatchTopK whose threshold was not found yet has -1 there, which keeps every positive activation. The pickle is read without running code. Its own
loader rescales the activations of an `AutoEncoder` to unit decoder rows; here they stay as they are stored.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from microtome.artifacts import place_atomic
from microtome.dictionaries.dictionary import Dictionary
from microtome.dictionaries.formats.format import FORMATS, Hints, Read, cannot_hold
from microtome.dictionaries.formats.hooks import Hook, labelled
from microtome.dictionaries.formats.plain import Plain, check_nonnegative, hook_read, nonnegative, plain_of, with_centring
from microtome.dictionaries.formats.tensors import Shapes, asked, checked, read_json, read_pickle
from microtome.dictionaries.layers import DictionarySet
from microtome.dictionaries.nonlinearity import BatchTopK, Gated, JumpReLU, Nonlinearity, ReLU, TopK
from microtome.errors import DictionaryInvalid, FormatUnsupported
from microtome.models import Site
from microtome.shapes import Tensor

CONFIG, WEIGHTS = "config.json", "ae.pt"
_SIZED = ("n",)
_LINEAR: Shapes = {"encoder.weight": ("n", "d"), "decoder.weight": ("d", "n")}
_RENAMED = {
    "encoder.weight": "W_enc",
    "decoder.weight": "W_dec",
    "encoder.bias": "b_enc",
    "r_mag": "r_mag",
    "mag_bias": "b_mag",
    "gate_bias": "b_enc",
}


class _Class(NamedTuple):
    """One `dict_class`: the shapes of its tensors, our name for each, and whether the bias is subtracted from the input."""

    shapes: Shapes
    names: Mapping[str, str]
    centred: bool = True


_MATRICES: Shapes = {"W_enc": ("d", "n"), "W_dec": ("n", "d"), "b_enc": _SIZED, "b_dec": ("d",)}
_K: Shapes = {"k": (), "threshold": ()}
_BIASED: Shapes = {**_LINEAR, "encoder.bias": _SIZED}
CLASSES = {
    "AutoEncoder": _Class({**_BIASED, "bias": ("d",)}, {**_RENAMED, "bias": "b_dec"}),
    "AutoEncoderNew": _Class({**_BIASED, "decoder.bias": ("d",)}, {**_RENAMED, "decoder.bias": "b_dec"}, centred=False),
    "AutoEncoderTopK": _Class({**_BIASED, "b_dec": ("d",), **_K}, {**_RENAMED, "b_dec": "b_dec"}),
    "BatchTopKSAE": _Class({**_BIASED, "b_dec": ("d",), **_K}, {**_RENAMED, "b_dec": "b_dec"}),
    "GatedAutoEncoder": _Class(
        {**_LINEAR, "r_mag": _SIZED, "gate_bias": _SIZED, "mag_bias": _SIZED, "decoder_bias": ("d",)}, {**_RENAMED, "decoder_bias": "b_dec"}
    ),
    "JumpReluAutoEncoder": _Class({**_MATRICES, "threshold": _SIZED}, {name: name for name in (*_MATRICES, "threshold")}, centred=False),
    "MatryoshkaBatchTopKSAE": _Class({**_MATRICES, **_K, "group_sizes": ("groups",)}, {name: name for name in _MATRICES}),
}
_WRITTEN: dict[type[Nonlinearity], str] = {
    ReLU: "AutoEncoder",
    TopK: "AutoEncoderTopK",
    BatchTopK: "BatchTopKSAE",
    Gated: "GatedAutoEncoder",
    JumpReLU: "JumpReluAutoEncoder",
}


class DictionaryLearning:
    """See the top of this file."""

    name = "dictionary_learning"

    def detect(self, names: Collection[str]) -> tuple[str, ...]:
        return (CONFIG, WEIGHTS) if {CONFIG, WEIGHTS} <= set(names) else ()

    def read(self, folder: Path, *, hints: Hints) -> Read:
        where = str(folder / CONFIG)
        config = read_json(folder / CONFIG)
        trainer = asked(config, "trainer", (dict,), where=where)
        name = asked(trainer, "dict_class", (str,), where=where)
        if name not in CLASSES:
            what = f"this dictionary_learning dictionary is a {name}."
            raise FormatUnsupported(what, got=name, wanted=", ".join(CLASSES), do="Use it in dictionary_learning.")
        kind = CLASSES[name]
        stored = checked(read_pickle(folder / WEIGHTS), kind.shapes, where=str(folder / WEIGHTS))
        weights = _from_theirs(stored, kind)
        hook = hook_read(hints, lambda: Hook(_site(trainer, config.get("buffer") or {}, where=where)))
        act = _nonlinearity(name, stored, trainer, where=where)
        plain = Plain(reads=hook.site, writes=(hook.site,), nonlinearity=act, weights=weights, centred=kind.centred)
        about = {key: value for key, value in trainer.items() if value is not None and key not in ("activation_dim", "dict_size")}
        return Read(plain.build(), {**about, "model_name": trainer.get("lm_name")} if trainer.get("lm_name") else about)

    def write(self, dictionary: Dictionary | DictionarySet, folder: Path, *, about: Mapping[str, Any]) -> None:
        plain = plain_of(dictionary, format_name=self.name)
        if not plain.is_sae:
            raise cannot_hold(self.name, "a transcoder", wanted="an SAE")
        if type(plain.nonlinearity) not in _WRITTEN:
            raise cannot_hold(self.name, f"the nonlinearity {plain.kind}", wanted="relu, topk, batchtopk, gated or jumprelu")
        if plain.reads.layer is None:
            raise cannot_hold(self.name, f"the site {plain.reads}", wanted="a site in a layer")
        name = _WRITTEN[type(plain.nonlinearity)]
        if name == "AutoEncoder" and not plain.centred:
            name = "AutoEncoderNew"
        plain = with_centring(plain, centred=CLASSES[name].centred)
        check_nonnegative(plain, format_name=self.name)
        tensors = _to_theirs(plain, CLASSES[name])
        d_dict, d_in = plain.weights["W_enc"].shape
        trainer = {"dict_class": name, "activation_dim": d_in, "dict_size": d_dict, "layer": plain.reads.layer}
        trainer |= {"lm_name": about.get("model_name"), "submodule_name": f"{plain.reads.kind}_layer_{plain.reads.layer}"}
        if "k" in tensors:
            trainer["k"] = int(tensors["k"])
        buffer = {"d_submodule": d_in, "io": "out", "ctx_len": about.get("context_size")}
        folder.mkdir(parents=True, exist_ok=True)
        with place_atomic(folder / WEIGHTS) as temporary:
            torch.save(tensors, temporary)
        with place_atomic(folder / CONFIG) as temporary:
            temporary.write_text(json.dumps({"trainer": trainer, "buffer": buffer}, indent=1))


FORMATS.register("dictionary_learning")(DictionaryLearning())


def _from_theirs(stored: Mapping[str, Tensor], kind: _Class) -> dict[str, Tensor]:
    own = {kind.names[name]: tensor for name, tensor in stored.items() if name in kind.names}
    transposed = "W_enc" if "W_enc" in stored else "W_dec"
    own[transposed] = own[transposed].T.contiguous()
    if "threshold" in own:
        own["threshold"] = nonnegative(own["threshold"])
    return own


def _to_theirs(plain: Plain, kind: _Class) -> dict[str, Tensor]:
    theirs: dict[str, Tensor] = {}
    for name, axes in kind.shapes.items():
        if name in kind.names:
            tensor = plain.weights[kind.names[name]]
            flipped = len(axes) == 2 and (axes == ("d", "n")) and kind.names[name] in ("W_enc", "W_dec")
            theirs[name] = (tensor.T if flipped else tensor).contiguous().clone()
    if "k" in kind.shapes:
        act = plain.nonlinearity
        assert isinstance(act, TopK | BatchTopK)
        threshold = act.threshold if isinstance(act, BatchTopK) else -1.0
        if threshold is None:
            raise cannot_hold("dictionary_learning", "a BatchTopK without its threshold", wanted="one that has been trained")
        theirs |= {"k": torch.tensor(act.k, dtype=torch.int32), "threshold": torch.tensor(threshold, dtype=torch.float32)}
    return theirs


def _nonlinearity(name: str, stored: Mapping[str, Tensor], trainer: Mapping[str, Any], *, where: str) -> Nonlinearity:
    if "k" in stored:
        k = int(stored["k"])
        if trainer.get("k", k) != k:
            do = "Check that config.json and ae.pt are of one run."
            raise DictionaryInvalid(f"{where} is not the config of these weights.", got=f"k = {k}", wanted=f"k = {trainer['k']}", do=do)
        return TopK(k=k) if name == "AutoEncoderTopK" else BatchTopK(k=k, threshold=float(stored["threshold"]))
    if name == "GatedAutoEncoder":
        return Gated()
    return JumpReLU() if name == "JumpReluAutoEncoder" else ReLU()


def _site(trainer: Mapping[str, Any], buffer: Mapping[str, Any], *, where: str) -> Site:
    """From the submodule's name where there is one; else the residual stream at a layer, after or (`io: in`) before its block."""
    if isinstance(trainer.get("submodule_name"), str):
        return labelled(trainer["submodule_name"])
    layer = asked(trainer, "layer", (int,), where=where)
    return Site("resid_pre" if buffer.get("io", "out") == "in" else "resid_post", layer)
