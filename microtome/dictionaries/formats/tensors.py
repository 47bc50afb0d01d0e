"""Reading the tensors of foreign files, strictly: every way in which a file can be wrong has its message."""

import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors import SafetensorError, safe_open

from microtome.dictionaries.encoder import check_scale
from microtome.errors import DictionaryInvalid, PickleRefused, nearest
from microtome.shapes import Tensor

_MOST_EXPANDED, _ALWAYS_FINE = 64, 1 << 26
"""Times its size that an archive may unpack to, and the bytes that it may in any case: weights hardly compress."""
_COUNTS = ("k", "group_sizes")
"""The only tensors of whole numbers that a file of weights has."""
Shapes = Mapping[str, tuple[str | int, ...]]
"""The shape of each tensor, its axes named or numbered; one name means one size in all of them."""


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """All tensors of one file; `DictionaryInvalid` when it is missing, truncated or something else."""
    try:
        with safe_open(present(file), framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # not a mapping
    except SafetensorError as error:
        raise unreadable(file, error, "a whole safetensors file") from error


def read_npz(file: Path) -> dict[str, Tensor]:
    """All arrays of a NumPy archive; one that holds Python objects raises `PickleRefused`, one that unpacks to very much `DictionaryInvalid`."""
    try:
        with present(file).open("rb") as bytes_of_it, zipfile.ZipFile(bytes_of_it) as archive:
            _no_bomb(file, archive)
            with np.load(bytes_of_it, allow_pickle=False) as opened:
                return {name: torch.from_numpy(np.array(opened[name])) for name in opened.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, MemoryError) as error:
        raise unreadable(file, error, "a whole .npz archive") from error
    except (ValueError, TypeError) as error:
        if "Object arrays" not in str(error):
            raise unreadable(file, error, "arrays of numbers") from error
        raise _pickled(file, error) from error


def read_pickle(file: Path) -> dict[str, Tensor]:
    """The tensors of a `torch.save`d state dict, read without running code; anything else in it raises `PickleRefused`.

    What unpacks to far more than the file, or claims more elements than it holds, raises `DictionaryInvalid` before memory is asked for.
    """
    try:
        if zipfile.is_zipfile(present(file)):
            with zipfile.ZipFile(file) as archive:
                _no_bomb(file, archive)
        loaded: Any = torch.load(present(file), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _pickled(file, error) from error
    except (zipfile.BadZipFile, zlib.error, struct.error) as error:
        raise unreadable(file, error, "a whole file of torch.save") from error
    except (RuntimeError, EOFError, OSError, ValueError, TypeError, LookupError, AttributeError, AssertionError, MemoryError) as error:
        raise unreadable(file, error, "a whole file of torch.save") from error  # what a damaged pickle does to its reader
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise DictionaryInvalid(
            f"{file} is not a state dict.", got=type(loaded).__name__, wanted="tensors by name", do="Give the file with the weights."
        )
    return {str(name): _held(value, str(name), file) for name, value in loaded.items()}


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object."""
    return _object(file, _parsed_json(file))


def read_yaml(file: Path) -> dict[str, Any]:
    """A YAML mapping."""
    try:
        return _object(file, yaml.safe_load(present(file).read_text()))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise unreadable(file, error, "YAML") from error


def known_keys(stored: Mapping[str, Any], known: Iterable[str], *, where: str) -> None:
    """Raise `DictionaryInvalid` for the first key that is not in `known`: it might mean something that would be lost."""
    options = sorted(known)
    for key in stored:
        if key not in options:
            raise DictionaryInvalid(f'{where} has the unknown key "{key}".', got=key, wanted=", ".join(options), do=nearest(key, options))


def asked(stored: Mapping[str, Any], key: str, kinds: tuple[type, ...], *, where: str) -> Any:
    """`stored[key]`, which must be there and of one of these types."""
    if key not in stored:
        do = "Give the whole folder as its library wrote it."
        raise DictionaryInvalid(f'{where} lacks the key "{key}".', got=", ".join(stored) or "nothing", wanted=key, do=do)
    value = stored[key]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise DictionaryInvalid(f'the key "{key}" of {where} has another type.', got=repr(value), wanted=wanted, do="Correct the file.")
    return value


def checked(tensors: Mapping[str, Tensor], wanted: Shapes, *, where: str, optional: Shapes | None = None) -> dict[str, Tensor]:
    """The tensors in fp32, once their names, shapes and values are in order.

    Raises `DictionaryInvalid` for an unknown, a missing, a misshapen or a non-finite one. Axes are named by the first tensor that has them.
    """
    shapes: dict[str, tuple[str | int, ...]] = {**wanted, **(optional or {})}
    known_keys(tensors, shapes, where=where)
    sizes: dict[str, int] = {}
    found: dict[str, Tensor] = {}
    for name, axes in shapes.items():
        if name not in tensors:
            if name in wanted:
                got = ", ".join(sorted(tensors)) or "nothing"
                raise DictionaryInvalid(f"{where} lacks the tensor {name}.", got=got, wanted=name, do="Download or copy the file again.")
            continue
        tensor = tensors[name]
        expected = tuple(axis if isinstance(axis, int) else sizes.get(axis, size) for axis, size in zip(axes, tensor.shape, strict=False))
        if len(axes) != tensor.ndim or tuple(tensor.shape) != expected:
            spelt = f"({', '.join(f'{axis}={sizes[axis]}' if axis in sizes else str(axis) for axis in axes)})"
            raise DictionaryInvalid(f"{name} of {where} has the wrong shape.", got=tuple(tensor.shape), wanted=spelt, do="Check the file's origin.")
        sizes.update({axis: size for axis, size in zip(axes, tensor.shape, strict=True) if isinstance(axis, str)})
        found[name] = _finite(tensor, name, where)
    return found


def checked_scale(value: float, name: str) -> float:
    """`value` as a float, if it is positive and finite: weights are multiplied and divided by it."""
    check_scale(value, name)
    return float(value)


def present(file: Path) -> Path:
    """`file`, if it is one; otherwise `DictionaryInvalid`."""
    if not file.is_file():
        raise DictionaryInvalid(f"{file.name} is not there.", got=file, wanted="a file", do="Give the whole folder as its library wrote it.")
    return file


def unreadable(file: Path, error: Exception, wanted: str) -> DictionaryInvalid:
    """The error for a file that is damaged or of another kind than its name says."""
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return DictionaryInvalid(f"{file} cannot be read.", got=reason, wanted=wanted, do="Download or copy the file again.")


def _finite(tensor: Tensor, name: str, where: str) -> Tensor:
    if not tensor.is_floating_point() and name not in _COUNTS:
        do = "Give the weights themselves: a quantised file means nothing without its scales."
        raise DictionaryInvalid(f"{name} of {where} does not hold real numbers.", got=tensor.dtype, wanted="a floating-point type", do=do)
    real = tensor.float() if tensor.is_floating_point() else tensor
    bad = int((~real.isfinite()).sum())
    if bad:
        raise DictionaryInvalid(
            f"{name} of {where} holds values that are not finite.", got=f"{bad} of them", wanted="none", do="Check the file's origin."
        )
    return real.contiguous() if tensor.is_floating_point() else tensor


def _held(tensor: Tensor, name: str, file: Path) -> Tensor:
    """A tensor that is there, element for element: not a sparse, absent or endlessly repeated one."""
    there = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not there or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        got = f"{tuple(tensor.shape)}, {tensor.layout}, on {tensor.device}"
        raise DictionaryInvalid(f"{name} of {file} is not stored element for element.", got=got, wanted="a dense tensor", do="Save it as one.")
    return tensor.detach()


def _no_bomb(file: Path, archive: zipfile.ZipFile) -> None:
    unpacked, stored = sum(entry.file_size for entry in archive.infolist()), file.stat().st_size
    if unpacked > max(_ALWAYS_FINE, _MOST_EXPANDED * stored):
        got, wanted = f"{unpacked:,} bytes from {stored:,}", f"at most {_MOST_EXPANDED} times its size"
        raise DictionaryInvalid(f"{file} unpacks to far more than weights do.", got=got, wanted=wanted, do="Check the file's origin.")


def _parsed_json(file: Path) -> object:
    try:
        return json.loads(present(file).read_text())
    except (ValueError, RecursionError) as error:
        raise unreadable(file, error, "JSON") from error


def _object(file: Path, parsed: object) -> dict[str, Any]:
    if not isinstance(parsed, dict):
        raise DictionaryInvalid(
            f"{file} holds no settings.", got=type(parsed).__name__, wanted="keys and values", do="Give the file its library wrote."
        )
    return {str(key): value for key, value in parsed.items()}


def _pickled(file: Path, error: Exception) -> PickleRefused:
    do = "Do not open it elsewhere unless you trust who made it; ask for safetensors."
    return PickleRefused(f"{file} holds more than tensors.", got=str(error).splitlines()[0][:160], wanted="tensors alone", do=do)
