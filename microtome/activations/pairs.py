"""Pairs: every token's row beside the mean of its turn, for dictionaries that explain both (nested) or one and what it leaves (decoupled)."""

from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt
import torch

from microtome.activations.corpus import Corpus
from microtome.activations.pooled import Pooled
from microtome.activations.pooling import counted_tokens
from microtome.activations.rows import HeldOut, check_fit, pick_rows, rows_at
from microtome.activations.shards import Shards
from microtome.activations.shuffle import Shuffle, Shuffled, concat_ranges
from microtome.activations.stream import Column, StoredRows, check_batch_size
from microtome.errors import ShapeMismatch
from microtome.models import Site
from microtome.shapes import Float, Tensor


class TurnPairs(NamedTuple):
    """Token rows and, row by row, the mean of the turn (or span) that the token is of."""

    rows: Float[Tensor, "n d"]
    """In the storage type of the shards."""
    means: Float[Tensor, "n d"]
    """float32."""


class HeldOutPairs(NamedTuple):
    """Fixed token rows and the means of their turns."""

    rows: HeldOut
    means: Float[Tensor, "n d"]


@final
class TurnPairStream(Shuffled[TurnPairs]):
    """An endless iterator of `TurnPairs` of `batch_size` rows: every token that went into a mean, once an epoch, in random order."""

    def __init__(
        self,
        shards: Shards,
        corpus: Corpus,
        *,
        turns: Pooled,
        site: Site,
        batch_size: int,
        seed: int,
        split: str = "train",
        buffer_rows: int = 131_072,
    ) -> None:
        """`turns` are the means that `pool` made from these shards; `buffer_rows` token rows and as many means are held in memory.

        Raises `ShapeMismatch` when the pooled rows are no means, or not of these shards.
        """
        check_fit(shards, corpus)
        check_batch_size(batch_size)
        if turns.shards_id != shards.id or turns.over == "last":
            got = f"over {turns.over}, shards {turns.shards_id}"
            do = "Pool these shards over turns or spans."
            raise ShapeMismatch("these pooled rows are not the means of these shards.", got=got, wanted=f"means of shards {shards.id}", do=do)
        self.site = shards.site(site)
        self.batch_size = batch_size
        self.split = split
        self.seed = seed
        self._shards, self._corpus, self._turns = shards, corpus, turns
        self._row_of = _row_of(shards, corpus, turns)
        columns = [
            Column(block=lambda part: shards.block(part, site)),
            Column(block=lambda part: turns.block(part, site), row_of=self._row_of),
        ]
        rows = StoredRows(shards.ranges, self._mask(split), columns=columns, seed=seed, buffer_rows=buffer_rows)
        self.n_rows: int = rows.n_rows
        """Rows an epoch."""
        sizes = {"split": split, "seed": seed, "batch_size": batch_size, "buffer_rows": buffer_rows}
        self._shuffle = Shuffle(rows, identity={"shards": shards.id, "turns": turns.id, "site": str(self.site), **sizes})

    def __next__(self) -> TurnPairs:
        return TurnPairs(*self._shuffle.take(self.batch_size))

    def fixed(self, n: int, *, split: str = "dev") -> HeldOutPairs:
        """At most `n` rows of a split with their means, always the same ones; see `held_out`."""
        picked, docs = pick_rows(self._shards, self._corpus, self._mask(split), n=n, split=split, seed=self.seed)
        rows = HeldOut(x=rows_at(self._shards, self.site, picked), positions=torch.from_numpy(picked), docs=torch.from_numpy(docs))
        return HeldOutPairs(rows, rows_at(self._turns, self.site, self._row_of[picked]))

    def _mask(self, split: str) -> npt.NDArray[np.bool_]:
        return self._shards.rows_of_split(self._corpus, split) & (self._row_of >= 0)


def _row_of(shards: Shards, corpus: Corpus, turns: Pooled) -> npt.NDArray[np.int64]:
    """The pooled row that each token went into, -1 for none, [n_tokens]."""
    start, end = turns.column("start"), turns.column("end")
    places = concat_ranges(start, end - start)
    row = np.full(shards.n_tokens, -1, dtype=np.int64)
    row[places] = np.repeat(np.arange(len(start)), end - start)
    row[~counted_tokens(shards, corpus)] = -1
    return row
