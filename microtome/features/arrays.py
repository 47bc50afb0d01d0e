"""Arrays in safetensors files that are larger than memory: made in place and read in place, by memory map."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from microtome.errors import ArtifactDamaged

_CODES = {
    "U8": "u1",
    "BOOL": "?",
    "U16": "<u2",
    "U32": "<u4",
    "I32": "<i4",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
    "U64": "<u8",
    "I16": "<i2",
}
_NAMES = {np.dtype(code): name for name, code in _CODES.items()}

Array = np.ndarray[Any, np.dtype[Any]]


def create_arrays(path: Path, wanted: Mapping[str, tuple[Any, tuple[int, ...]]]) -> dict[str, Array]:
    """Lay out a safetensors file of zeros, `{name: (dtype, shape)}`, and map its arrays for writing (wider types first, so all are aligned)."""
    order = sorted(wanted, key=lambda name: (-np.dtype(wanted[name][0]).itemsize, name))
    header: dict[str, Any] = {}
    end = 0
    for name in order:
        dtype, shape = np.dtype(wanted[name][0]), wanted[name][1]
        size = dtype.itemsize * math.prod(shape)
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % 64)
    with path.open("wb") as handle:
        handle.write(len(text).to_bytes(8, "little") + text)
        handle.truncate(8 + len(text) + end)
    return _map(path, header, 8 + len(text), mode="r+")


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays as one safetensors file."""
    made = create_arrays(path, {name: (array.dtype, array.shape) for name, array in arrays.items()})
    for name, array in arrays.items():
        made[name][...] = array
    flush_arrays(made)


def open_arrays(path: Path) -> dict[str, Array]:
    """Map the arrays of a safetensors file for reading; nothing is read until it is used."""
    with path.open("rb") as handle:
        size = int.from_bytes(handle.read(8), "little")
        raw = handle.read(size) if size < 100_000_000 else b""
    try:
        header = json.loads(raw)
    except ValueError as error:
        raise ArtifactDamaged(
            f"{path} is damaged.", got="a header that is not JSON", wanted="a safetensors file", do="Make the index again."
        ) from error
    header.pop("__metadata__", None)
    return _map(path, header, 8 + size, mode="r")


def _map(path: Path, header: Mapping[str, Any], start: int, *, mode: Any) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for name, facts in header.items():
        dtype, shape = np.dtype(_CODES[facts["dtype"]]), tuple(facts["shape"])
        if math.prod(shape) == 0:
            arrays[name] = np.empty(shape, dtype)
        else:
            arrays[name] = np.memmap(path, dtype=dtype, mode=mode, offset=start + facts["data_offsets"][0], shape=shape)
    return arrays


def flush_arrays(arrays: Mapping[str, Array]) -> None:
    """Write what was put into mapped arrays to the disk."""
    for array in arrays.values():
        if isinstance(array, np.memmap):
            array.flush()
