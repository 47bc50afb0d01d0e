"""The shuffle that every stream is made of: a preallocated buffer is filled, its rows are permuted and served, and it is filled again.

Each epoch is cut into fillings. What a filling holds and in which order its rows are served follows from the seed, the epoch and the filling's
number alone, so where a shuffle stands is three numbers, and after a restore the buffer is filled again with what it held. (A ring, whose
content depends on all that was served before, could be resumed only by storing it.)
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, final, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from microtome.errors import ShapeMismatch
from microtome.shapes import Int, Tensor

Batch_co = TypeVar("Batch_co", covariant=True)
_CURSOR = ("served", "epoch", "filling", "begin")


class Filled(NamedTuple):
    """One filling: aligned columns and the order in which their rows are served."""

    columns: tuple[Tensor, ...]
    """One preallocated buffer [slots, width] a column; all have the same slots."""
    order: Int[Tensor, "rows"]
    """The slots that hold rows of this filling, permuted."""


@runtime_checkable
class Filler(Protocol):
    """What a shuffle serves. The same epoch and number give the same filling, in the same buffers as the one before."""

    def fillings(self, epoch: int) -> int:
        """How many fillings make this epoch; one at least."""
        ...

    def fill(self, epoch: int, number: int) -> Filled:
        """Put a filling into the buffers."""
        ...


@final
class Shuffle:
    """Serves a filler's rows for ever; `identity` is what a state must agree with to be restored."""

    def __init__(self, filler: Filler, *, identity: Mapping[str, Any]) -> None:
        self._filler = filler
        self._identity = dict(identity)
        self.served = 0
        """Rows served since the beginning."""
        self.epoch = 0
        """How often every row was served."""
        self._filling = self._begin = 0
        self._loaded: tuple[int, int] | None = None
        self._filled = Filled((), torch.zeros(0, dtype=torch.int64))

    def take(self, n: int) -> tuple[Tensor, ...]:
        """The next `n` rows of every column, in fresh tensors; they may cross from one filling, or one epoch, to the next."""
        parts: list[tuple[Tensor, ...]] = []
        missing = n
        while missing:
            columns, order = self._seek()
            count = min(missing, len(order) - self._begin)
            chosen = order[self._begin : self._begin + count]
            parts.append(tuple(torch.index_select(column, 0, chosen) for column in columns))
            missing -= count
            self.served += count
            self._begin += count
            if self._begin == len(order):
                self._next_filling()
        return parts[0] if len(parts) == 1 else tuple(torch.cat(column) for column in zip(*parts, strict=True))

    def state(self) -> dict[str, Any]:
        """Where the shuffle stands, JSON-ready."""
        return {**self._identity, "served": self.served, "epoch": self.epoch, "filling": self._filling, "begin": self._begin}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()` of a shuffle with the same identity; another one's raises `ShapeMismatch`."""
        cursor = [state.get(name) for name in _CURSOR]
        fits = all(isinstance(place, int) and place >= 0 for place in cursor)
        mine = {**self._identity, **{name: state.get(name) if fits else "a number" for name in _CURSOR}}
        if dict(state) != mine:
            different = [name for name in mine if mine[name] != state.get(name)] or sorted(set(state) - set(mine))
            got = ", ".join(f"{name} {state.get(name)!r}" for name in different)
            wanted = ", ".join(f"{name} {mine[name]!r}" for name in different if name in mine)
            raise ShapeMismatch("this state is of another stream.", got=got, wanted=wanted, do="Resume with the settings it was begun with.")
        self.served, self.epoch, self._filling, self._begin = (int(state[name]) for name in _CURSOR)

    def _seek(self) -> Filled:
        """The filling of the cursor; empty ones are passed over."""
        while True:
            if self._loaded != (self.epoch, self._filling):
                self._loaded = None  # the buffers are shared: a fill that fails leaves none that can be served
                self._filled = self._filler.fill(self.epoch, self._filling)
                self._loaded = (self.epoch, self._filling)
            if self._begin < len(self._filled.order):
                return self._filled
            self._next_filling()

    def _next_filling(self) -> None:
        self._filling, self._begin = self._filling + 1, 0
        if self._filling == self._filler.fillings(self.epoch):
            self.epoch, self._filling = self.epoch + 1, 0


class Shuffled(ABC, Generic[Batch_co]):
    """An endless iterator of batches out of a shuffle, which a subclass makes and whose columns it turns into batches."""

    _shuffle: Shuffle

    @property
    def epoch(self) -> int:
        """How often every row was served."""
        return self._shuffle.epoch

    @property
    def served(self) -> int:
        """Rows served since the beginning."""
        return self._shuffle.served

    def __iter__(self) -> Iterator[Batch_co]:
        return self

    @abstractmethod
    def __next__(self) -> Batch_co: ...

    def state(self) -> dict[str, Any]:
        """Where the stream stands, JSON-ready."""
        return self._shuffle.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()` of a stream made with the same arguments; another one's raises `ShapeMismatch`."""
        self._shuffle.restore(state)


class Plan(NamedTuple):
    """An epoch: pieces in random order, cut into fillings."""

    order: npt.NDArray[np.int64]
    """Piece numbers in the order of this epoch."""
    ends: npt.NDArray[np.int64]
    """Where in `order` each filling ends."""

    def pieces(self, number: int) -> npt.NDArray[np.int64]:
        """The pieces of one filling."""
        return self.order[int(self.ends[number - 1]) if number else 0 : int(self.ends[number])]


def plan_epoch(rows: npt.NDArray[np.int64], *, buffer_rows: int, seed: int, epoch: int) -> Plan:
    """Permute pieces of `rows` rows each and cut them into fillings of at most `buffer_rows` rows; no piece is larger than that."""
    assert rows.max() <= buffer_rows
    order = np.random.default_rng([seed, epoch]).permutation(len(rows))
    after = np.cumsum(rows[order])
    ends: list[int] = []
    while not ends or ends[-1] < len(rows):
        before = int(after[ends[-1] - 1]) if ends else 0
        ends.append(int(np.searchsorted(after, before + buffer_rows, side="right")))
    return Plan(order, np.array(ends, dtype=np.int64))


def concat_ranges(starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """`[*range(starts[0], starts[0] + lengths[0]), *range(starts[1], …), …]`."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))
