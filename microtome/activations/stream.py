"""The stream: kept rows of one split in random order, for ever, from shards larger than memory.

Rows are read in chunks of 16 to 256 consecutive rows, the shorter the smaller the buffer. Each epoch permutes all chunks; as many as fit
fill a preallocated buffer, and the rows of that fill are permuted again before they are served. So every kept row is served exactly once an
epoch, and neighbours in a batch come from all over the corpus.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast, final, overload

import numpy as np
import numpy.typing as npt
import torch

from microtome.activations.corpus import Corpus
from microtome.activations.rows import HeldOut, Rows, check_fit, held_out, held_out_sites
from microtome.activations.shards import ShardBlock
from microtome.activations.shuffle import Filled, Plan, Shuffle, Shuffled, concat_ranges, plan_epoch
from microtome.errors import ConfigError, NotEnoughTokens
from microtome.models import Site
from microtome.shapes import Tensor

MIN_CHUNK, MAX_CHUNK = 16, 256
"""Rows read at a stretch: a buffer holds 256 chunks or more, so that few rows of a batch are neighbours."""
Batch = TypeVar("Batch")


@dataclass(frozen=True, kw_only=True)
class Column:
    """Where one column of the buffer is read."""

    block: Callable[[int], ShardBlock]
    """The rows of a part."""
    row_of: npt.NDArray[np.int64] | None = None
    """Which row of the block's store each row reads, [n_rows]; None reads its own."""


@dataclass(frozen=True, kw_only=True)
class _Chunks:
    """Runs of consecutive rows inside one part, with how many of them are served."""

    part: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    before: npt.NDArray[np.int64]
    """Served rows of the same part before the chunk."""


