"""Sums and inner products over pairs, in Triton: the work and the traffic are proportional to the number of pairs.

`decode` and `feature_sums` are one kernel, sums of table rows by weight over the segments of a list. It adds in the order of the list, so equal
inputs give equal bits. A feature that is active on very many rows would keep one program busy alone: its pairs are cut into runs of `split`, and the
runs' sums are added.
"""
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportCallIssue=false
# (a kernel's arguments are pointers and sizes: Triton compiles it and gives them no Python types)

from typing import no_type_check

import torch
import triton
import triton.language as tl

from microtome.dictionaries.kernels.pairs import Pairs
from microtome.shapes import Float, Int, Tensor

_SPLIT = 1024
"""Pairs that one program sums."""


@triton.jit
@no_type_check
def _segment_sums_kernel(out, table, index, weight, begin, end, slot, width, PAIRS: tl.constexpr, COLUMNS: tl.constexpr):
    """out[slot[s]] = sum of weight[p] table[index[p]] over p from begin[s] to end[s], some columns."""
    segment = tl.program_id(0)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < width
    first, last = tl.load(begin + segment), tl.load(end + segment)
    total = tl.zeros((COLUMNS,), dtype=tl.float32)
    for start in range(first, last, PAIRS):
        pair = start + tl.arange(0, PAIRS)
        real = pair < last
        place = tl.load(index + pair, mask=real, other=0).to(tl.int64)
        by = tl.load(weight + pair, mask=real, other=0.0).to(tl.float32)
        part = tl.load(table + place[:, None] * width + columns[None, :], mask=real[:, None] & inside[None, :], other=0.0)
        total += tl.sum(part.to(tl.float32) * by[:, None], axis=0)
    where = tl.load(slot + segment).to(tl.int64) * width + columns
    tl.store(out + where, total.to(out.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def _row_dots_kernel(out, rows, table, row, feature, pairs, width, PAIRS: tl.constexpr, COLUMNS: tl.constexpr):
    """out[p] = <rows[row[p]], table[feature[p]]> for some pairs."""
    pair = tl.program_id(0).to(tl.int64) * PAIRS + tl.arange(0, PAIRS)
    real = pair < pairs
    left = tl.load(row + pair, mask=real, other=0).to(tl.int64) * width
    right = tl.load(feature + pair, mask=real, other=0).to(tl.int64) * width
    total = tl.zeros((PAIRS,), dtype=tl.float32)
    for start in range(0, width, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        mask = real[:, None] & (columns < width)[None, :]
        a = tl.load(rows + left[:, None] + columns[None, :], mask=mask, other=0.0).to(tl.float32)
        b = tl.load(table + right[:, None] + columns[None, :], mask=mask, other=0.0).to(tl.float32)
        total += tl.sum(a * b, axis=1)
    tl.store(out + pair, total.to(out.dtype.element_ty), mask=real)


def decode(pairs: Pairs, values: Float[Tensor, "nnz"], table: Float[Tensor, "d_dict d"]) -> Float[Tensor, "n d"]:
    """See `ops.decode`."""
    out = table.new_empty(pairs.rows, table.shape[1])
    _segment_sums(out, table, index=pairs.feature, weight=values, begin=pairs.indptr[:-1], end=pairs.indptr[1:])
    return out


def row_dots(pairs: Pairs, rows: Float[Tensor, "n d"], table: Float[Tensor, "d_dict d"]) -> Float[Tensor, "nnz"]:
    """See `ops.row_dots`."""
    count, width = len(pairs.feature), table.shape[1]
    out = table.new_empty(count)
    if count:
        size = _block(width, most=256)
        rows, table = rows.contiguous(), table.contiguous()
        with torch.cuda.device_of(table):
            _row_dots_kernel[(cdiv(count, 16),)](out, rows, table, pairs.row, pairs.feature.contiguous(), count, width, PAIRS=16, COLUMNS=size)
    return out


def feature_sums(pairs: Pairs, weight: Float[Tensor, "nnz"], rows: Float[Tensor, "n d"], *, split: int = _SPLIT) -> Float[Tensor, "d_dict d"]:
    """See `ops.feature_sums`. Features with more than `split` pairs are summed in runs of `split`, and these in their order."""
    order, row, offsets = pairs.by_feature
    weight, begin, end = weight[order], offsets[:-1], offsets[1:]
    frequent = (end - begin > split).nonzero().squeeze(1) if pairs.rows > split else order[:0]  # no feature has more pairs than there are rows
    out = rows.new_empty(pairs.d_dict, rows.shape[1])
    if not len(frequent):
        _segment_sums(out, rows, index=row, weight=weight, begin=begin, end=end)
        return out

    _segment_sums(out, rows, index=row, weight=weight, begin=begin, end=end.index_copy(0, frequent, begin[frequent]))
    runs = (end - begin)[frequent].add(split - 1).div(split, rounding_mode="floor")
    of_run = torch.repeat_interleave(frequent, runs)
    last = runs.cumsum(0)
    place = torch.arange(len(of_run), device=rows.device)
    start = begin[of_run] + (place - torch.repeat_interleave(last - runs, runs)) * split
    partial = torch.empty(len(of_run), rows.shape[1], dtype=torch.float32, device=rows.device)
    _segment_sums(partial, rows, index=row, weight=weight, begin=start, end=torch.minimum(start + split, end[of_run]))
    ones = torch.ones(len(of_run), dtype=torch.float32, device=rows.device)
    _segment_sums(out, partial, index=place, weight=ones, begin=last - runs, end=last, slot=frequent)
    return out


def cdiv(total: int, size: int) -> int:
    """How many blocks of `size` hold `total`."""
    return -(-total // size)


def _segment_sums(
    out: Float[Tensor, "slots d"],
    table: Float[Tensor, "m d"],
    *,
    index: Int[Tensor, "nnz"],
    weight: Float[Tensor, "nnz"],
    begin: Int[Tensor, "segments"],
    end: Int[Tensor, "segments"],
    slot: Int[Tensor, "segments"] | None = None,
) -> None:
    """Write every segment's sum into its slot of `out` (slot s for segment s where none are given); a segment without pairs writes 0."""
    segments, width = len(begin), table.shape[1]
    if not (segments and width):
        return
    slot = torch.arange(segments, device=table.device) if slot is None else slot
    size = _block(width, most=512)
    with torch.cuda.device_of(table):
        _segment_sums_kernel[(segments, cdiv(width, size))](
            out, table.contiguous(), index.contiguous(), weight.contiguous(), begin, end, slot, width, PAIRS=8, COLUMNS=size
        )


def _block(width: int, *, most: int) -> int:
    return min(most, max(16, 1 << (width - 1).bit_length()))
