"""SAELens: `cfg.json` and `sae_weights.safetensors`, as written by version 6 and by those before it.

W_enc is `[d_in, d_sae]` there, W_dec `[d_sae, d_out]`, W_skip `[d_out, d_in]` applied as x W_skipᵀ. Read from the code of sae-lens 6.54:

- `rescale_acts_by_decoder_norm` multiplies pre-activations by the decoder row's norm and divides the decoder by it: folded on reading.
- `normalize_activations: expected_average_only_in` wants the input scaled by a number that only a checkpoint's `activation_scaler.json` holds.
- A JumpReLU takes a ReLU first, so a negative threshold means 0.
- BatchTopK and Matryoshka are saved for use as JumpReLU with one threshold; their training files hold `topk_threshold`.
- Before version 6 the keys were flat, named `hook_point` and `activation_fn_str`, and a missing architecture was `standard`.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from microtome.artifacts import place_atomic
from microtome.dictionaries.dictionary import Dictionary
from microtome.dictionaries.formats.format import FORMATS, Hints, Read, cannot_hold
from microtome.dictionaries.formats.hooks import Hook, lens_hook, lens_name, module_side
from microtome.dictionaries.formats.plain import (
    Plain,
    check_nonnegative,
    hook_read,
    nonnegative,
    plain_of,
    row,
    with_centring,
    with_gain,
)
from microtome.dictionaries.formats.tensors import Shapes, asked, checked, checked_scale, known_keys, read_json, read_safetensors
from microtome.dictionaries.layers import DictionarySet
from microtome.dictionaries.nonlinearity import AbsTopK, BatchTopK, Gated, JumpReLU, Nonlinearity, ReLU, TopK
from microtome.errors import FormatUnsupported
from microtome.shapes import Tensor

CONFIG, WEIGHTS, SCALER = "cfg.json", "sae_weights.safetensors", "activation_scaler.json"
_BATCH = ("batchtopk", "matryoshka_batchtopk")
_TRANSCODERS = ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")
_SAES = ("standard", "topk", "abstopk", "jumprelu", "gated", *_BATCH)
_METADATA = ("model_name", "model_class_name", "hook_head_index", "context_size", "prepend_bos", "dataset_path", "neuronpedia_id", "seqpos_slice")
_KEYS = (
    *("architecture", "d_in", "d_sae", "dtype", "device", "apply_b_dec_to_input", "normalize_activations", "reshape_activations", "metadata"),
    *("k", "rescale_acts_by_decoder_norm", "d_out", "sae_lens_version", "sae_lens_training_version", "finetuning_scaling_factor"),
)
_TRAINING_KEYS = (
    *("decoder_init_norm", "matryoshka_widths", "topk_threshold_lr", "aux_loss_coefficient", "use_sparse_activations", "l1_coefficient", "lp_norm"),
    *("l1_warm_up_steps", "l0_coefficient", "l0_warm_up_steps", "jumprelu_init_threshold", "jumprelu_bandwidth", "jumprelu_sparsity_loss_mode"),
    *("jumprelu_tanh_scale", "pre_act_loss_coefficient", "use_matryoshka_aux_loss", "include_outer_loss", "detach_matryoshka_losses"),
)
"""Known to change nothing once a dictionary is trained."""


class SAELens:
    """See the top of this file."""

    name = "saelens"

    def detect(self, names: Collection[str]) -> tuple[str, ...]:
        wanted = (CONFIG, WEIGHTS)
        return tuple(name for name in (*wanted, SCALER) if name in names) if set(wanted) <= set(names) else ()

    def read(self, folder: Path, *, hints: Hints) -> Read:
        file = folder / CONFIG
        stored = read_json(file)
        if _is_old(stored):
            config, metadata = _modern(stored)
        else:
            known_keys(stored, (*_KEYS, *_TRAINING_KEYS), where=str(file))
            config, metadata = stored, dict(stored.get("metadata") or {})
        about = {key: value for key, value in metadata.items() if value is not None and not key.startswith("hook_")}
        return Read(_read(folder, config, metadata, hints=hints), {**about, "architecture": config["architecture"]})

    def write(self, dictionary: Dictionary | DictionarySet, folder: Path, *, about: Mapping[str, Any]) -> None:
        plain = plain_of(dictionary, format_name=self.name)
        architecture, settings = _architecture(plain)
        plain = plain if plain.centred or plain.is_sae else with_centring(plain, centred=False)
        check_nonnegative(plain, format_name=self.name)
        metadata = {key: about[key] for key in _METADATA if key in about} | {"sae_lens_version": "6.0.0", "hook_name": lens_name(plain.reads)}
        if not plain.is_sae:
            metadata["hook_name_out"] = lens_name(plain.writes[0])
        tensors = _to_saelens(plain)
        d_in, d_sae = tensors["W_enc"].shape
        sizes = {"d_in": d_in, "d_sae": d_sae, "dtype": "float32", "device": "cpu", "apply_b_dec_to_input": plain.centred}
        fixed = {"normalize_activations": "none", "reshape_activations": "hook_z" if plain.reads.kind == "attn_heads" else "none"}
        folder.mkdir(parents=True, exist_ok=True)
        with place_atomic(folder / WEIGHTS) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
        with place_atomic(folder / CONFIG) as temporary:
            temporary.write_text(json.dumps({"architecture": architecture, **sizes, **fixed, **settings, "metadata": metadata}, indent=1))


FORMATS.register("saelens")(SAELens())


def _read(folder: Path, config: Mapping[str, Any], metadata: Mapping[str, Any], *, hints: Hints) -> Dictionary:
    where = str(folder / CONFIG)
    architecture = asked(config, "architecture", (str,), where=where)
    if architecture not in (*_SAES, *_TRANSCODERS):
        raise _unsupported(f'the architecture "{architecture}"', wanted="one of " + ", ".join((*_SAES, *_TRANSCODERS)))
    if metadata.get("hook_head_index") is not None and hints.reads is None:
        raise _unsupported(f"one head of a site ({metadata['hook_head_index']})", wanted="a whole site")
    scale = _input_scale(folder, config, hints)
    stored = read_safetensors(folder / WEIGHTS)
    wanted, optional = _shapes(architecture, stored)
    weights = _from_saelens(checked(stored, wanted, where=str(folder / WEIGHTS), optional=optional), config)
    nonlinearity = _nonlinearity(architecture, config, weights, where=where)
    weights.pop("topk_threshold", None)
    hook = hook_read(hints, lambda: _hook(metadata, ""))
    writes = hook.site if architecture in _SAES else hints.writes or _hook(metadata, "_out").site
    centred = architecture in _SAES and bool(config.get("apply_b_dec_to_input", True))
    factors = {"W_enc": scale, "W_dec": 1 / scale, "b_dec": 1 / scale}
    scaled = {name: weight * factors.get(name, 1.0) for name, weight in weights.items()}
    plain = Plain(reads=hook.site, writes=(writes,), nonlinearity=nonlinearity, weights=scaled, centred=centred)
    return with_gain(plain, hook, hints).build()


def _shapes(architecture: str, stored: Collection[str]) -> tuple[Shapes, Shapes]:
    """The tensors that an architecture must have, and those that it may have."""
    out = "d_in" if architecture in _SAES else "d_out"
    wanted: dict[str, tuple[str | int, ...]] = {"W_enc": ("d_in", "d_sae"), "W_dec": ("d_sae", out), "b_dec": (out,)}
    names = ["b_gate", "b_mag", "r_mag"] if architecture == "gated" else ["b_enc"]
    if "jumprelu" in architecture:
        names.append("log_threshold" if "log_threshold" in stored else "threshold")
    wanted |= dict.fromkeys(names, ("d_sae",))
    if architecture in _BATCH:
        wanted["topk_threshold"] = ()
    if "skip" in architecture:
        wanted["W_skip"] = ("d_out", "d_in")
    return wanted, dict.fromkeys(("scaling_factor", "finetuning_scaling_factor"), ("d_sae",))


def _from_saelens(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Our names and orientations, decoder norms and fine-tuning factors folded."""
    own = dict(tensors)
    for factor in [own.pop(name) for name in ("scaling_factor", "finetuning_scaling_factor") if name in own]:
        if not bool((factor == 1).all()) and not config.get("finetuning_scaling_factor"):
            raise _unsupported("a scaling factor that its config does not know", wanted="finetuning_scaling_factor: true")
        own["W_dec"] = own["W_dec"] * factor[:, None]
    own["W_enc"] = own["W_enc"].T.contiguous()
    if "b_gate" in own:
        own["b_enc"] = own.pop("b_gate")
    if config.get("rescale_acts_by_decoder_norm"):
        norm = own["W_dec"].norm(dim=1)
        own |= {"W_enc": own["W_enc"] * norm[:, None], "b_enc": own["b_enc"] * norm, "W_dec": own["W_dec"] / norm[:, None]}
    if "log_threshold" in own:
        own["threshold"] = own.pop("log_threshold").exp()
    if "threshold" in own:
        own["threshold"] = nonnegative(own["threshold"])
    return own


