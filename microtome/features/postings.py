"""Postings: which features fire on a token, and on which tokens a feature fires, both memory-mapped.

| file | holds |
|---|---|
| `forward-00000.safetensors` … (a shard each) | `indptr` i64 [tokens + 1], `ids` u16/u32 [nnz] ascending in a row, `values` [nnz], `keep` [tokens] |
| … of a set, too | `bounds` u16 [tokens, members]: where each member's run begins within the token's row |
| … read after a norm | `scales` f32 [tokens, members]: the norm's scale of that token (1 where a member reads without one) |
| `inverted.safetensors` | `indptr` int64 [d_dict + 1], `positions` u32 [nnz] ascending in a feature, `values` [nnz] |
| … packed | `indptr`, and `gaps` u8 with `starts` i64 [d_dict + 1], where each feature's bytes begin (`gaps.py`); values are those of the rows |

Tokens that are not kept have empty rows: specials, template words and attention sinks take no part in anything the index says.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from microtome.errors import ActivationsNotFinite
from microtome.features.arrays import Array, create_arrays, flush_arrays, open_arrays
from microtome.features.gaps import to_gaps, to_positions
from microtome.features.members import Members
from microtome.features.passes import Batch, Pass, Visited

INVERTED = "inverted.safetensors"
_ENTRIES = 1 << 22
"""Postings turned around at a time."""
Scales: TypeAlias = Callable[[Batch], Array | None]
"""The norm's scale of each token for each member, float32 [n, members]; None where none is read after a norm."""


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


@dataclass(frozen=True, kw_only=True)
class ForwardRows:
    """Some rows of one forward file."""

    rows: Array
    arrays: dict[str, Array]

    def runs(self, members: range, *, n_members: int) -> tuple[Array, Array]:
        """Where the run of each of consecutive members begins and ends in `ids` and `values`, int64 [rows, members]."""
        first, last = self.arrays["indptr"][self.rows], self.arrays["indptr"][self.rows + 1]
        if "bounds" not in self.arrays:
            return first[:, None], last[:, None]
        inner = first[:, None] + self.arrays["bounds"][self.rows, members.start : members.stop + 1].astype(np.int64)
        ends = inner if members.stop < n_members else np.concatenate([inner, last[:, None]], 1)
        return inner[:, : len(members)], ends[:, 1:]

    def values_of(self, feature: int) -> Array:
        """The stored activation of a feature that fires on each of these rows, by bisection of the ascending ids."""
        low, high = self.arrays["indptr"][self.rows], self.arrays["indptr"][self.rows + 1]
        while (high - low > 1).any():
            middle = (low + high) // 2
            later = (self.arrays["ids"][middle] <= feature) & (high - low > 1)
            low, high = np.where(later, middle, low), np.where(later | (high - low <= 1), high, middle)
        return self.arrays["values"][low]

    def scales(self, members: range) -> Array | None:
        """The norm's scale for each of those members, float32 [rows, members]; None where none is read after a norm."""
        return self.arrays["scales"][self.rows, members.start : members.stop] if "scales" in self.arrays else None


def forward_name(shard: int) -> str:
    """`forward-00000.safetensors`, …"""
    return f"forward-{shard:05d}.safetensors"


def write_forward(path: Path, source: Pass, number: int, *, members: Members, scales: Scales, values: str) -> None:
    """Encode the kept tokens of one range and write them as compressed rows."""
    start, _ = source.ranges[number]

    def encode(batch: Batch) -> _Encoded:
        codes = members.encode(batch.inputs)
        stored = _stored(codes.values, dtype=values, near=start + int(batch.positions[0]), members=members) if len(batch.positions) else codes.values
        active = stored > 0
        before = np.concatenate([[0], np.cumsum(active)])
        indptr = before[codes.indptr]
        return _Encoded(
            positions=batch.positions,
            indptr=indptr,
            ids=codes.ids[active].astype(id_dtype(len(members.numbering))),
            values=stored[active],
            bounds=(before[codes.indptr[:-1, None] + codes.bounds] - indptr[:-1, None]).astype(np.uint16 if before[-1] < 1 << 16 else np.uint32),
            scales=scales(batch),
        )

    visited = source.visit(number, encode)
    _write_rows(path, visited, members=len(members), empty=np.empty(0, values), d_dict=len(members.numbering))


@dataclass(frozen=True, kw_only=True)
class _Encoded:
    """The rows of one batch."""

    positions: Array
    indptr: Array
    ids: Array
    values: Array
    bounds: Array
    scales: Array | None


