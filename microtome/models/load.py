"""Loads a model by its reference."""

import socket
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from huggingface_hub.constants import ENDPOINT as HF_ENDPOINT
from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer

from microtome.devices import pick_device, pick_dtype
from microtome.errors import MicrotomeError, ModelDamaged, ModelNotFound, ModelUnsupported, nearest
from microtome.models.gguf import converted, demo_folder, facts_of, quiet_transformers
from microtome.models.model import Model
from microtome.models.reference import KINDS_OF_REFERENCE, ModelRef, parse_ref
from microtome.models.selfcheck import selfcheck as check_model
from microtome.models.tiny import tiny
from microtome.models.tokens import Tokenizer
from microtome.progress import Progress


def load(ref: str | ModelRef, *, device: str = "auto", dtype: str = "float32", selfcheck: bool = True, progress: Progress | None = None) -> Model:
    """The model that `ref` names, ready to tap; see `microtome.models.reference` for what a reference can be.

    With `selfcheck` its sites are proved to mean what they say (three short forwards); `SelfCheckFailed` tells which does not. Raises
    `ModelNotFound`, `ModelDamaged`, `ModelUnsupported`, and `CarrierUnavailable` when the demo model cannot be downloaded.
    """
    reference = parse_ref(ref) if isinstance(ref, str) else ref
    kind, target = pick_dtype(dtype), pick_device(device)
    if reference.kind == "tiny":
        model = tiny(reference.name, seed=int(reference.revision or 0), dtype=kind, device=target)
    else:
        model = _pretrained(reference, kind, device=target, progress=progress)
    if selfcheck:
        check_model(model, thorough=False).raise_if_failed()
    return model


def _pretrained(reference: ModelRef, dtype: torch.dtype, *, device: torch.device, progress: Progress | None) -> Model:
    source, quantised = reference.name, None
    if reference.kind in ("demo", "gguf"):
        folder = demo_folder(progress=progress) if reference.kind == "demo" else converted(Path(reference.name).expanduser(), progress=progress)
        source, quantised = str(folder), facts_of(folder).get("quantised")
    elif reference.kind == "folder":
        source = str(Path(reference.name).expanduser())
        if not (Path(source) / "config.json").is_file():
            raise _not_found(reference, "a folder without config.json")
    where: dict[str, Any] = {}
    if reference.kind == "hub":
        where = {"revision": reference.revision or "main", "local_files_only": not _hub_is_reachable()}
    try:
        with quiet_transformers():
            asked: Any = {"dtype": dtype, "output_loading_info": True, "ignore_mismatched_sizes": True}
            loaded: Any = AutoModelForCausalLM.from_pretrained(source, **asked, **where)
            tokenizer: Any = AutoTokenizer.from_pretrained(source, **where)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise _named(error, reference) from error
    hf, account = loaded
    _check_complete(account, reference)
    return Model(hf.eval().requires_grad_(False).to(device), Tokenizer(tokenizer), ref=str(reference), quantised=quantised)


def _check_complete(account: Mapping[str, Collection[Any]], reference: ModelRef) -> None:
    """Refuse a model of whose weights some were not in its files: transformers fills those with random numbers.

    Weights that the model ties to others (an unembedding that is the embedding) count as there.
    """
    absent = sorted(map(str, account["missing_keys"])) + sorted(str(entry[0]) for entry in account["mismatched_keys"])
    if absent:
        got = f"{len(absent)} missing or of another shape: {', '.join(absent[:4])}{', …' if len(absent) > 4 else ''}"
        do = "Download or copy the model again, with all its safetensors files and its own config.json."
        raise ModelDamaged(f"the weights of {reference} are not complete.", got=got, wanted="every weight that its config calls for", do=do)


def _hub_is_reachable() -> bool:
    """Whether the hub's name resolves and its port answers, asked once: transformers would retry for most of a minute.

    With `HF_HUB_OFFLINE` nothing is asked. Behind a proxy the hub is taken to be reachable, since only the proxy knows.
    """
    if HF_HUB_OFFLINE:
        return False
    if getproxies().keys() & {"http", "https", "all"}:  # a lone no_proxy is none
        return True
    endpoint = urlsplit(HF_ENDPOINT)
    port = endpoint.port or (80 if endpoint.scheme == "http" else 443)
    try:
        socket.create_connection((endpoint.hostname or "", port), timeout=5).close()
    except OSError:
        return False
    return True


def _named(error: Exception, reference: ModelRef) -> MicrotomeError:
    """The error of ours that one of transformers means."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
    if isinstance(error, SafetensorError) or "size mismatch" in str(error):
        do = "Download or copy the model again."
        return ModelDamaged(f"the weights of {reference} are truncated or damaged.", got=said, wanted="whole safetensors files", do=do)
    if isinstance(error, OSError | HFValidationError):
        return _not_found(reference, said)
    do = "Use a causal language model whose code is part of transformers; no code is loaded from models."
    return ModelUnsupported(f"{reference} cannot be loaded as a causal language model.", got=said, wanted="a known architecture", do=do)


def _not_found(reference: ModelRef, got: str) -> ModelNotFound:
    do = nearest(reference.name, ["demo", *_cached_names()]) if reference.kind == "hub" else "Give a folder with config.json and safetensors."
    return ModelNotFound(f'there is no model "{reference}" that can be loaded.', got=got, wanted=KINDS_OF_REFERENCE, do=do)


def _cached_names() -> list[str]:
    """Hub models that are on this machine."""
    return sorted(entry.name.removeprefix("models--").replace("--", "/") for entry in Path(HF_HUB_CACHE).glob("models--*"))
