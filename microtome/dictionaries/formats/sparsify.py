"""sparsify (EleutherAI): one folder a hookpoint, `layers.3[.mlp]/cfg.json` and `sae.safetensors`. Read from the code of eai-sparsify 1.3.

`encoder.weight` is `[num_latents, d_in]` as ours is. An SAE reads x − b_dec, a transcoder x; a ReLU comes before the top k. `num_latents: 0` means
`expansion_factor` × d_in. The hookpoint is the name of the folder: an SAE sits at the module's output, a transcoder reads its input. A folder of
several hookpoints is a set. Files from before `activation` was a key may say `signed`: the k largest by size, with their signs.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from microtome.artifacts import place_atomic
from microtome.dictionaries.dictionary import Dictionary
from microtome.dictionaries.formats.format import FORMATS, Hints, Read, cannot_hold
from microtome.dictionaries.formats.hooks import Hook, module_hook, module_name
from microtome.dictionaries.formats.plain import Plain, hook_read, plain_of, with_centring
from microtome.dictionaries.formats.tensors import Shapes, asked, checked, known_keys, read_json, read_safetensors
from microtome.dictionaries.layers import DictionarySet
from microtome.dictionaries.nonlinearity import AbsTopK, TopK
from microtome.dictionaries.transcoder import Transcoder
from microtome.errors import DictionaryInvalid, FormatUnsupported

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"
_KEYS = (
    *("activation", "expansion_factor", "normalize_decoder", "num_latents", "k", "multi_topk", "skip_connection", "transcode", "d_in"),
    "signed",
)
_SHAPES: Shapes = {"encoder.weight": ("num_latents", "d_in"), "encoder.bias": ("num_latents",), "W_dec": ("num_latents", "d_in"), "b_dec": ("d_in",)}
_UNIT = 1e-4
"""How far from 1 the norm of a row may be that `normalize_decoder` says is a unit."""


class Sparsify:
    """See the top of this file."""

    name = "sparsify"

    def detect(self, names: Collection[str]) -> tuple[str, ...]:
        folders = [name.removesuffix(WEIGHTS) for name in names if name.rsplit("/", 1)[-1] == WEIGHTS]
        return tuple(sorted(folder + name for folder in folders if folder + CONFIG in names for name in (CONFIG, WEIGHTS)))

    def read(self, folder: Path, *, hints: Hints) -> Read:
        if (folder / WEIGHTS).is_file():
            return _read(folder, Path(hints.name).name, hints=hints)
        hookpoints = sorted(path.parent for path in folder.rglob(WEIGHTS))
        reads = {path: _read(path, path.name, hints=hints) for path in hookpoints}
        if len(reads) == 1:
            return next(iter(reads.values()))
        about = {str(path.relative_to(folder)): read.about for path, read in reads.items()}
        members = [read.dictionary for read in reads.values() if isinstance(read.dictionary, Dictionary)]
        return Read(DictionarySet(tuple(members)), about)

    def write(self, dictionary: Dictionary | DictionarySet, folder: Path, *, about: Mapping[str, Any]) -> None:
        if isinstance(dictionary, DictionarySet) and dictionary.kind != "layers":
            raise cannot_hold("sparsify", "a cross-layer set", wanted="one dictionary a hookpoint")
        members = dictionary.members if isinstance(dictionary, DictionarySet) else (dictionary,)
        plains = [_writable(member) for member in members]
        for plain in plains:
            _write(plain, folder / module_name(plain.writes[0]))


FORMATS.register("sparsify")(Sparsify())


def _read(folder: Path, hookpoint: str, *, hints: Hints) -> Read:
    where = str(folder / CONFIG)
    config = read_json(folder / CONFIG)
    known_keys(config, _KEYS, where=where)
    if config.get("activation", "topk") != "topk":
        got = str(config["activation"])
        raise FormatUnsupported(f"this sparsify dictionary has the activation {got}.", got=got, wanted="topk", do="Use it in sparsify.")
    skip: Shapes = {"W_skip": ("d_in", "d_in")} if config.get("skip_connection") else {}
    stored = checked(read_safetensors(folder / WEIGHTS), {**_SHAPES, **skip}, where=str(folder / WEIGHTS))
    weights = {"W_enc": stored.pop("encoder.weight"), "b_enc": stored.pop("encoder.bias"), **stored}
    _check_sizes(config, weights["W_enc"].shape[0], weights["W_enc"].shape[1], where=where)
    transcodes = bool(config.get("transcode", False))
    hook = hook_read(hints, lambda: Hook(module_hook(hookpoint, side="input" if transcodes else "output")))
    writes = (hints.writes or module_hook(hookpoint)) if transcodes else hook.site
    k = asked(config, "k", (int,), where=where)
    act = AbsTopK(k=k) if config.get("signed") else TopK(k=k)
    plain = Plain(reads=hook.site, writes=(writes,), nonlinearity=act, weights=weights, centred=not transcodes)
    if skip and not transcodes:
        raise FormatUnsupported("this sparsify SAE has a skip connection.", got="skip_connection", wanted="a transcoder", do="Use it in sparsify.")
    return Read(plain.build(), {key: config[key] for key in ("expansion_factor", "multi_topk", "normalize_decoder") if key in config})


def _check_sizes(config: Mapping[str, Any], num_latents: int, d_in: int, *, where: str) -> None:
    said_in = asked(config, "d_in", (int,), where=where)
    said = config.get("num_latents") or said_in * config.get("expansion_factor", 32)
    if (said, said_in) != (num_latents, d_in):
        got = f"{num_latents} latents of {d_in}"
        raise DictionaryInvalid(
            f"{where} is not the config of these weights.", got=got, wanted=f"{said} latents of {said_in}", do="Check the file's origin."
        )


def _writable(dictionary: Dictionary) -> Plain:
    """The dictionary as sparsify computes it: centred where it is an SAE, and with k features a row."""
    plain = plain_of(dictionary, format_name="sparsify")
    if not isinstance(plain.nonlinearity, TopK):
        raise cannot_hold("sparsify", f"the nonlinearity {plain.kind}", wanted="topk")
    shape = plain.weights["W_dec"].shape
    if shape != plain.weights["W_enc"].shape:
        raise cannot_hold("sparsify", f"a decoder of shape {tuple(shape)}", wanted="one site written, as wide as the one read")
    if len(plain.writes) != 1:
        raise cannot_hold("sparsify", f"a transcoder that writes {len(plain.writes)} sites", wanted="one that writes one")
    if isinstance(dictionary, Transcoder):
        module = module_name(plain.writes[0])
        if module_hook(module, side="input") != plain.reads:
            raise cannot_hold("sparsify", f"a transcoder from {plain.reads} to {plain.writes[0]}", wanted="a module's input and output")
        return plain
    return with_centring(plain, centred=True)


def _write(plain: Plain, folder: Path) -> None:
    own = plain.weights
    d_dict, d_in = own["W_enc"].shape
    tensors = {"encoder.weight": own["W_enc"], "encoder.bias": own["b_enc"], "W_dec": own["W_dec"], "b_dec": own["b_dec"]}
    if "W_skip" in own:
        tensors["W_skip"] = own["W_skip"]
    assert isinstance(plain.nonlinearity, TopK)
    config = {
        "activation": "topk",
        "expansion_factor": max(1, d_dict // d_in),
        "normalize_decoder": bool((own["W_dec"].norm(dim=1) - 1).abs().max() < _UNIT),
        "num_latents": d_dict,
        "k": plain.nonlinearity.k,
        "multi_topk": False,
        "skip_connection": "W_skip" in own,
        "transcode": not plain.centred,
        "d_in": d_in,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with place_atomic(folder / WEIGHTS) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
    with place_atomic(folder / CONFIG) as temporary:
        temporary.write_text(json.dumps(config))