def _write_rows(path: Path, visited: Visited[_Encoded], *, members: int, empty: Array, d_dict: int) -> None:
    """Put the rows of all batches in the order of their positions; those of attention sinks become empty."""
    keep = visited.keep
    counts = np.zeros(len(keep), dtype=np.int64)
    for part in visited.results:
        counts[part.positions] = np.where(keep[part.positions], np.diff(part.indptr), 0)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    nnz = int(indptr[-1])
    wanted: dict[str, tuple[Any, tuple[int, ...]]] = {
        "indptr": (np.int64, indptr.shape),
        "ids": (id_dtype(d_dict), (nnz,)),
        "values": (empty.dtype, (nnz,)),
        "keep": (np.bool_, keep.shape),
    }
    if members > 1:
        wanted["bounds"] = (np.uint16 if counts.max(initial=0) < 1 << 16 else np.uint32, (len(keep), members))
    if any(part.scales is not None for part in visited.results):
        wanted["scales"] = (np.float32, (len(keep), members))
    made = create_arrays(path, wanted)
    made["indptr"][...], made["keep"][...] = indptr, keep
    for part in visited.results:
        mine = keep[part.positions]
        entries = np.repeat(mine, np.diff(part.indptr))
        at = np.repeat(indptr[part.positions] - part.indptr[:-1], np.diff(part.indptr)) + np.arange(len(part.ids))
        made["ids"][at[entries]], made["values"][at[entries]] = part.ids[entries], part.values[entries]
        if "bounds" in made:
            made["bounds"][part.positions[mine]] = part.bounds[mine]
        if "scales" in made and part.scales is not None:
            made["scales"][part.positions[mine]] = part.scales[mine]
    flush_arrays(made)


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
        for first, last in _slices(np.asarray(arrays["indptr"]), entries=_ENTRIES):
            rows = np.asarray(arrays["indptr"][first : last + 1])
            ids = np.asarray(arrays["ids"][rows[0] : rows[-1]])
            order = np.argsort(ids, kind="stable")
            here = np.bincount(ids, minlength=d_dict)
            target = np.repeat(filled - (np.cumsum(here) - here), here) + np.arange(len(ids))
            position = np.repeat(np.arange(first, last, dtype=np.int64), np.diff(rows)) + starts[shard]
            made["positions"][target] = position[order]
            made["values"][target] = arrays["values"][rows[0] : rows[-1]][order]
            filled += here
        tick(shard)
    flush_arrays(made)


def pack_inverted(raw: Path, path: Path) -> None:
    """Write what `write_inverted` wrote without its values, and positions as the gaps between them, features by features."""
    held = open_arrays(raw)
    indptr = np.asarray(held["indptr"])
    starts = np.zeros_like(indptr)
    parts: list[Array] = []
    for first, last in _slices(indptr, entries=_ENTRIES):
        bytes_, begins = to_gaps(np.asarray(held["positions"][indptr[first] : indptr[last]]), starts=indptr[first : last + 1] - indptr[first])
        starts[first + 1 : last + 1] = starts[first] + begins[1:]
        parts.append(bytes_)
    made = create_arrays(path, {"indptr": (np.int64, indptr.shape), "starts": (np.int64, starts.shape), "gaps": (np.uint8, (int(starts[-1]),))})
    made["indptr"][...], made["starts"][...] = indptr, starts
    for begin, part in zip(np.cumsum([0, *map(len, parts)]).tolist(), parts, strict=False):
        made["gaps"][begin : begin + len(part)] = part
    flush_arrays(made)


