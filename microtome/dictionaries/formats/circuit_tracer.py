"""circuit-tracer: sets of transcoders, one a layer, and cross-layer transcoders. Read from the code of 0.5.0 and the layouts on the hub.

`config.yaml` says `model_kind`, `feature_input_hook` and `feature_output_hook` (the same in every layer).

- `transcoder_set`: `layer_{i}.safetensors` with `W_enc [F, d]`, `W_dec [F, d]`, `b_enc`, `b_dec`, perhaps `activation_function.threshold [F]` (then
  it is a JumpReLU, else a ReLU, or a TopK where the config says `activation: topk` and `k`), perhaps `W_skip [d, d]` **applied as x W_skipᵀ**. Or a
  list `transcoders:` of files elsewhere, in this layout or in those of Gemma Scope, index = layer.
- `cross_layer_transcoder`: `W_enc_{i}.safetensors` with `W_enc_{i} [F, d]`, `b_enc_{i}`, `b_dec_{i}`, perhaps `threshold_{i}` and `W_skip_{i}`
  **applied untransposed, x W_skip**; `W_dec_{i}.safetensors` with `W_dec_{i} [F, L − i, d]`, whose slot j writes to layer i + j.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save_file

from microtome.artifacts import place_atomic
from microtome.dictionaries.dictionary import Dictionary
from microtome.dictionaries.formats import gemma_scope, gemma_scope_2
from microtome.dictionaries.formats.format import FORMATS, Hints, Read, cannot_hold, made_set
from microtome.dictionaries.formats.hooks import Hook, lens_hook, lens_name
from microtome.dictionaries.formats.hub import file_of
from microtome.dictionaries.formats.plain import Plain, plain_of, with_centring, with_gain
from microtome.dictionaries.formats.tensors import Shapes, asked, checked, known_keys, read_npz, read_safetensors, read_yaml
from microtome.dictionaries.layers import DictionarySet
from microtome.dictionaries.nonlinearity import JumpReLU, ReLU, TopK
from microtome.dictionaries.transcoder import Transcoder
from microtome.errors import ArtifactConflict, DictionaryInvalid, FormatUnsupported
from microtome.models import Site
from microtome.shapes import Tensor

CONFIG = "config.yaml"
SET, CROSS = "transcoder_set", "cross_layer_transcoder"
_KEYS = ("model_name", "model_kind", "feature_input_hook", "feature_output_hook", "transcoders", "activation", "k", "special_load_fn", "scan")
_LAYER = re.compile(r"layer_(\d+)\.safetensors")
_SHARD = re.compile(r"W_(enc|dec)_(\d+)\.safetensors")
_SHAPES: Shapes = {"W_enc": ("F", "d_in"), "W_dec": ("F", "d_out"), "b_enc": ("F",), "b_dec": ("d_out",)}
_OPTIONAL: Shapes = {"activation_function.threshold": ("F",), "W_skip": ("d_out", "d_in"), "k": ()}


class CircuitTracer:
    """See the top of this file."""

    name = "circuit_tracer"

    def detect(self, names: Collection[str]) -> tuple[str, ...]:
        if CONFIG not in names:
            return ()
        return (CONFIG, *sorted(name for name in names if _LAYER.fullmatch(name) or _SHARD.fullmatch(name)))

    def read(self, folder: Path, *, hints: Hints) -> Read:
        where = str(folder / CONFIG)
        config = read_yaml(folder / CONFIG)
        known_keys(config, _KEYS, where=where)
        kind = asked(config, "model_kind", (str,), where=where)
        if kind not in (SET, CROSS):
            raise FormatUnsupported(f"this is a {kind}.", got=kind, wanted=f"{SET} or {CROSS}", do="Use it in circuit-tracer.")
        plains = _layers(folder, config, hints=hints) if kind == SET else _cross(folder, config, hints=hints)
        members = tuple(plain.build() for plain in plains)
        about = {key: config[key] for key in ("model_name", "scan") if config.get(key) is not None}
        return Read(made_set(members, "layers" if kind == SET else "cross-layer", hints=hints), about)

    def write(self, dictionary: Dictionary | DictionarySet, folder: Path, *, about: Mapping[str, Any]) -> None:
        if not isinstance(dictionary, DictionarySet):
            raise cannot_hold("circuit-tracer", "a dictionary of one layer", wanted="a set from layer 0 up")
        plains = [_writable(member) for member in dictionary.members]
        config = {"model_name": about.get("model_name"), "model_kind": SET if dictionary.kind == "layers" else CROSS}
        config |= _hooks(plains) | _activation(plains)
        per_layer = [
            _layer_files(layer, plain) if dictionary.kind == "layers" else _cross_files(layer, plain, layers=len(plains))
            for layer, plain in enumerate(plains)
        ]
        made = {file: tensors for files in per_layer for file, tensors in files.items()}
        _no_others(folder, made)
        folder.mkdir(parents=True, exist_ok=True)
        for file, tensors in made.items():
            with place_atomic(folder / file) as temporary:
                save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
        with place_atomic(folder / CONFIG) as temporary:
            temporary.write_text(yaml.safe_dump(config, sort_keys=False))


FORMATS.register("circuit_tracer")(CircuitTracer())


def _place(config: Mapping[str, Any], layer: int) -> tuple[Hook, Site]:
    hooks = [asked(config, f"feature_{side}_hook", (str,), where=CONFIG) for side in ("input", "output")]
    return lens_hook(hooks[0], layer=layer), lens_hook(hooks[1], layer=layer).site


def _layers(folder: Path, config: Mapping[str, Any], *, hints: Hints) -> list[Plain]:
    files = _listed(folder, config) if config.get("transcoders") else _numbered(folder, _LAYER)
    wanted = [layer for layer in range(len(files)) if hints.asks_for(_place(config, layer)[0].site)]
    return [_layer(files[layer], layer, config, hints=hints) for layer in wanted]


def _layer(file: Path, layer: int, config: Mapping[str, Any], *, hints: Hints) -> Plain:
    hook, writes = _place(config, layer)
    stored = read_npz(file) if file.suffix == ".npz" else read_safetensors(file)
    if file.suffix == ".npz":
        weights = gemma_scope.own(stored, where=str(file))
    elif "w_enc" in stored:
        weights = gemma_scope_2.own(stored, where=str(file))
    else:
        weights = checked(stored, _SHAPES, where=str(file), optional=_OPTIONAL)
    if "activation_function.threshold" in weights:
        weights["threshold"] = weights.pop("activation_function.threshold")
    k = int(weights.pop("k")) if "k" in weights else config.get("k")
    act = JumpReLU() if "threshold" in weights else ReLU()
    if config.get("activation") == "topk":
        act = TopK(k=asked({"k": k}, "k", (int,), where=CONFIG))
    return with_gain(Plain(reads=hook.site, writes=(writes,), nonlinearity=act, weights=weights), hook, hints)


def _cross(folder: Path, config: Mapping[str, Any], *, hints: Hints) -> list[Plain]:
    files = _listed(folder, config) if config.get("transcoders") else []
    files = files[:-1] if len(files) > 1 and files[-1] == files[-2] else files  # some configs name the last shard twice
    layers = len(files) or len([file for file in folder.iterdir() if file.name.startswith("W_enc_") and _SHARD.fullmatch(file.name)])
    if not layers:
        raise DictionaryInvalid(f"{folder} holds no layer.", got="no W_enc_0.safetensors", wanted="one file a layer", do="Give the whole folder.")
    plains: list[Plain] = []
    for layer in range(layers):
        hook, _ = _place(config, layer)
        if not hints.asks_for(hook.site):
            continue
        if files:
            weights = gemma_scope_2.own(read_safetensors(files[layer]), where=str(files[layer]), layer=layer, layers=layers)
        else:
            weights = _shard(folder, layer, layers=layers)
        writes = tuple(_place(config, later)[1] for later in range(layer, layers))
        act = JumpReLU() if "threshold" in weights else ReLU()
        plains.append(with_gain(Plain(reads=hook.site, writes=writes, nonlinearity=act, weights=weights), hook, hints))
    return plains


def _shard(folder: Path, layer: int, *, layers: int) -> dict[str, Tensor]:
    """The tensors of one source layer, without the number in their names, with the decoder of one write as a matrix."""
    stored: dict[str, Tensor] = {}
    for side in ("enc", "dec"):
        for name, tensor in read_safetensors(folder / f"W_{side}_{layer}.safetensors").items():
            stored[name.removesuffix(f"_{layer}")] = tensor
    wanted: Shapes = {"W_enc": ("F", "d_in"), "b_enc": ("F",), "b_dec": ("d_out",), "W_dec": ("F", layers - layer, "d_out")}
    optional: Shapes = {"threshold": ("F",), "W_skip": ("d_in", "d_out")}
    weights = checked(stored, wanted, where=f"layer {layer} of {folder}", optional=optional)
    if "W_skip" in weights:
        weights["W_skip"] = weights["W_skip"].T.contiguous()
    if layers - layer == 1:
        weights["W_dec"] = weights["W_dec"][:, 0]
    return weights


def _numbered(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    """The files of layers 0, 1, … with none left out."""
    found = {int(match[1]): file for file in folder.iterdir() if (match := pattern.fullmatch(file.name))}
    if not found or sorted(found) != list(range(len(found))):
        got = ", ".join(map(str, sorted(found))) or "none"
        raise DictionaryInvalid(f"{folder} does not hold every layer.", got=got, wanted="layers from 0 without a gap", do="Give the whole folder.")
    return [found[layer] for layer in range(len(found))]


def _listed(folder: Path, config: Mapping[str, Any]) -> list[Path]:
    """The files that the config names, downloaded where they are elsewhere. Early configs name them as {id, layer, filepath}."""
    listed = asked(config, "transcoders", (list,), where=CONFIG)
    entries = [str(asked(entry, "filepath", (str,), where=CONFIG)) if isinstance(entry, dict) else str(entry) for entry in listed]
    return [file_of(entry) if entry.startswith("hf://") else folder / entry for entry in entries]


def _no_others(folder: Path, made: Collection[str]) -> None:
    """Raise `ArtifactConflict` for layers of another set, with which those that are written would be read as one."""
    names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    others = sorted(name for name in names if name not in made and (_LAYER.fullmatch(name) or _SHARD.fullmatch(name)))
    if others:
        got = ", ".join(others[:6])
        raise ArtifactConflict(f"{folder} holds layers of another set.", got=got, wanted="an empty folder", do="Write to another folder.")


def _writable(member: Dictionary) -> Plain:
    plain = with_centring(plain_of(member, format_name="circuit-tracer"), centred=False)
    if not isinstance(plain.nonlinearity, ReLU | JumpReLU | TopK):
        raise cannot_hold("circuit-tracer", f"the nonlinearity {plain.kind}", wanted="relu, jumprelu or topk")
    if isinstance(member, Transcoder) and plain.weights["b_dec"].ndim != 1:
        raise cannot_hold("circuit-tracer", "a bias of its own for every write", wanted="one for the layer itself")
    return plain


def _hooks(plains: list[Plain]) -> dict[str, str]:
    """The two hooks that hold for every layer; the sites must be those of layers 0, 1, … and of one kind."""
    for layer, plain in enumerate(plains):
        wanted = (Site(plains[0].reads.kind, layer), Site(plains[0].writes[0].kind, layer)) if plains[0].reads.layer == 0 else ()
        if (plain.reads, plain.writes[0]) != wanted:
            raise cannot_hold("circuit-tracer", f"{plain.reads} to {plain.writes[0]} as layer {layer}", wanted="one kind of site, layers from 0")
    return {f"feature_{side}_hook": lens_name(site).split(".", 2)[2] for side, site in (("input", plains[0].reads), ("output", plains[0].writes[0]))}


def _activation(plains: list[Plain]) -> dict[str, Any]:
    kinds = {plain.nonlinearity for plain in plains}
    if len(kinds) > 1:
        raise cannot_hold("circuit-tracer", "layers with different nonlinearities", wanted="the same in every layer")
    act = plains[0].nonlinearity
    return {"activation": "topk", "k": act.k} if isinstance(act, TopK) else {}


def _layer_files(layer: int, plain: Plain) -> dict[str, dict[str, Tensor]]:
    if len(plain.writes) > 1:
        raise cannot_hold("circuit-tracer", "several writes in a set of layers", wanted='a set with kind="cross-layer"')
    tensors = dict(plain.weights)
    tensors["W_dec"] = tensors["W_dec"].reshape(len(tensors["b_enc"]), -1)
    if "threshold" in tensors:
        tensors["activation_function.threshold"] = tensors.pop("threshold")
    return {f"layer_{layer}.safetensors": tensors}


def _cross_files(layer: int, plain: Plain, *, layers: int) -> dict[str, dict[str, Tensor]]:
    """Encoder and decoder shard of one source layer; tied decoders are written out once a layer."""
    if isinstance(plain.nonlinearity, TopK):
        raise cannot_hold("circuit-tracer", "a cross-layer transcoder with topk", wanted="relu or jumprelu")
    if plain.writes != tuple(Site(plain.writes[0].kind, later) for later in range(layer, layers)):
        raise cannot_hold("circuit-tracer", f"layer {layer} that writes {len(plain.writes)} sites", wanted="its own and all later layers")
    tensors = {f"{name}_{layer}": tensor for name, tensor in plain.weights.items() if name != "W_dec"}
    if "W_skip" in plain.weights:
        tensors[f"W_skip_{layer}"] = plain.weights["W_skip"].T
    W_dec = plain.weights["W_dec"]
    W_dec = (W_dec[:, None] if W_dec.ndim == 2 else W_dec).expand(-1, layers - layer, -1)
    return {f"W_enc_{layer}.safetensors": tensors, f"W_dec_{layer}.safetensors": {f"W_dec_{layer}": W_dec}}
