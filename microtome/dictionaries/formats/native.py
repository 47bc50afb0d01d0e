"""The native format: an artifact of kind `dictionary` whose `weights.safetensors` holds the tensors and, in its header, what they mean.

Header key `dictionary`: `{"kind": "sae", "site": …, "nonlinearity": {"name": "topk", "k": 32}, "input_scale": …, "d_dict": …, "d_in": …}`.
Tensors (fp32): `W_enc [d_dict, d_in]`, `W_dec [d_dict, d_in]`, `b_enc [d_dict]`, `b_dec [d_in]`.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from microtome.artifacts import Artifact, Draft, place_atomic
from microtome.dictionaries.nonlinearity import nonlinearity_from_json, nonlinearity_to_json
from microtome.dictionaries.sae import SAE
from microtome.errors import DictionaryInvalid
from microtome.models import Site
from microtome.shapes import Tensor

WEIGHTS = "weights.safetensors"
_KEYS = ("kind", "site", "nonlinearity", "input_scale", "d_dict", "d_in")


def save(dictionary: SAE, draft: Draft) -> None:
    """Write the weights into an artifact that is being made."""
    with place_atomic(draft.path / WEIGHTS) as temporary:
        tensors = {name: weight.detach().cpu().contiguous() for name, weight in dictionary.weights().items()}
        save_file(tensors, temporary, metadata={"dictionary": json.dumps(_header(dictionary), sort_keys=True)})


def load_dictionary(path: str | Path) -> SAE:
    """Open the dictionary artifact at `path`.

    Raises `ArtifactMissing`, `ArtifactForeign` or `ArtifactDamaged` for the folder, `DictionaryInvalid` for what the file holds.
    """
    return read_weights(Artifact.open(path, "dictionary").file(WEIGHTS))


def read_weights(file: Path) -> SAE:
    """Read one `weights.safetensors`."""
    try:
        with safe_open(file, framework="pt") as opened:
            stored = dict(opened.metadata() or {})
            tensors: dict[str, Tensor] = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # not a mapping
    except SafetensorError as error:
        raise _invalid(file, str(error), "a safetensors file") from error
    header = _parsed(file, stored)
    nonlinearity = nonlinearity_from_json(header["nonlinearity"])
    sae = SAE(site=Site.parse(header["site"]), nonlinearity=nonlinearity, weights=tensors, input_scale=header["input_scale"])
    if (sae.d_dict, sae.d_in) != (header["d_dict"], header["d_in"]):
        raise _invalid(file, f"({sae.d_dict}, {sae.d_in})", f"({header['d_dict']}, {header['d_in']}), as its header says")
    return sae


def _header(dictionary: SAE) -> dict[str, Any]:
    return {
        "kind": "sae",
        "site": str(dictionary.reads),
        "nonlinearity": nonlinearity_to_json(dictionary.nonlinearity),
        "input_scale": dictionary.input_scale,
        "d_dict": dictionary.d_dict,
        "d_in": dictionary.d_in,
    }


def _parsed(file: Path, stored: dict[str, str]) -> dict[str, Any]:
    try:
        header = json.loads(stored.get("dictionary", ""))
    except ValueError as error:
        raise _invalid(file, "no header that says what the tensors mean", ", ".join(_KEYS)) from error
    if not isinstance(header, dict) or set(header) != set(_KEYS) or header["kind"] != "sae":
        raise _invalid(file, f"the header {header}", f'the keys {", ".join(_KEYS)} and the kind "sae"')
    return header


def _invalid(file: Path, got: str, wanted: str) -> DictionaryInvalid:
    return DictionaryInvalid(f"{file} is not a microtome dictionary.", got=got, wanted=wanted, do="Check the file, or train the dictionary again.")
