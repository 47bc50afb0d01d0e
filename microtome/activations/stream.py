"""The stream: kept rows of one split in random order, for ever, from shards larger than memory.

Rows are read in chunks of 16 to 256 consecutive tokens, the shorter the smaller the buffer. Each epoch permutes all chunks; as many as fit
fill a preallocated buffer, and the rows of that fill are permuted again before they are served. So every kept row is served exactly once an
epoch, neighbours in a batch come from all over the corpus, and where the stream stands is one number: the rows served so far. (A ring buffer,
whose content depends on all that was served before, could be resumed only by storing it.)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch

from microtome.activations.corpus import Corpus, split_code
from microtome.activations.shards import Shards
from microtome.errors import ConfigError, NotEnoughTokens, ShapeMismatch
from microtome.models import Site
from microtome.shapes import Float, Int, Tensor

MIN_CHUNK, MAX_CHUNK = 16, 256
"""Tokens read at a stretch: a buffer holds 256 chunks or more, so that few rows of a batch are neighbours."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A fixed matrix of activations, rows in order of position."""

    x: Float[Tensor, "n d"]
    """In the storage type of the shards."""
    positions: Int[Tensor, "n"]
    """Global token position of each row."""
    docs: Int[Tensor, "n"]
    """Document of each row: the unit of a bootstrap."""


@dataclass(frozen=True, kw_only=True)
class _Chunks:
    """Runs of consecutive tokens inside one shard, with how many rows each gives."""

    shard: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class _Fill:
    """One filling of the buffer: chunks `first` to `last` of the epoch's order, `rows` rows, the first of them `offset` rows into the epoch."""

    first: int
    last: int
    offset: int
    rows: int


