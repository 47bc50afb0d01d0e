"""Firings of consecutive features side by side: what is counted for one feature is counted for hundreds in the same few sorts."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeAlias

import numpy as np

from microtome.features.arrays import Array
from microtome.features.postings import Firings, Postings


class Ragged(NamedTuple):
    """A list for each feature, one after the other."""

    values: Array
    counts: Array
    """Length of each list."""

    @classmethod
    def even(cls, table: Array) -> "Ragged":
        """Lists of the same length: the rows of a table."""
        return cls(table.reshape(-1), np.full(len(table), table.shape[1]))


Column: TypeAlias = Array | Ragged | list[str] | list[float | None]
"""A value for each feature."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Where consecutive features fire, those of a feature by position."""

    counts: Array
    """Firings of each feature, int64 [features]."""
    positions: Array
    """int64 [firings]."""
    values: Array
    """float32 [firings]; all are positive."""

    @classmethod
    def of(cls, firings: Firings) -> "Block":
        """One feature."""
        return cls(counts=np.array([len(firings)]), positions=firings.positions, values=firings.values)

    @classmethod
    def read(cls, postings: Postings, first: int, last: int) -> "Block":
        """The features from `first` to before `last`."""
        counts, firings = postings.together(first, last)
        return cls(counts=counts, positions=firings.positions, values=firings.values)

    def __len__(self) -> int:
        return len(self.counts)

    @cached_property
    def group(self) -> Array:
        """Of each firing, its feature's place in the block."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @cached_property
    def starts(self) -> Array:
        """Of each feature, its first firing."""
        return np.cumsum(self.counts) - self.counts

    @cached_property
    def alive(self) -> Array:
        """Features that fire, by place."""
        return np.flatnonzero(self.counts)

    @cached_property
    def strongest_first(self) -> Array:
        """The firings feature by feature, the strongest of each first; equal ones by position."""
        bits = self.values.astype(np.float32).view(np.uint32).astype(np.uint64)  # positive floats are ordered as their bits
        return np.argsort((self.group.astype(np.uint64) << np.uint64(32)) | (np.uint64(0xFFFFFFFF) - bits), kind="stable")

    def reduced(self, ufunc: np.ufunc, values: Array) -> Array:
        """A number for each feature that fires (`alive`), of one for each firing."""
        return ufunc.reduceat(values, self.starts[self.alive]) if len(values) else values[:0]


def places(group: Array) -> Array:
    """Place of each within its run of equal numbers."""
    first = np.flatnonzero(np.diff(group, prepend=-1)) if len(group) else np.zeros(0, np.int64)
    return np.arange(len(group)) - np.repeat(first, np.diff(np.append(first, len(group))))
