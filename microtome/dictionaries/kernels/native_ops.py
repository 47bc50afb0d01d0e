"""The kernels in C, for fp32 tensors on a CPU: the functions of `torch_ops`, with its product where the proposer is not in int8."""

import ctypes

import numpy as np
import torch
import torch.nn.functional as F

from microtome.dictionaries.kernels import native, torch_ops
from microtome.dictionaries.kernels.pairs import BatchChosen, Chosen, Pairs
from microtome.dictionaries.kernels.proposer import Proposer
from microtome.dictionaries.kernels.update import AdamStep, Moments
from microtome.shapes import Float, Tensor

_BLOCK = 48
"""As in native_propose.c."""
_SIGMAS = 3.0
"""Standard deviations of a score's rounding error that a candidate may be behind; see the head of native_propose.c."""
_SURE_SIGMAS = 6.0
"""The same where a missed pair is not made up for by the next best one."""


class _Found(ctypes.Structure):
    _fields_ = (("count", ctypes.c_int64), ("capacity", ctypes.c_int64), ("feature", ctypes.c_void_p), ("pre", ctypes.c_void_p))

    def __del__(self) -> None:
        """Where another part found no memory, nobody takes what this one found."""
        if self.feature or self.pre:
            self.count = 0
            native.call("take", ctypes.byref(self), 0, 0)


class _Adam(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_float) for name in ("rate", "root", "beta1", "beta2", "eps", "copies"))


def top_k_pairs(
    centred: Float[Tensor, "n d_in"],
    W_enc: Float[Tensor, "d_dict d_in"],
    b_enc: Float[Tensor, "d_dict"],
    *,
    k: int,
    proposer: Proposer,
    absolute: bool = False,
    sigmas: float = _SIGMAS,
) -> Chosen:
    """See `ops.top_k_pairs`."""
    quantised = proposer.quantised
    if quantised is None or 4 * k > len(W_enc):
        return torch_ops.top_k_pairs(centred, W_enc, b_enc, k=k, proposer=proposer, absolute=absolute)
    x, b = centred.contiguous(), b_enc.contiguous()
    quantised.fit(x)
    base, n, d = quantised.base(b), len(x), x.shape[1]
    feature, pre = torch.empty(n, k, dtype=torch.int64), torch.empty(n, k)
    table, most, habit = ctypes.byref(quantised.table), 8 * k + 128, np.zeros(3)

    def part(first: int, last: int) -> None:
        at, known = 4 * first, habit.copy()
        native.call(
            "top_k", table, base, b, x.data_ptr() + at * d, last - first, k, int(absolute), sigmas, most, known,
            feature.data_ptr() + 2 * at * k, pre.data_ptr() + at * k,
        )  # fmt: skip
        habit[:] = known  # of parts done at once, the last one's: guesses cost or save time and change nothing

    native.spread(part, n, grain=_BLOCK, parts_a_worker=16)
    return Chosen(Pairs.full(feature, d_dict=len(b)), pre.view(-1))


def pairs_above(
    centred: Float[Tensor, "n d_in"],
    W_enc: Float[Tensor, "d_dict d_in"],
    b_enc: Float[Tensor, "d_dict"],
    *,
    bound: Float[Tensor, "d_dict"],
    proposer: Proposer,
    sure: bool = True,
) -> Chosen:
    """See `ops.pairs_above`."""
    quantised = proposer.quantised
    if quantised is None:
        return torch_ops.pairs_above(centred, W_enc, b_enc, bound=bound, proposer=proposer)
    x, b, bound = centred.contiguous(), b_enc.contiguous(), bound.contiguous()
    quantised.fit(x)
    base, n, d = quantised.base(b - bound), len(x), x.shape[1]
    counts, sigmas = torch.zeros(n, dtype=torch.int64), _SURE_SIGMAS if sure else _SIGMAS
    table, found = ctypes.byref(quantised.table), dict[int, _Found]()

    def part(first: int, last: int) -> None:
        found[first] = _Found()
        reference, at = ctypes.byref(found[first]), counts.data_ptr() + 8 * first
        native.call("above", table, base, b, bound, x.data_ptr() + 4 * first * d, last - first, sigmas, at, reference)

    native.spread(part, n, grain=_BLOCK)
    indptr = F.pad(counts.cumsum(0), (1, 0))
    feature, pre = torch.empty(int(indptr[-1]), dtype=torch.int64), torch.empty(int(indptr[-1]))
    for first, some in found.items():
        at = int(indptr[first])
        native.call("take", ctypes.byref(some), feature.data_ptr() + 8 * at, pre.data_ptr() + 4 * at)
    return Chosen(Pairs(indptr, feature, len(b)), pre)


