"""Rows of effects, kept sparse as they come, and the influence that decides which features are expanded next."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from microtome.circuits.graph import Edges
from microtome.devices import give_back_memory
from microtome.shapes import Float, Tensor

_GIVEN_BACK_BYTES = 1 << 24
"""Of edges that were copied are given back to the system at once: the allocator would keep them, and a graph's edges be there twice."""
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class _Stretch(NamedTuple):
    """Rows of one batch that are read at one place, and their entries."""

    first: int
    last: int
    counts: Ints
    source: npt.NDArray[np.int32]
    weight: npt.NDArray[np.float32]


class Entries(NamedTuple):
    """Rows of effects, sparse."""

    counts: Ints
    """Entries of each row."""
    source: npt.NDArray[np.int32]
    weight: npt.NDArray[np.float32]
    rest: Floats
    """What each row lacks, [rows, 2]: its sum and the sum of its sizes."""
    total: Floats
    """By row, the sum of the sizes of all its effects."""


def entries_of(block: Float[Tensor, "n columns"], *, most: int | None, n_features: int) -> Entries:
    """Rows whole, or `most` effects of each and the remainder: half of them the strongest features', the rest the strongest others.

    Without that half nothing would lead on from a row that a few errors outweigh. The first `n_features` columns are features.
    """
    if most is None or most >= block.shape[1]:
        return _whole(block.float().cpu().numpy())
    sizes = block.abs()
    total = sizes.sum(1, dtype=torch.float64)
    features = sizes[:, :n_features].topk(min(most // 2, n_features), dim=1, sorted=False).indices
    others = sizes.scatter_(1, features, -1.0).topk(most - features.shape[1], dim=1, sorted=False).indices
    kept = torch.cat([features, others], 1).sort(1).values
    weights = block.gather(1, kept)
    real = weights != 0
    stored, stored_abs = weights.sum(1, dtype=torch.float64), weights.abs().sum(1, dtype=torch.float64)
    rest = torch.stack([block.sum(1, dtype=torch.float64) - stored, (total - stored_abs).clamp_min(0)], 1)
    arrays = (real.sum(1), kept[real].to(torch.int32), weights[real].float(), rest, total)
    return Entries(*(each.cpu().numpy() for each in arrays))


def _whole(block: npt.NDArray[np.float32]) -> Entries:
    """Every effect of rows; row by row, so that nothing of the block's size is made beside what stays."""
    counts = np.array([np.count_nonzero(row) for row in block], dtype=np.int64)
    source, weight = np.empty(counts.sum(), dtype=np.int32), np.empty(counts.sum(), dtype=np.float32)
    total, last = np.empty(len(block)), np.cumsum(counts)
    for i, (row, end, count) in enumerate(zip(block, last.tolist(), counts.tolist(), strict=True)):
        here = slice(end - count, end)
        source[here] = found = np.flatnonzero(row)
        weight[here] = row[found]
        total[i] = np.abs(weight[here]).sum(dtype=np.float64)
    return Entries(counts, source, weight, np.zeros((len(block), 2)), total)


class Collected:
    """Rows of effects over the columns of a graph, in the order in which they were added."""

    def __init__(self, n_columns: int) -> None:
        self.n_columns = n_columns
        self._counts: list[Ints] = []
        self._source: list[npt.NDArray[np.int32]] = []
        self._weight: list[npt.NDArray[np.float32]] = []
        self._rest: list[Floats] = []
        self._total: list[Floats] = []

    def add(self, rows: Entries) -> None:
        """Append rows."""
        self._counts.append(rows.counts)
        self._source.append(rows.source)
        self._weight.append(rows.weight)
        self._rest.append(rows.rest)
        self._total.append(rows.total)

    def __len__(self) -> int:
        return sum(map(len, self._counts))

    def totals(self) -> Floats:
        """By row, the sum of the sizes of all its effects."""
        return np.concatenate(self._total)

    def into_order(self, order: Ints) -> tuple[Edges, npt.NDArray[np.float32]]:
        """The rows in another order, and what was dropped of each (signed, absolute). Each batch is given up as soon as it has been copied."""
        counts = np.concatenate(self._counts)
        indptr = np.concatenate([[0], np.cumsum(counts[order])]).astype(np.int64)
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        edges = Edges(indptr=indptr, source=np.empty(indptr[-1], dtype=np.int32), weight=np.empty(indptr[-1], dtype=np.float32))
        row, freed = 0, _GIVEN_BACK_BYTES
        while self._counts:
            if freed >= _GIVEN_BACK_BYTES:
                give_back_memory()
                freed = 0
            batch, source, weight = self._counts.pop(0), self._source.pop(0), self._weight.pop(0)
            freed += source.nbytes + weight.nbytes
            for first, count in zip((np.cumsum(batch) - batch).tolist(), batch.tolist(), strict=True):
                start, part = int(indptr[place[row]]), slice(first, first + count)
                edges.source[start : start + count], edges.weight[start : start + count] = source[part], weight[part]
                row += 1
        return edges, np.concatenate(self._rest)[order].astype(np.float32)

    def influence(self, node: Ints, place: Ints, *, start: Floats) -> Floats:
        """The influence of every column on rows of weight `start`: the sum over paths of the products of |effect| shares (see `influence.py`).

        `node` is the column of each row, negative for targets; `place` is where each row is read: sources always lie before it, so that one pass
        over rows from the last place to the first adds up every path.
        """
        influence = np.zeros(self.n_columns)
        scale = 1 / np.maximum(self.totals(), 1e-30)
        for stretches in self._by_place(place):
            rows = np.concatenate([np.arange(part.first, part.last) for part in stretches])
            fed = (start[rows] + np.where(node[rows] < 0, 0.0, influence[node[rows]])) * scale[rows]
            counts = np.concatenate([part.counts for part in stretches])
            source, weight = (np.concatenate([getattr(part, name) for part in stretches]) for name in ("source", "weight"))
            influence += np.bincount(source, weights=np.repeat(fed, counts) * np.abs(weight), minlength=self.n_columns)
        return influence

    def _by_place(self, place: Ints) -> list[list[_Stretch]]:
        """Rows with their entries by where they are read, the last place first; rows of a batch come sorted so."""
        found: dict[int, list[_Stretch]] = {}
        first_row = 0
        for counts, source, weight in zip(self._counts, self._source, self._weight, strict=True):
            here = place[first_row : first_row + len(counts)]
            ends = np.concatenate([[0], np.cumsum(counts)])
            bounds = np.flatnonzero(np.diff(here, prepend=-1, append=-1)).tolist()
            for low, high in pairwise(bounds):
                entries = slice(int(ends[low]), int(ends[high]))
                part = _Stretch(first_row + low, first_row + high, counts[low:high], source[entries], weight[entries])
                found.setdefault(int(here[low]), []).append(part)
            first_row += len(counts)
        return [found[each] for each in sorted(found, reverse=True)]
