"""The processes that train one thing together, and the few sums, choices and copies that they need of each other.

A step is written for one process; where several share it, each calls a method of its `Group` at the places where one process would have seen all:

| `mode` | a process holds | shared at a step |
|---|---|---|
| `data` | everything, and every `size`-th row of a batch | gradients and counts |
| `features` | its part of the features, and all rows | the choice of active features, decoded rows, counts |

In a group of one (`ALONE`) every method returns what it is given, and nothing is sent.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
import torch.distributed as dist

from microtome.dictionaries.kernels import top_k
from microtome.errors import ProcessLost
from microtome.shapes import Bool, Float, Tensor

Mode = Literal["data", "features"]
Said = TypeVar("Said")


@dataclass(frozen=True, kw_only=True)
class Group:
    """This process (`rank`) among `size`; they are the default group of `torch.distributed`."""

    mode: Mode = "data"
    rank: int = 0
    size: int = 1
    device: torch.device | None = None
    """Where this process trains; None leaves it to the model."""

    @property
    def leads(self) -> bool:
        """Whether this is the one process that writes, reports and measures."""
        return self.rank == 0

    @property
    def shares_rows(self) -> bool:
        return self.size > 1 and self.mode == "data"

    @property
    def shares_features(self) -> bool:
        return self.size > 1 and self.mode == "features"

    def rows(self, batch: Mapping[Said, Tensor]) -> dict[Said, Tensor]:
        """This process's rows of a batch: every `size`-th, so that the first rows of the batch are spread over all."""
        return {site: rows[self.rank :: self.size] if self.shares_rows else rows for site, rows in batch.items()}

    def rows_of_first(self, n: int, *, held: int) -> int:
        """How many of this process's `held` rows are among the first `n` of the whole batch."""
        return min(held, -(-(n - self.rank) // self.size)) if self.shares_rows else min(held, n)

    def features(self, d_dict: int) -> slice:
        """The features that this process holds."""
        if not self.shares_features:
            return slice(0, d_dict)
        each = d_dict // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def over_features(self, partial: Tensor) -> Tensor:
        """The sum over all features, from the sum over this process's; in place."""
        return self._reduced(partial, dist.ReduceOp.SUM) if self.shares_features else partial

    def over_rows(self, partial: Tensor) -> Tensor:
        """The sum over all rows of a batch, from the sum over this process's; in place."""
        return self._reduced(partial, dist.ReduceOp.SUM) if self.shares_rows else partial

    def mean_over_rows(self, mean: Tensor) -> Tensor:
        """The mean over all rows of a batch, from the mean over this process's, which are as many everywhere; in place."""
        return self._reduced(mean, dist.ReduceOp.SUM).div_(self.size) if self.shares_rows else mean

    def total(self, number: int) -> int:
        """The sum of a number of each process."""
        return number if self.size == 1 else int(self._reduced(torch.tensor(number), dist.ReduceOp.SUM))

    def least(self, number: float) -> float:
        """The smallest of a number of each process."""
        return number if self.size == 1 else float(self._reduced(torch.tensor(number, dtype=torch.float64), dist.ReduceOp.MIN))

    def first(self, tensor: Tensor) -> Tensor:
        """What process 0 has, in place: for what all compute alike, so that rounding never makes it drift apart."""
        if self.size > 1:
            with _heard():
                dist.broadcast(tensor, src=0)
        return tensor

    def said(self, value: Said) -> Said:
        """What process 0 gave; any small value."""
        if self.size == 1:
            return value
        box = [value]
        with _heard():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def largest(self, values: Float[Tensor, "n m"], k: int) -> Float[Tensor, "n m"] | None:
        """1 at this process's part of the k largest of each row over all features, 0 elsewhere; None where all features are among them."""
        columns = self.total(values.shape[1]) if self.shares_features else values.shape[1]
        if k >= columns:
            return None
        mine = min(k, values.shape[1])
        index = top_k(values, mine).long() if mine else values.new_zeros(len(values), 0, dtype=torch.int64)
        found = torch.zeros_like(values)
        if not self.shares_features:
            return found.scatter_(1, index, 1.0)
        index = index.sort(dim=1).values
        candidates = values.new_full((len(values), k), -torch.inf)
        candidates[:, :mine] = values.gather(1, index)
        return found.scatter_(1, index, self.largest_of_rows(candidates, k)[:, :mine].to(values.dtype))

    def largest_of_rows(self, candidates: Float[Tensor, "n c"], k: int) -> Bool[Tensor, "n c"]:
        """Which of this process's candidates, in the order of their features, are among the k largest of their row over all processes.

        Of equal ones the first features are taken: candidates stand in the order of process and place, so every process decides alike without
        being told which features they are. What is not a number counts as the largest, so that the loss shows it.
        """
        key = torch.nan_to_num(candidates, nan=torch.inf, posinf=torch.inf, neginf=-torch.inf).contiguous()
        everyone = torch.cat(self._gathered(key), dim=1)
        kept = _largest(everyone, k)
        return kept.unflatten(1, (self.size, -1))[:, self.rank]

    def largest_of_all(self, candidates: Float[Tensor, "c"], n: int) -> Bool[Tensor, "c"]:
        """Which of this process's candidates are among the n largest of all processes; each may have another number of them."""
        counts = [int(each) for each in self._gathered(torch.tensor([len(candidates)]))]
        key = candidates.new_full((max(counts),), -torch.inf)
        key[: len(candidates)] = torch.nan_to_num(candidates, nan=torch.inf, posinf=torch.inf)
        kept = _largest(torch.cat(self._gathered(key))[None], n)[0]
        return kept[self.rank * len(key) :][: len(candidates)]

    def gathered(self, part: Tensor, *, dim: int = 0) -> Tensor:
        """All features' tensor on process 0, in host memory; the others, which send theirs one after another, keep their part."""
        if not self.shares_features:
            return part
        if self.rank > 0:
            with _heard():
                dist.send(part.movedim(dim, 0).contiguous().cpu(), dst=0)
            return part
        mine = part.movedim(dim, 0).contiguous()
        whole = torch.empty(len(mine) * self.size, *mine.shape[1:], dtype=part.dtype)
        whole[: len(mine)] = mine
        for source in range(1, self.size):
            with _heard():
                dist.recv(whole[source * len(mine) : (source + 1) * len(mine)], src=source)
        return whole.movedim(0, dim)

    def _gathered(self, tensor: Tensor) -> list[Tensor]:
        found = [torch.empty_like(tensor) for _ in range(self.size)]
        with _heard():
            dist.all_gather(found, tensor)
        return found

    def _reduced(self, tensor: Tensor, how: "dist.ReduceOp.RedOpType") -> Tensor:
        held = tensor if tensor.is_contiguous() else tensor.contiguous()
        with _heard():
            dist.all_reduce(held, op=how)
        return held


ALONE = Group()


@contextmanager
def _heard() -> Generator[None]:
    """Name what torch reports as a RuntimeError of its transport: the others can no longer be heard."""
    try:
        yield
    except RuntimeError as error:
        do = "Start the same command again under torchrun: training goes on from its last checkpoint."
        reason = str(error).strip().partition("\n")[0][:160]
        raise ProcessLost("another process of the group is gone.", got=reason, wanted="all processes alive to the end", do=do) from error


def _largest(values: Float[Tensor, "n m"], k: int) -> Bool[Tensor, "n m"]:
    """The k largest of each row; of equal ones the first."""
    if k >= values.shape[1]:
        return torch.ones_like(values, dtype=torch.bool)
    bound = values.topk(k, dim=1, sorted=False).values.amin(1, keepdim=True)
    above, level = values > bound, values == bound
    spare = k - above.sum(1, keepdim=True)
    return above | (level & (level.cumsum(1) <= spare))