@final
class ActivationStream:
    """An endless iterator of batches `[batch_size, d]` in the shards' storage type (bfloat16 unless harvested otherwise).

    Batches cross the border between epochs, so all have the same size. Each is a fresh tensor. `state()` and `restore()` resume exactly.
    """

    def __init__(
        self,
        shards: Shards,
        corpus: Corpus,
        *,
        site: Site,
        batch_size: int,
        seed: int,
        split: str = "train",
        buffer_rows: int = 262_144,
    ) -> None:
        """`buffer_rows` rows are held in memory at once: more mix better. Raises `NotEnoughTokens` when the split has no kept row."""
        check_fit(shards, corpus)
        if batch_size < 1:
            raise ConfigError("a batch holds at least one row.", got=batch_size, wanted="1 or more", do="Correct batch_size.")
        if buffer_rows < MAX_CHUNK:
            raise ConfigError("the buffer is too small.", got=buffer_rows, wanted=f"{MAX_CHUNK} rows or more", do="Raise buffer_rows.")
        self.site = shards.site(site)
        self.split = split
        self.batch_size = batch_size
        self.seed = seed
        self.buffer_rows = buffer_rows
        self._shards, self._corpus = shards, corpus
        self._mask = _rows_of_split(shards, corpus, split)
        self._chunks = _chunks(shards, self._mask, chunk_tokens=min(MAX_CHUNK, max(MIN_CHUNK, buffer_rows // 256)))
        self.n_rows: int = int(self._chunks.rows.sum())
        """Rows an epoch."""
        if self.n_rows == 0:
            do = "Use a larger corpus, or other shares in `split`."
            raise NotEnoughTokens(f"the {split} split has no tokens to train on.", got=0, wanted="at least one kept token", do=do)
        self._served = 0
        self._loaded: tuple[int, int] | None = None
        self._buffer = torch.empty(0)
        self._epoch, self._order, self._fills = -1, np.zeros(0, dtype=np.int64), list[_Fill]()

    @property
    def epoch(self) -> int:
        """How often every row was served."""
        return self._served // self.n_rows

    @property
    def served(self) -> int:
        """Rows served since the beginning."""
        return self._served

    def __iter__(self) -> Iterator[Float[Tensor, "n d"]]:
        return self

    def __next__(self) -> Float[Tensor, "n d"]:
        batch = torch.empty(self.batch_size, self._shards.width(self.site), dtype=self._dtype())
        filled = 0
        while filled < self.batch_size:
            epoch, offset = divmod(self._served, self.n_rows)
            fill = self._seek(epoch, offset)
            begin = offset - fill.offset
            count = min(self.batch_size - filled, fill.rows - begin)
            batch[filled : filled + count] = self._buffer[begin : begin + count]
            filled += count
            self._served += count
        return batch

    def state(self) -> dict[str, Any]:
        """Where the stream stands, JSON-ready."""
        return {**self._identity(), "served": self._served}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()` of a stream with the same shards, site, split, seed and sizes; another one's raises `ShapeMismatch`."""
        mine = {**self._identity(), "served": state.get("served")}
        if dict(state) != mine or not isinstance(state.get("served"), int):
            different = [name for name in mine if mine[name] != state.get(name)] or ["served"]
            got = ", ".join(f"{name} {state.get(name)!r}" for name in different)
            wanted = ", ".join(f"{name} {mine[name]!r}" for name in different)
            raise ShapeMismatch("this state is of another stream.", got=got, wanted=wanted, do="Resume with the settings it was begun with.")
        self._served = int(state["served"])

    def fixed(self, n: int, *, split: str = "dev") -> HeldOut:
        """At most `n` rows of a split, always the same ones; see `held_out`."""
        return held_out(self._shards, self._corpus, site=self.site, n=n, split=split, seed=self.seed)

    def _identity(self) -> dict[str, Any]:
        return {
            "shards": self._shards.id,
            "site": str(self.site),
            "split": self.split,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "buffer_rows": self.buffer_rows,
        }

    def _dtype(self) -> torch.dtype:
        if self._loaded is None:
            epoch, offset = divmod(self._served, self.n_rows)
            self._seek(epoch, offset)
        return self._buffer.dtype

    def _seek(self, epoch: int, offset: int) -> _Fill:
        """Have the buffer hold the filling that serves row `offset` of `epoch`."""
        if epoch != self._epoch:
            self._order = np.random.default_rng([self.seed, epoch]).permutation(len(self._chunks.rows))
            self._fills = _fills(self._chunks.rows[self._order], self.buffer_rows)
            self._epoch = epoch
        number = int(np.searchsorted([fill.offset for fill in self._fills], offset, side="right")) - 1
        if self._loaded != (epoch, number):
            self._load(self._fills[number], np.random.default_rng([self.seed, epoch, number]))
            self._loaded = (epoch, number)
        return self._fills[number]

    def _load(self, fill: _Fill, rng: np.random.Generator) -> None:
        places = torch.from_numpy(rng.permutation(fill.rows))
        first_rows = np.zeros(fill.last - fill.first, dtype=np.int64)
        chosen = self._order[fill.first : fill.last]
        first_rows[1:] = np.cumsum(self._chunks.rows[chosen])[:-1]
        by_shard = np.argsort(self._chunks.shard[chosen], kind="stable")
        shard, x, start = -1, torch.empty(0), 0
        for index in by_shard:
            chunk = int(chosen[index])
            if int(self._chunks.shard[chunk]) != shard:
                shard = int(self._chunks.shard[chunk])
                block = self._shards.block(shard, self.site)
                x, start = block.x, block.start
                if len(self._buffer) == 0:
                    self._buffer = torch.empty(min(self.buffer_rows, self.n_rows), x.shape[1], dtype=x.dtype)
            low, high = int(self._chunks.start[chunk]), int(self._chunks.end[chunk])
            rows = x[low - start : high - start][torch.from_numpy(self._mask[low:high])]
            self._buffer[places[first_rows[index] : first_rows[index] + len(rows)]] = rows


def held_out(shards: Shards, corpus: Corpus, *, site: Site, n: int, split: str = "dev", seed: int = 0) -> HeldOut:
    """At most `n` kept rows of a split: whole documents in a seeded order until there are `n` rows (the last one cut), then sorted by position.

    The same arguments give the same rows. Fewer than `n` come back when the split has no more; none raises `NotEnoughTokens`.
    """
    check_fit(shards, corpus)
    rows = np.flatnonzero(_rows_of_split(shards, corpus, split))
    if len(rows) == 0:
        do = "Use a larger corpus, or other shares in `split`."
        raise NotEnoughTokens(f"the {split} split has no kept tokens.", got=0, wanted="at least one", do=do)
    docs = corpus.doc_of(rows)
    rank = np.random.default_rng([seed, split_code(split)]).permutation(corpus.n_docs)
    picked = np.sort(rows[np.argsort(rank[docs], kind="stable")[:n]])
    found = shards.site(site)
    parts: list[Tensor] = []
    for shard, (start, end) in enumerate(shards.ranges):
        inside = picked[(picked >= start) & (picked < end)]
        if len(inside):
            parts.append(shards.block(shard, found).x[torch.from_numpy(inside - start)])
    return HeldOut(x=torch.cat(parts), positions=torch.from_numpy(picked), docs=torch.from_numpy(corpus.doc_of(picked)))


def check_fit(shards: Shards, corpus: Corpus) -> None:
    """Raise `ShapeMismatch` unless the shards were harvested from this corpus."""
    if shards.corpus_id != corpus.id:
        do = "Open the corpus that the shards were harvested from."
        raise ShapeMismatch("these shards are of another corpus.", got=f"corpus {corpus.id}", wanted=f"corpus {shards.corpus_id}", do=do)


def _rows_of_split(shards: Shards, corpus: Corpus, split: str) -> npt.NDArray[np.bool_]:
    inside = corpus.splits == split_code(split)
    return shards.keep & np.repeat(inside, np.diff(corpus.doc_start))


def _chunks(shards: Shards, mask: npt.NDArray[np.bool_], *, chunk_tokens: int) -> _Chunks:
    shard: list[npt.NDArray[np.int64]] = []
    starts: list[npt.NDArray[np.int64]] = []
    ends: list[npt.NDArray[np.int64]] = []
    for number, (start, end) in enumerate(shards.ranges):
        first = np.arange(start, end, chunk_tokens, dtype=np.int64)
        starts.append(first)
        ends.append(np.minimum(first + chunk_tokens, end))
        shard.append(np.full(len(first), number, dtype=np.int64))
    start_all, end_all = np.concatenate(starts), np.concatenate(ends)
    rows = np.add.reduceat(mask, start_all, dtype=np.int64)
    full = rows > 0
    return _Chunks(shard=np.concatenate(shard)[full], start=start_all[full], end=end_all[full], rows=rows[full])


def _fills(rows: npt.NDArray[np.int64], buffer_rows: int) -> list[_Fill]:
    """Cut the epoch's chunks into runs of at most `buffer_rows` rows."""
    after = np.cumsum(rows)
    fills: list[_Fill] = []
    first, offset = 0, 0
    while first < len(rows):
        last = int(np.searchsorted(after, offset + buffer_rows, side="right"))
        total = int(after[last - 1]) - offset
        fills.append(_Fill(first=first, last=last, offset=offset, rows=total))
        first, offset = last, offset + total
    return fills
