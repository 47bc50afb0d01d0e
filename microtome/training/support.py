"""Where a batch's activations may be other than 0, and the products over it: a list of pairs while few are, the whole matrix while many are.

`entries` are a tensor of one number a place: `[nnz]` on a sparse support, `[n, features]` on a dense one. What is elementwise works on both.
"""

from abc import ABC, abstractmethod
from typing import Any, final

from microtome.dictionaries.kernels import Pairs, decode, feature_sums, row_dots
from microtome.shapes import Float, Tensor


class Support(ABC):
    """The places of a batch that may be active."""

    @abstractmethod
    def decode(self, values: Tensor, table: Float[Tensor, "d_dict d"]) -> Float[Tensor, "n d"]:
        """For every row, the sum of value times the feature's row of `table`."""

    @abstractmethod
    def dots(self, rows: Float[Tensor, "n d"], table: Float[Tensor, "d_dict d"]) -> Tensor:
        """For every place, <its row, its feature's row of `table`>."""

    @abstractmethod
    def sums(self, weight: Tensor, rows: Float[Tensor, "n d"]) -> Float[Tensor, "d_dict d"]:
        """For every feature, the sum over its places of weight times the row."""

    @abstractmethod
    def total(self, weight: Tensor) -> Float[Tensor, "d_dict"]:
        """For every feature, the sum of its places' weights."""

    def counts(self, values: Tensor) -> Float[Tensor, "d_dict"]:
        """For every feature, how many of its places hold something other than 0."""
        return self.total((values != 0).to(values.dtype))

    @abstractmethod
    def of_feature(self, each: Float[Tensor, "d_dict"]) -> Tensor:
        """A number a feature, laid out so that it meets the entries."""

    @abstractmethod
    def part(self, low: int, high: int) -> "Part":
        """The places of the features `low` to `high`."""


class Part:
    """Some places of a support: `place` picks and sets their entries."""

    def __init__(self, support: Support, place: Any) -> None:
        self.support = support
        self.place = place


@final
class Sparse(Support):
    """A list of pairs: work proportional to their number."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs

    def decode(self, values: Tensor, table: Float[Tensor, "d_dict d"]) -> Float[Tensor, "n d"]:
        return decode(self.pairs, values, table)

    def dots(self, rows: Float[Tensor, "n d"], table: Float[Tensor, "d_dict d"]) -> Tensor:
        return row_dots(self.pairs, rows, table)

    def sums(self, weight: Tensor, rows: Float[Tensor, "n d"]) -> Float[Tensor, "d_dict d"]:
        return feature_sums(self.pairs, weight, rows)

    def total(self, weight: Tensor) -> Float[Tensor, "d_dict"]:
        return weight.new_zeros(self.pairs.d_dict).index_add_(0, self.pairs.feature, weight)

    def counts(self, values: Tensor) -> Float[Tensor, "d_dict"]:
        if int(values.count_nonzero()) == len(values):  # as a rule; the sorted pairs, which the gradients need as well, have the numbers
            return self.pairs.by_feature.offsets.diff().to(values.dtype)
        return super().counts(values)

    def of_feature(self, each: Float[Tensor, "d_dict"]) -> Tensor:
        return each[self.pairs.feature]

    def part(self, low: int, high: int) -> Part:
        pairs = self.pairs
        if low <= 0 and high >= pairs.d_dict:
            return Part(self, slice(None))
        mask = (pairs.feature >= low) & (pairs.feature < high)
        return Part(Sparse(Pairs.of_rows(pairs.row[mask], pairs.feature[mask], rows=pairs.rows, d_dict=pairs.d_dict)), mask)


@final
class Dense(Support):
    """All places of some features, by matrix products: faster once an eighth of them or more is active."""

    def __init__(self, d_dict: int, *, low: int = 0, high: int | None = None) -> None:
        self.d_dict = d_dict
        self.features = slice(low, d_dict if high is None else high)

    def decode(self, values: Tensor, table: Float[Tensor, "d_dict d"]) -> Float[Tensor, "n d"]:
        return values @ table[self.features]

    def dots(self, rows: Float[Tensor, "n d"], table: Float[Tensor, "d_dict d"]) -> Tensor:
        return rows @ table[self.features].T

    def sums(self, weight: Tensor, rows: Float[Tensor, "n d"]) -> Float[Tensor, "d_dict d"]:
        found = rows.new_zeros(self.d_dict, rows.shape[1])
        found[self.features] = weight.T @ rows
        return found

    def total(self, weight: Tensor) -> Float[Tensor, "d_dict"]:
        found = weight.new_zeros(self.d_dict)
        found[self.features] = weight.sum(0)
        return found

    def of_feature(self, each: Float[Tensor, "d_dict"]) -> Tensor:
        return each[self.features]

    def part(self, low: int, high: int) -> Part:
        return Part(Dense(self.d_dict, low=low, high=high), (slice(None), slice(low, high)))