@final
class StoredRows:
    """A filler of aligned columns from stored rows."""

    def __init__(
        self, ranges: Sequence[tuple[int, int]], mask: npt.NDArray[np.bool_], *, columns: Sequence[Column], seed: int, buffer_rows: int
    ) -> None:
        """`mask` says which rows are served. Raises `ConfigError` for a buffer below `MAX_CHUNK` rows, `NotEnoughTokens` when none is served."""
        if buffer_rows < MAX_CHUNK:
            raise ConfigError("the buffer is too small.", got=buffer_rows, wanted=f"{MAX_CHUNK} rows or more", do="Raise buffer_rows.")
        self.n_rows = int(mask.sum())
        if self.n_rows == 0:
            do = "Use a larger corpus, or other shares in `split`."
            raise NotEnoughTokens("the split has no tokens to train on.", got=0, wanted="at least one kept token", do=do)
        self._ranges, self._mask, self._columns = ranges, mask, columns
        self._seed, self._buffer_rows = seed, buffer_rows
        self._chunks = _chunks(ranges, mask, chunk_rows=min(MAX_CHUNK, max(MIN_CHUNK, buffer_rows // 256)))
        self._planned: tuple[int, Plan] | None = None
        self._buffers: tuple[Tensor, ...] = ()

    def fillings(self, epoch: int) -> int:
        return len(self._plan(epoch).ends)

    def fill(self, epoch: int, number: int) -> Filled:
        """Read part by part, each in ascending order; a permutation of the filling's rows says how they are served."""
        chosen = self._plan(epoch).pieces(number)
        lengths = self._chunks.rows[chosen]
        first = np.cumsum(lengths) - lengths
        places = np.random.default_rng([self._seed, epoch, number]).permutation(int(lengths.sum()))
        order = np.empty(len(places), dtype=np.int64)
        ascending = np.argsort(chosen)
        at = 0
        for part in np.unique(self._chunks.part[chosen]).tolist():
            here = ascending[self._chunks.part[chosen[ascending]] == part]
            end = at + int(lengths[here].sum())
            order[places[concat_ranges(first[here], lengths[here])]] = np.arange(at, end)
            start, stop = self._ranges[part]
            served = start + np.flatnonzero(self._mask[start:stop])
            self._read(part, served[concat_ranges(self._chunks.before[chosen[here]], lengths[here])], at=at)
            at = end
        return Filled(self._buffers, torch.from_numpy(order))

    def _read(self, part: int, numbers: npt.NDArray[np.int64], *, at: int) -> None:
        blocks = [column.block(part) for column in self._columns]
        if not self._buffers:
            slots = min(self._buffer_rows, self.n_rows)
            self._buffers = tuple(torch.empty(slots, block.x.shape[1], dtype=block.x.dtype) for block in blocks)
        for column, block, buffer in zip(self._columns, blocks, self._buffers, strict=True):
            rows = numbers if column.row_of is None else column.row_of[numbers]
            torch.index_select(block.x, 0, torch.from_numpy(rows - block.start), out=buffer[at : at + len(rows)])

    def _plan(self, epoch: int) -> Plan:
        if self._planned is None or self._planned[0] != epoch:
            self._planned = (epoch, plan_epoch(self._chunks.rows, buffer_rows=self._buffer_rows, seed=self._seed, epoch=epoch))
        return self._planned[1]


@final
class ActivationStream(Shuffled[Batch]):
    """An endless iterator of batches: with `site=` matrices `[batch_size, d]`, with `sites=` the same rows of each, `{site: [batch_size, d]}`.

    Values have the storage type (bfloat16 unless harvested otherwise). Batches cross the border between epochs, so all have the same size. Each
    is a fresh tensor. `state()` and `restore()` resume exactly.
    """

    @overload
    def __init__(
        self: "ActivationStream[Tensor]",
        shards: Rows,
        corpus: Corpus,
        *,
        site: Site,
        batch_size: int,
        seed: int,
        split: str = "train",
        buffer_rows: int = 262_144,
    ) -> None: ...
    @overload
    def __init__(
        self: "ActivationStream[dict[Site, Tensor]]",
        shards: Rows,
        corpus: Corpus,
        *,
        sites: tuple[Site, ...],
        batch_size: int,
        seed: int,
        split: str = "train",
        buffer_rows: int = 262_144,
    ) -> None: ...
    def __init__(
        self,
        shards: Rows,
        corpus: Corpus,
        *,
        site: Site | None = None,
        sites: tuple[Site, ...] = (),
        batch_size: int,
        seed: int,
        split: str = "train",
        buffer_rows: int = 262_144,
    ) -> None:
        """`shards` are `Shards`, `Pooled` or `RoleRows`. `buffer_rows` rows of each site are held in memory at once: more mix better.

        Raises `NotEnoughTokens` when the split has no kept row, `ConfigError` for unfit sizes or when not exactly one of `site` and `sites` is given.
        """
        check_fit(shards, corpus)
        check_batch_size(batch_size)
        if (site is None) == (not sites) or len(set(sites)) != len(sites):
            got = f"site {site}, sites {', '.join(map(str, sites)) or 'none'}"
            raise ConfigError("a stream reads one site or several distinct ones.", got=got, wanted="either site or sites", do="Give one of the two.")
        self.sites = tuple(shards.site(each) for each in (sites if site is None else (site,)))
        self.split = split
        self.batch_size = batch_size
        self.seed = seed
        self.buffer_rows = buffer_rows
        self._single = site is not None
        self._shards, self._corpus = shards, corpus
        columns = [_column(shards, each) for each in self.sites]
        rows = StoredRows(shards.ranges, shards.rows_of_split(corpus, split), columns=columns, seed=seed, buffer_rows=buffer_rows)
        self.n_rows: int = rows.n_rows
        """Rows an epoch."""
        read = {"site": str(self.site)} if self._single else {"sites": [str(each) for each in self.sites]}
        sizes = {"split": split, "seed": seed, "batch_size": batch_size, "buffer_rows": buffer_rows}
        self._shuffle = Shuffle(rows, identity={"shards": shards.id, **read, **sizes})

    @property
    def site(self) -> Site:
        """The first site, which is the only one of a stream of matrices."""
        return self.sites[0]

    def __next__(self) -> Batch:
        columns = self._shuffle.take(self.batch_size)
        batch = columns[0] if self._single else dict(zip(self.sites, columns, strict=True))
        return cast(Batch, batch)  # what the overloads of the constructor say

    @overload
    def fixed(self: "ActivationStream[Tensor]", n: int, *, split: str = "dev") -> HeldOut: ...
    @overload
    def fixed(self: "ActivationStream[dict[Site, Tensor]]", n: int, *, split: str = "dev") -> dict[Site, HeldOut]: ...
    def fixed(self, n: int, *, split: str = "dev") -> HeldOut | dict[Site, HeldOut]:
        """At most `n` rows of a split, always the same ones; see `held_out`."""
        if self._single:
            return held_out(self._shards, self._corpus, site=self.site, n=n, split=split, seed=self.seed)
        return held_out_sites(self._shards, self._corpus, sites=self.sites, n=n, split=split, seed=self.seed)


def check_batch_size(batch_size: int) -> None:
    """Raise `ConfigError` unless a batch holds a row."""
    if batch_size < 1:
        raise ConfigError("a batch holds at least one row.", got=batch_size, wanted="1 or more", do="Correct batch_size.")


def _column(shards: Rows, site: Site) -> Column:
    return Column(block=lambda part: shards.block(part, site))


def _chunks(ranges: Sequence[tuple[int, int]], mask: npt.NDArray[np.bool_], *, chunk_rows: int) -> _Chunks:
    parts: list[npt.NDArray[np.int64]] = []
    for number, (start, end) in enumerate(ranges):
        if start == end:
            continue
        rows = np.add.reduceat(mask[start:end], np.arange(0, end - start, chunk_rows), dtype=np.int64)
        parts.append(np.stack([np.full(len(rows), number), rows, np.cumsum(rows) - rows]))
    part, rows, before = np.concatenate(parts, axis=1)
    full = rows > 0
    return _Chunks(part=part[full], rows=rows[full], before=before[full])
