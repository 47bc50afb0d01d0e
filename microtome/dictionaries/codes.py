"""Sparse codes: which features are active on each token, and how much. The only form in which codes travel."""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from microtome.shapes import Float, Int, Tensor


class Csr(NamedTuple):
    """Compressed rows: token `t` has the entries `indptr[t]:indptr[t + 1]`, feature numbers ascending, none of value 0."""

    indptr: Int[Tensor, "rows_plus_1"]
    indices: Int[Tensor, "nnz"]
    values: Float[Tensor, "nnz"]


@dataclass(frozen=True)
class SparseCodes:
    """`k` (feature, value) pairs a token. A pair of value 0 is padding, whatever its index; no feature occurs twice in a row."""

    indices: Int[Tensor, "n k"]
    values: Float[Tensor, "n k"]
    d_dict: int
    """How many features the dictionary has; `0 <= indices < d_dict`."""

    @property
    def rows(self) -> int:
        """How many tokens."""
        return self.indices.shape[0]

    @property
    def nnz(self) -> int:
        """How many active (token, feature) pairs; padding is not counted."""
        return int((self.values != 0).sum())

    def to_csr(self) -> Csr:
        """The active pairs alone, row by row, features ascending within a row; the inverse of `from_csr`."""
        order = self.indices.argsort(dim=1)
        indices, values = self.indices.gather(1, order), self.values.gather(1, order)
        active = values != 0
        indptr = torch.zeros(self.rows + 1, dtype=torch.int64, device=values.device)
        torch.cumsum(active.sum(1), 0, out=indptr[1:])
        return Csr(indptr=indptr, indices=indices[active], values=values[active])

    @classmethod
    def from_csr(cls, csr: Csr, *, d_dict: int) -> "SparseCodes":
        """Pad the rows to the longest one, and to at least one pair, with (feature 0, value 0)."""
        counts = csr.indptr.diff()
        width = max(1, int(counts.max())) if len(counts) else 1
        rows = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
        slots = torch.arange(len(rows), device=counts.device) - csr.indptr[:-1].repeat_interleave(counts)
        indices = torch.zeros(len(counts), width, dtype=csr.indices.dtype, device=counts.device)
        values = torch.zeros(len(counts), width, dtype=csr.values.dtype, device=counts.device)
        indices[rows, slots] = csr.indices
        values[rows, slots] = csr.values
        return cls(indices, values, d_dict)