def _slices(indptr: Array, *, entries: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of rows that hold at most so many entries together, or one row each."""
    first, n = 0, len(indptr) - 1
    while first < n:
        last = max(first + 1, int(np.searchsorted(indptr, indptr[first] + entries, side="right")) - 1)
        yield first, min(last, n)
        first = last


class Postings:
    """Both directions, opened for reading."""

    def __init__(self, forward: Sequence[Path], inverted: Path, *, ranges: Sequence[tuple[int, int]]) -> None:
        self.ranges = tuple(ranges)
        self._forward = [open_arrays(path) for path in forward]
        self._inverted = open_arrays(inverted)
        self.indptr: Array = np.asarray(self._inverted["indptr"])
        self._starts = [start for start, _ in ranges]

    @property
    def d_dict(self) -> int:
        return len(self.indptr) - 1

    @property
    def nnz(self) -> int:
        return int(self.indptr[-1])

    def feature(self, feature: int) -> Firings:
        """All firings of a feature; positions int64 ascending, values float32."""
        positions = self._positions(feature)
        return Firings(positions=positions.astype(np.int64), values=self._values(feature, positions).astype(np.float32))

    def values(self, feature: int) -> Array:
        """The activations of a feature as they are stored, in the order of their positions; memory-mapped unless they are packed."""
        return self._values(feature, self._positions(feature))

    def within(self, feature: int, *, start: int, end: int) -> Firings:
        """The firings of a feature on positions start … end - 1."""
        held = self._positions(feature)
        first, last = np.searchsorted(held, [start, end]).tolist()
        positions = held[first:last]
        return Firings(positions=positions.astype(np.int64), values=self._values(feature, positions, first=first).astype(np.float32))

    def stretches(self, first: int, last: int, *, entries: int, most: int) -> list[tuple[int, int]]:
        """The features from `first` to before `last` in ranges of at most `most` that hold so many firings together, or one feature each."""
        ranges = [(first + low, first + high) for low, high in _slices(self.indptr[first : last + 1], entries=entries)]
        return [(start, min(start + most, end)) for low, end in ranges for start in range(low, end, most)]

    def together(self, first: int, last: int) -> tuple[Array, Firings]:
        """How often consecutive features fire, and their firings, feature after feature."""
        counts, start, end = np.diff(self.indptr[first : last + 1]), int(self.indptr[first]), int(self.indptr[last])
        if "gaps" in self._inverted:
            each = [self.feature(feature) for feature in range(first, last)]
            positions, values = (np.concatenate([getattr(part, name) for part in each]) for name in ("positions", "values"))
        else:
            positions, values = (np.asarray(self._inverted[name][start:end]) for name in ("positions", "values"))
        return counts, Firings(positions=positions.astype(np.int64), values=values.astype(np.float32))

    def _positions(self, feature: int) -> Array:
        if "gaps" in self._inverted:
            start, end = self._inverted["starts"][feature : feature + 2].tolist()
            return to_positions(np.asarray(self._inverted["gaps"][start:end]))
        return np.asarray(self._inverted["positions"][int(self.indptr[feature]) : int(self.indptr[feature + 1])])

    def _values(self, feature: int, positions: Array, *, first: int = 0) -> Array:
        """Those on consecutive firings, the first of which has number `first`."""
        if "gaps" not in self._inverted:
            start = int(self.indptr[feature]) + first
            return np.asarray(self._inverted["values"][start : start + len(positions)])
        found = [forward.values_of(feature) for _, forward in self.forward(positions)]
        return np.concatenate(found) if found else np.empty(0, np.float16)

    def rows(self, *, start: int, end: int) -> Rows:
        """The active features of the tokens start … end - 1."""
        parts = list(self._parts(start, end))
        sizes = np.concatenate([[0], *(np.diff(part.indptr) for part in parts)])
        join = lambda name: np.concatenate([np.asarray(getattr(part, name)) for part in parts])  # noqa: E731  a local short form
        return Rows(indptr=np.cumsum(sizes), ids=join("ids").astype(np.int64), values=join("values").astype(np.float32), keep=join("keep"))

    def keep(self) -> Array:
        """Which tokens take part, [n_tokens]."""
        return np.concatenate([np.asarray(arrays["keep"]) for arrays in self._forward])

    def forward(self, positions: Array) -> Iterator[tuple[Array, ForwardRows]]:
        """The rows of ascending positions by shard: a slice of the positions, and that shard's arrays with the rows' numbers in them."""
        cuts = np.searchsorted(positions, [*self._starts, self.ranges[-1][1] if self.ranges else 0])
        for number, arrays in enumerate(self._forward):
            here = np.arange(cuts[number], cuts[number + 1])
            if len(here):
                yield here, ForwardRows(rows=positions[here] - self._starts[number], arrays={name: np.asarray(x) for name, x in arrays.items()})

    def _parts(self, start: int, end: int) -> Iterator[Rows]:
        for (low, high), arrays in zip(self.ranges, self._forward, strict=True):
            first, last = max(start, low) - low, min(end, high) - low
            if first < last:
                indptr = np.asarray(arrays["indptr"][first : last + 1])
                span = slice(int(indptr[0]), int(indptr[-1]))
                yield Rows(indptr=indptr, ids=arrays["ids"][span], values=arrays["values"][span], keep=arrays["keep"][first:last])


def _stored(values: Array, *, dtype: str, near: int, members: Members) -> Array:
    """Values in the storage type; what is not finite or does not fit is named."""
    with np.errstate(over="ignore"):
        stored = values.astype(dtype)
    if not np.isfinite(stored).all():
        worst = float(np.abs(values).max())
        do = 'Set values="float32" in the IndexConfig, or look at the dictionary and the activations when it is NaN or infinite.'
        sites = ", ".join(map(str, members.numbering.sites))
        what = f"a feature activation at {sites} near token {near} does not fit {dtype}."
        raise ActivationsNotFinite(what, got=worst, wanted=f"at most {np.finfo(dtype).max:g}", do=do)
    return stored
