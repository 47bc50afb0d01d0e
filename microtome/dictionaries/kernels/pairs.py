"""The sparse shape of a batch: which features are chosen on which rows. Everything sparse in training is such a list."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch

from microtome.dictionaries.kernels import native
from microtome.shapes import Float, Int, Tensor


class ByFeature(NamedTuple):
    """The same pairs sorted by feature, rows ascending within a feature."""

    order: Int[Tensor, "nnz"]
    """Place of each pair in the row-major list."""
    row: Int[Tensor, "nnz"]
    offsets: Int[Tensor, "d_dict_plus_1"]
    """Feature `f` has the pairs `offsets[f]:offsets[f + 1]` of this order."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """A list of (row, feature) pairs, row by row, in any order inside a row. No pair occurs twice."""

    indptr: Int[Tensor, "rows_plus_1"]
    """Row `r` has the pairs `indptr[r]:indptr[r + 1]`; int64."""
    feature: Int[Tensor, "nnz"]
    """int64."""
    d_dict: int

    def __post_init__(self) -> None:
        """Kernels read both lists as they lie in memory."""
        if self.indptr.dtype != torch.int64 or self.feature.dtype != torch.int64:
            raise TypeError(f"pairs are listed in int64, not {self.indptr.dtype} and {self.feature.dtype}")

    @classmethod
    def full(cls, indices: Int[Tensor, "n k"], *, d_dict: int) -> "Pairs":
        """The same number of features on every row."""
        n, k = indices.shape
        return cls(torch.arange(0, n * k + 1, max(k, 1), device=indices.device)[: n + 1], indices.reshape(-1).long(), d_dict)

    @classmethod
    def of_rows(cls, row: Int[Tensor, "nnz"], feature: Int[Tensor, "nnz"], *, rows: int, d_dict: int) -> "Pairs":
        """From the row of every pair, ascending."""
        indptr = torch.zeros(rows + 1, dtype=torch.int64, device=row.device)
        torch.cumsum(torch.bincount(row, minlength=rows), 0, out=indptr[1:])
        return cls(indptr, feature, d_dict)

    @property
    def rows(self) -> int:
        """How many rows, those without pairs included."""
        return len(self.indptr) - 1

    @cached_property
    def row(self) -> Int[Tensor, "nnz"]:
        """The row of each pair."""
        return torch.repeat_interleave(torch.arange(self.rows, device=self.feature.device), self.indptr.diff(), output_size=len(self.feature))

    @cached_property
    def by_feature(self) -> ByFeature:
        """Sorted once, for both weight gradients."""
        if self.feature.device.type == "cpu" and native.available():
            return self._counted()
        order = self.feature.to(torch.int32).sort(stable=True).indices
        offsets = torch.zeros(self.d_dict + 1, dtype=torch.int64, device=self.feature.device)
        torch.cumsum(torch.bincount(self.feature, minlength=self.d_dict), 0, out=offsets[1:])
        return ByFeature(order=order, row=self.row[order], offsets=offsets)

    def _counted(self) -> ByFeature:
        indptr, feature = self.indptr.contiguous(), self.feature.contiguous()
        order, row, offsets = torch.empty_like(feature), torch.empty_like(feature), indptr.new_empty(self.d_dict + 1)
        native.call("by_feature", indptr, feature, self.rows, self.d_dict, order, row, offsets)
        return ByFeature(order=order, row=row, offsets=offsets)

    def dense(self, values: Float[Tensor, "nnz"]) -> Float[Tensor, "n d_dict"]:
        """The values in their places, 0 elsewhere; for tests and small sizes."""
        return values.new_zeros(self.rows, self.d_dict).index_put_((self.row, self.feature), values)


class Chosen(NamedTuple):
    """Pairs with their exact fp32 pre-activations."""

    pairs: Pairs
    pre: Float[Tensor, "nnz"]


class BatchChosen(NamedTuple):
    """What a batch-wide choice gives."""

    pairs: Pairs
    pre: Float[Tensor, "nnz"]
    threshold: float
    """The smallest pre-activation kept; 0 where nothing was."""