def _to_saelens(plain: Plain) -> dict[str, Tensor]:
    own = dict(plain.weights)
    own["W_enc"] = own["W_enc"].T
    if isinstance(plain.nonlinearity, Gated):
        own["b_gate"] = own.pop("b_enc")
    if isinstance(plain.nonlinearity, BatchTopK) and plain.nonlinearity.threshold is not None:
        own["threshold"] = row(torch.tensor(max(plain.nonlinearity.threshold, 0.0)), len(own["b_enc"]))
    return own


def _nonlinearity(architecture: str, config: Mapping[str, Any], weights: Mapping[str, Tensor], *, where: str) -> Nonlinearity:
    if architecture in ("topk", "abstopk"):
        k = asked(config, "k", (int,), where=where)
        return TopK(k=k) if architecture == "topk" else AbsTopK(k=k)
    if architecture in _BATCH:  # k may be a fraction there, and says nothing once the threshold is known
        return BatchTopK(k=max(1, round(asked(config, "k", (int, float), where=where))), threshold=float(weights["topk_threshold"]))
    if "jumprelu" in architecture:
        return JumpReLU()
    return Gated() if architecture == "gated" else ReLU()


def _architecture(plain: Plain) -> tuple[str, dict[str, Any]]:
    """What SAELens calls it, with the settings of that architecture; `FormatCannotHold` where it has none."""
    act = plain.nonlinearity
    if isinstance(act, BatchTopK) and act.threshold is None:
        raise cannot_hold("SAELens", "a BatchTopK without its threshold", wanted="one that has been trained")
    jumps = isinstance(act, JumpReLU | BatchTopK)
    if plain.is_sae:
        settings = {"k": act.k, "rescale_acts_by_decoder_norm": False} if isinstance(act, TopK | AbsTopK) else {}
        names = {"relu": "standard", "topk": "topk", "abstopk": "abstopk", "jumprelu": "jumprelu", "batchtopk": "jumprelu", "gated": "gated"}
        if plain.kind not in names:
            raise cannot_hold("SAELens", f"the nonlinearity {plain.kind}", wanted=", ".join(names))
        return names[plain.kind], settings
    if not (jumps or isinstance(act, ReLU)):
        raise cannot_hold("SAELens", f"a transcoder with {plain.kind}", wanted="relu, jumprelu or batchtopk")
    if len(plain.writes) > 1 or plain.weights["W_dec"].ndim != 2:
        raise cannot_hold("SAELens", f"a transcoder that writes {len(plain.writes)} sites", wanted="one that writes one")
    skips = "skip_" if "W_skip" in plain.weights else ""
    return f"{'jumprelu_' if jumps else ''}{skips}transcoder", {"d_out": plain.weights["W_dec"].shape[-1]}


