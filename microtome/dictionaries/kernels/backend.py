"""What an implementation of the kernels offers; a module with these functions is one."""

from typing import Protocol, runtime_checkable

from microtome.dictionaries.kernels.pairs import BatchChosen, Chosen, Pairs
from microtome.dictionaries.kernels.proposer import Proposer
from microtome.dictionaries.kernels.update import AdamStep, Moments
from microtome.shapes import Float, Tensor


@runtime_checkable
class Backend(Protocol):
    """See the functions of the same names in `ops`."""

    def top_k_pairs(
        self,
        centred: Float[Tensor, "n d_in"],
        W_enc: Float[Tensor, "d_dict d_in"],
        b_enc: Float[Tensor, "d_dict"],
        *,
        k: int,
        proposer: Proposer,
        absolute: bool = False,
    ) -> Chosen: ...

    def pairs_above(
        self,
        centred: Float[Tensor, "n d_in"],
        W_enc: Float[Tensor, "d_dict d_in"],
        b_enc: Float[Tensor, "d_dict"],
        *,
        bound: Float[Tensor, "d_dict"],
        proposer: Proposer,
        sure: bool = True,
    ) -> Chosen: ...

    def largest(self, found: Chosen, wanted: int) -> BatchChosen: ...
    def decode(self, pairs: Pairs, values: Float[Tensor, "nnz"], table: Float[Tensor, "d_dict d"]) -> Float[Tensor, "n d"]: ...
    def row_dots(self, pairs: Pairs, rows: Float[Tensor, "n d"], table: Float[Tensor, "d_dict d"]) -> Float[Tensor, "nnz"]: ...
    def feature_sums(self, pairs: Pairs, weight: Float[Tensor, "nnz"], rows: Float[Tensor, "n d"]) -> Float[Tensor, "d_dict d"]: ...
    def adam(self, weight: Tensor, gradient: Tensor, *, moments: Moments, step: AdamStep) -> None: ...