def largest(found: Chosen, wanted: int) -> BatchChosen:
    """See `torch_ops.largest`."""
    (indptr, feature), pre = (found.pairs.indptr.contiguous(), found.pairs.feature.contiguous()), found.pre.contiguous()
    least = float(np.partition(pre.numpy(), len(pre) - wanted)[len(pre) - wanted])  # eight times faster than torch's
    new_indptr, new_feature, new_pre = torch.empty_like(indptr), torch.empty_like(feature), torch.empty_like(pre)
    count = native.call("largest", indptr, feature, pre, found.pairs.rows, least, wanted, new_indptr, new_feature, new_pre)
    return BatchChosen(Pairs(new_indptr, new_feature[:count], found.pairs.d_dict), new_pre[:count], least)


def decode(pairs: Pairs, values: Float[Tensor, "nnz"], table: Float[Tensor, "d_dict d"]) -> Float[Tensor, "n d"]:
    """See `ops.decode`."""
    values, table, indptr, feature = values.contiguous(), table.contiguous(), pairs.indptr.contiguous(), pairs.feature.contiguous()
    d, out = table.shape[1], table.new_empty(pairs.rows, table.shape[1])

    def part(first: int, last: int) -> None:
        native.call("decode", indptr, feature, values, table, len(table), d, out, first, last)

    native.spread(part, pairs.rows, grain=16)
    return out


def row_dots(pairs: Pairs, rows: Float[Tensor, "n d"], table: Float[Tensor, "d_dict d"]) -> Float[Tensor, "nnz"]:
    """See `ops.row_dots`."""
    rows, table, indptr, feature = rows.contiguous(), table.contiguous(), pairs.indptr.contiguous(), pairs.feature.contiguous()
    d, out = table.shape[1], rows.new_empty(len(feature))

    def part(first: int, last: int) -> None:
        native.call("row_dots", indptr, feature, rows, table, len(table), d, out, first, last)

    native.spread(part, pairs.rows, grain=16)
    return out


def feature_sums(pairs: Pairs, weight: Float[Tensor, "nnz"], rows: Float[Tensor, "n d"]) -> Float[Tensor, "d_dict d"]:
    """See `ops.feature_sums`."""
    weight, rows = weight.contiguous(), rows.contiguous()
    order, row, offsets = pairs.by_feature
    d, out = rows.shape[1], rows.new_empty(pairs.d_dict, rows.shape[1])

    def part(first: int, last: int) -> None:
        native.call("feature_sums", offsets, order, row, weight, rows, d, out, first, last)

    native.spread(part, pairs.d_dict, grain=16)
    return out


def adam(weight: Tensor, gradient: Tensor, *, moments: Moments, step: AdamStep) -> None:
    """See `ops.adam`."""
    if not (weight.is_contiguous() and moments.exp_avg.is_contiguous() and moments.exp_avg_sq.is_contiguous()):
        torch_ops.adam(weight, gradient, moments=moments, step=step)
        return
    gradient, rows = gradient.contiguous(), len(weight) if weight.ndim == 2 else 1
    numbers = _Adam(
        rate=step.rate / (1 - step.beta1**step.taken),
        root=(1 - step.beta2**step.taken) ** -0.5,
        beta1=step.beta1,
        beta2=step.beta2,
        eps=step.eps,
        copies=step.copies,
    )

    def part(first: int, last: int) -> None:
        native.call("adam", ctypes.byref(numbers), weight, gradient, *moments, weight.numel() // max(rows, 1), first, last)

    native.spread(part, rows, grain=16)