def _is_old(stored: Mapping[str, Any]) -> bool:
    """Whether a config is from before version 6, when everything lay flat."""
    return "metadata" not in stored


def _modern(stored: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """An old config with today's keys, and what is metadata today. Old configs hold the whole training run; what is not known is about that."""
    renamed = {"hook_point": "hook_name", "hook_point_head_index": "hook_head_index", "activation_fn_str": "activation_fn"}
    flat = {renamed.get(key, key): value for key, value in stored.items()}
    config = {key: flat[key] for key in _KEYS if key in flat}
    config.setdefault("architecture", "standard")
    if flat.get("activation_fn", "relu") == "topk":
        config |= {"architecture": "topk", "k": (flat.get("activation_fn_kwargs") or {}).get("k", flat.get("k"))}
    elif flat.get("activation_fn", "relu") != "relu":
        raise _unsupported(f"the activation {flat['activation_fn']}", wanted="relu or topk")
    if isinstance(config.get("normalize_activations"), bool):
        config["normalize_activations"] = "expected_average_only_in" if config["normalize_activations"] else "none"
    return config, {key: flat[key] for key in (*_METADATA, "hook_name", "hook_name_out") if key in flat}


def _input_scale(folder: Path, config: Mapping[str, Any], hints: Hints) -> float:
    """The factor on the input that is not yet in the weights."""
    normalised = config.get("normalize_activations") or "none"
    if normalised == "none" or hints.input_scale is not None:
        return 1.0 if hints.input_scale is None else checked_scale(hints.input_scale, "input_scale")
    if normalised != "expected_average_only_in":
        raise _unsupported(f"a normalisation of every row ({normalised})", wanted="none, or expected_average_only_in")
    if not (folder / SCALER).is_file():
        what = "the weights are for inputs scaled to a mean norm of √d, and the factor is not there."
        do = "Give it: input_scale= √d_in divided by the mean norm of the model's activations at that site."
        raise FormatUnsupported(what, got="normalize_activations: expected_average_only_in", wanted=f"{SCALER}, or input_scale", do=do)
    where = str(folder / SCALER)
    return checked_scale(asked(read_json(folder / SCALER), "scaling_factor", (int, float), where=where), f"scaling_factor of {where}")


def _hook(metadata: Mapping[str, Any], side: str) -> Hook:
    """The place that the metadata names; the name in transformers' own modules counts first, because it is the more exact one."""
    module = metadata.get(f"hf_hook_name{side}")
    return Hook(module_side(module)) if isinstance(module, str) else lens_hook(asked(metadata, f"hook_name{side}", (str,), where="the metadata"))


def _unsupported(got: str, *, wanted: str) -> FormatUnsupported:
    return FormatUnsupported(f"this SAELens dictionary has {got}.", got=got, wanted=wanted, do="Use it in SAELens.")
