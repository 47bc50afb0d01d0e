"""Rows of effects, kept sparse as they come, and the influence that decides which features are expanded next."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from microtome.circuits.graph import Edges
from microtome.shapes import Float, Tensor

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Collected:
    """Rows of effects over the columns of a graph, each stored whole or as its `most` strongest edges and the remainder."""

    def __init__(self, n_columns: int, *, most: int | None) -> None:
        self.n_columns = n_columns
        self.most = most
        self._counts: list[npt.NDArray[np.int64]] = []
        self._source: list[npt.NDArray[np.int32]] = []
        self._weight: list[npt.NDArray[np.float32]] = []
        self._rest: list[Floats] = []
        self._total: list[Floats] = []

    def add(self, block: Float[Tensor, "n columns"]) -> None:
        """Append rows."""
        signed, absolute = block.sum(1, dtype=torch.float64), block.abs().sum(1, dtype=torch.float64)
        if self.most is not None and self.most < block.shape[1]:
            kept = block.abs().topk(self.most, dim=1, sorted=False).indices.sort(1).values
            weights = block.gather(1, kept)
            real = weights != 0
            rows, source, weight = real.nonzero()[:, 0], kept[real], weights[real]
        else:
            rows, source = block.nonzero(as_tuple=True)
            weight = block[rows, source]
        counts = torch.bincount(rows, minlength=len(block))
        stored = torch.zeros_like(signed).index_add_(0, rows, weight.double())
        stored_abs = torch.zeros_like(signed).index_add_(0, rows, weight.double().abs())
        whole = self.most is None or self.most >= block.shape[1]
        rest = [torch.zeros_like(signed)] * 2 if whole else [signed - stored, (absolute - stored_abs).clamp_min(0)]
        self._counts.append(counts.cpu().numpy())
        self._source.append(source.to(torch.int32).cpu().numpy())
        self._weight.append(weight.float().cpu().numpy())
        self._rest.append(torch.stack(rest, 1).cpu().numpy())
        self._total.append(absolute.cpu().numpy())

    def __len__(self) -> int:
        return sum(map(len, self._counts))

    def totals(self) -> Floats:
        """By row, the sum of the sizes of all its effects."""
        return np.concatenate(self._total)

    def ordered(self, order: Ints) -> tuple[Edges, npt.NDArray[np.float32]]:
        """The rows in another order, and what was dropped of each (signed, absolute)."""
        counts, source, weight = np.concatenate(self._counts), np.concatenate(self._source), np.concatenate(self._weight)
        starts = np.concatenate([[0], np.cumsum(counts)])
        indptr = np.concatenate([[0], np.cumsum(counts[order])])
        picks = np.repeat(starts[:-1][order] - indptr[:-1], counts[order]) + np.arange(indptr[-1])
        edges = Edges(indptr=indptr.astype(np.int64), source=source[picks], weight=weight[picks])
        return edges, np.concatenate(self._rest)[order].astype(np.float32)

    def influence(self, node: Ints, place: Ints, *, start: Floats) -> Floats:
        """The influence of every column on rows of weight `start`: the sum over paths of the products of |effect| shares (see `influence.py`).

        `node` is the column of each row, negative for targets; `place` is where each row is read: sources always lie before it, so that one pass
        over rows from the last place to the first adds up every path.
        """
        influence = np.zeros(self.n_columns)
        ends = np.cumsum([0, *map(len, self._counts)])
        totals = np.maximum(self.totals(), 1e-30)
        row_of_entry = [
            np.repeat(np.arange(first, last), counts) for (first, last), counts in zip(pairwise(ends.tolist()), self._counts, strict=True)
        ]
        rows, source, size = np.concatenate(row_of_entry), np.concatenate(self._source), np.abs(np.concatenate(self._weight))
        order = np.argsort(-place[rows], kind="stable")
        rows, source, size = rows[order], source[order], size[order]
        bounds = np.flatnonzero(np.diff(place[rows], prepend=np.iinfo(np.int64).max, append=np.iinfo(np.int64).min))
        for first, last in pairwise(bounds.tolist()):
            here = rows[first:last]
            fed = start[here] + np.where(node[here] < 0, 0.0, influence[node[here]])
            influence += np.bincount(source[first:last], weights=fed * size[first:last] / totals[here], minlength=self.n_columns)
        return influence
