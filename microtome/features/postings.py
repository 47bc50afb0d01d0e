"""Postings: which features fire on a token, and on which tokens a feature fires, both memory-mapped.

| file | holds |
|---|---|
| `forward-00000.safetensors` … (a shard each) | `indptr` i64 [tokens + 1], `ids` u16/u32 [nnz] ascending in a row, `values` [nnz], `keep` [tokens] |
| `inverted.safetensors` | `indptr` int64 [d_dict + 1], `positions` u32 [nnz] ascending in a feature, `values` [nnz] |

Tokens that are not kept have empty rows: specials, template words and attention sinks take no part in anything the index says.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from microtome.activations import ShardBlock
from microtome.dictionaries import Dictionary
from microtome.errors import ActivationsNotFinite
from microtome.features.arrays import Array, create_arrays, open_arrays, write_arrays

INVERTED = "inverted.safetensors"
_ROWS = 4096
"""Tokens encoded at a time."""


@dataclass(frozen=True, kw_only=True)
class Firings:
    """Where one feature fires, by position."""

    positions: Array
    values: Array

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The active features of consecutive tokens (CSR, `indptr[0] == 0`)."""

    indptr: Array
    ids: Array
    values: Array
    keep: Array


def forward_name(shard: int) -> str:
    """`forward-00000.safetensors`, …"""
    return f"forward-{shard:05d}.safetensors"


def write_forward(path: Path, block: ShardBlock, *, dictionary: Dictionary, values: str) -> None:
    """Encode the kept tokens of one shard and write them as compressed rows."""
    keep = block.keep
    counts = np.zeros(len(keep), dtype=np.int64)
    ids: list[Array] = []
    found: list[Array] = []
    with torch.no_grad():
        for start in range(0, len(keep), _ROWS):
            rows = torch.nonzero(keep[start : start + _ROWS]).squeeze(1) + start
            if not len(rows):
                continue
            csr = dictionary.encode(block.x[rows].float()).to_csr()
            stored = _stored(csr.values, dtype=values, near=block.start + start, dictionary=dictionary)
            active = stored > 0
            token = np.repeat(np.arange(len(rows)), np.diff(csr.indptr.numpy()))[active]
            counts[rows.numpy()] = np.bincount(token, minlength=len(rows))
            ids.append(csr.indices.numpy()[active].astype(id_dtype(dictionary.d_dict)))
            found.append(stored[active])
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    empty = [np.empty(0, dtype=id_dtype(dictionary.d_dict))], [np.empty(0, dtype=values)]
    arrays = {"indptr": indptr, "ids": np.concatenate(ids or empty[0]), "values": np.concatenate(found or empty[1]), "keep": keep.numpy()}
    write_arrays(path, arrays)


def id_dtype(d_dict: int) -> type[np.uint16] | type[np.uint32]:
    """The narrowest type that holds every feature number."""
    return np.uint16 if d_dict <= 1 << 16 else np.uint32


def write_inverted(
    path: Path, shards: Sequence[Path], *, d_dict: int, starts: Sequence[int], tick: Callable[[int], None] = lambda shard: None
) -> None:
    """Turn the rows of all shards around by a counting sort, a shard at a time, straight into the mapped file."""
    opened = [open_arrays(shard) for shard in shards]
    counts = np.zeros(d_dict, dtype=np.int64)
    for arrays in opened:
        counts += np.bincount(arrays["ids"], minlength=d_dict)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    dtype = opened[0]["values"].dtype if opened else np.dtype(np.float16)
    nnz = int(indptr[-1])
    made = create_arrays(path, {"indptr": (np.int64, (d_dict + 1,)), "positions": (np.uint32, (nnz,)), "values": (dtype, (nnz,))})
    made["indptr"][...] = indptr
    filled = indptr[:-1].copy()
    for shard, arrays in enumerate(opened):
        ids = np.asarray(arrays["ids"])
        order = np.argsort(ids, kind="stable")
        here = np.bincount(ids, minlength=d_dict)
        within = np.arange(len(ids)) - np.repeat(np.cumsum(here) - here, here)
        target = np.repeat(filled, here) + within
        position = np.repeat(np.arange(len(arrays["indptr"]) - 1, dtype=np.int64), np.diff(arrays["indptr"])) + starts[shard]
        made["positions"][target] = position[order]
        made["values"][target] = arrays["values"][order]
        filled += here
        tick(shard)
    for array in made.values():
        if isinstance(array, np.memmap):
            array.flush()


class Postings:
    """Both directions, opened for reading."""

    def __init__(self, forward: Sequence[Path], inverted: Path, *, ranges: Sequence[tuple[int, int]]) -> None:
        self.ranges = tuple(ranges)
        self._forward = [open_arrays(path) for path in forward]
        arrays = open_arrays(inverted)
        self.indptr: Array = np.asarray(arrays["indptr"])
        self._positions, self._values = arrays["positions"], arrays["values"]
        self._starts = [start for start, _ in ranges]

    @property
    def d_dict(self) -> int:
        return len(self.indptr) - 1

    @property
    def nnz(self) -> int:
        return int(self.indptr[-1])

    def feature(self, feature: int) -> Firings:
        """All firings of a feature; positions int64 ascending, values float32."""
        start, end = int(self.indptr[feature]), int(self.indptr[feature + 1])
        positions = np.asarray(self._positions[start:end]).astype(np.int64)
        return Firings(positions=positions, values=np.asarray(self._values[start:end]).astype(np.float32))

    def values(self, feature: int) -> Array:
        """The activations of a feature as they are stored, memory-mapped, in the order of their positions."""
        return self._values[int(self.indptr[feature]) : int(self.indptr[feature + 1])]

    def within(self, feature: int, *, start: int, end: int) -> Firings:
        """The firings of a feature on positions start … end - 1."""
        low, high = int(self.indptr[feature]), int(self.indptr[feature + 1])
        held = self._positions[low:high]
        first, last = np.searchsorted(held, [start, end])
        positions = np.asarray(held[first:last]).astype(np.int64)
        return Firings(positions=positions, values=np.asarray(self._values[low + first : low + last]).astype(np.float32))

    def rows(self, *, start: int, end: int) -> Rows:
        """The active features of the tokens start … end - 1."""
        parts = list(self._parts(start, end))
        sizes = np.concatenate([[0], *(np.diff(part.indptr) for part in parts)])
        join = lambda name: np.concatenate([np.asarray(getattr(part, name)) for part in parts])  # noqa: E731  a local short form
        return Rows(indptr=np.cumsum(sizes), ids=join("ids").astype(np.int64), values=join("values").astype(np.float32), keep=join("keep"))

    def keep(self) -> Array:
        """Which tokens take part, [n_tokens]."""
        return np.concatenate([np.asarray(arrays["keep"]) for arrays in self._forward])

    def _parts(self, start: int, end: int) -> Iterator[Rows]:
        for (low, high), arrays in zip(self.ranges, self._forward, strict=True):
            first, last = max(start, low) - low, min(end, high) - low
            if first < last:
                indptr = np.asarray(arrays["indptr"][first : last + 1])
                span = slice(int(indptr[0]), int(indptr[-1]))
                yield Rows(indptr=indptr, ids=arrays["ids"][span], values=arrays["values"][span], keep=arrays["keep"][first:last])


def _stored(values: torch.Tensor, *, dtype: str, near: int, dictionary: Dictionary) -> Array:
    """Values in the storage type; what is not finite or does not fit is named."""
    with np.errstate(over="ignore"):
        stored = values.float().numpy().astype(dtype)
    if not np.isfinite(stored).all():
        worst = float(values.abs().max())
        do = 'Set values="float32" in the IndexConfig, or look at the dictionary and the activations when it is NaN or infinite.'
        what = f"a feature activation at {dictionary.reads} near token {near} does not fit {dtype}."
        raise ActivationsNotFinite(what, got=worst, wanted=f"at most {np.finfo(dtype).max:g}", do=do)
    return stored
