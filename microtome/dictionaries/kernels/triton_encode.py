"""The encoder's product fused with the choice of pairs, in Triton: pre-activations never leave the chip as a [rows × d_dict] matrix.

**Top-k**, in two stages. The product's tiles write only the largest pre-activation of every group of 16 neighbouring features; the k groups with the
largest maxima are then scored again, whole and in fp32, and the k largest of those are kept. Nothing is lost: suppose one of a row's k largest lay in
a group that was not chosen. Each of the k chosen groups has a maximum at least as large as that group's, hence at least as large as that element; so
k other elements are at least as large, and the element ties with the k-th at best. In bf16 this holds of the bf16 product; four more groups are
scored again there, so that its rounding hardly ever costs one of the k largest.

**Above a bound**, in three. The tiles write one bit a pre-activation, set where it could be above its feature's bound given the product's rounding,
and a count a row and tile; running sums of the counts say where each tile's pairs go; the bits are expanded there. No atomics: equal inputs give
equal lists. The pairs are scored in fp32, and those really above the bound are kept.

NaN counts as the largest value in a top-k, as in torch, and is above every bound: the loss shall show it.

**Costs of a step** with n rows of width d, F = d_dict, L pairs a row, and a bf16 product; on the right n = 4,096, d = 4,096, F = 2^20, k = L = 32:

| | formula | |
|---|---|---|
| encoder product | 2 n d F FLOPs | 35.2 TFLOP |
| group maxima, written and read | 2 · 4 n F / 16 bytes | 2.1 GB (as a dense fp32 matrix: 34 GB) |
| chosen groups again in fp32 | 2 · 16 k n d FLOPs; 4 · 16 k n d bytes before caches | 17 GFLOP; 34 GB |
| bits and counts of a bound, written and read | 2 n F (1/8 + 4/128) bytes | 1.3 GB |
| decode, values' gradient, two weight gradients | 4 · 2 n L d FLOPs; 4 · 4 n L d bytes before caches | 4.3 GFLOP; 8.6 GB |
| dense weight gradients, written | 2 · 4 F d bytes | 34 GB |
| weights, gradients, Adam's two moments, all fp32 | 2 · 16 F d bytes | 137 GB |
| bf16 shadow of the encoder | 2 F d bytes | 8.6 GB |
| scratch of the choice | 4 n F / 16 bytes, at most 256 MB: rows go in blocks | 256 MB |

These follow from the formulas; nothing was timed on a GPU. Weights and moments at F = 2^20, d = 4,096 are beyond one card of 80 GB: shard.
"""
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportCallIssue=false
# (a kernel's arguments are pointers and sizes: Triton compiles it and gives them no Python types)

from typing import NamedTuple, no_type_check

import torch
import triton
import triton.language as tl

from microtome.dictionaries.kernels.pairs import Chosen, Pairs
from microtome.dictionaries.kernels.proposer import Proposer
from microtome.dictionaries.kernels.triton_sums import cdiv, row_dots
from microtome.shapes import Bool, Float, Int, Tensor

_GROUP = 16
"""Neighbouring features of which a tile writes the largest."""
_SPARE = 4
"""Groups chosen beyond k where the product is in bf16."""
_SLOTS = 4
"""Groups that one program scores again."""
_LOWEST = torch.finfo(torch.float32).min
_SCRATCH_BYTES = 1 << 28
"""Of maxima or bits at once; more rows than fit go in blocks."""
_EXPAND = 2048
"""Features whose bits one program expands."""


class Tiles(NamedTuple):
    """What one program multiplies."""

    rows: int
    features: int
    depth: int


@triton.jit
@no_type_check
def _product(x, table, bias, row, feature, n, d_dict, width, DEPTH: tl.constexpr, WIDEN: tl.constexpr):
    """A tile of pre-activations, accumulated in fp32. `WIDEN` is for the interpreter, which would multiply the bits of bf16 numbers as integers."""
    total = tl.zeros((row.shape[0], feature.shape[0]), dtype=tl.float32)
    for start in range(0, width, DEPTH):
        depth = start + tl.arange(0, DEPTH)
        inside = depth < width
        a = tl.load(x + row[:, None] * width + depth[None, :], mask=(row < n)[:, None] & inside[None, :], other=0.0)
        b = tl.load(table + feature[None, :] * width + depth[:, None], mask=(feature < d_dict)[None, :] & inside[:, None], other=0.0)
        if WIDEN:
            a, b = a.to(tl.float32), b.to(tl.float32)
        total = tl.dot(a, b, total, input_precision="ieee")
    return total + tl.load(bias + feature, mask=feature < d_dict, other=0.0).to(tl.float32)[None, :]


@triton.jit
@no_type_check
def _maxima_kernel(
    maxima, x, table, bias, n, d_dict, width, groups, ABSOLUTE: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr, FEATURES: tl.constexpr,
    DEPTH: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """The largest key of every group of features of a tile; rows of the batch run fastest, so that a tile of the table is read once."""
    tiles = tl.cdiv(n, ROWS)
    tile = (tl.program_id(0) // tiles).to(tl.int64)
    row = (tl.program_id(0) % tiles).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    feature = tile * FEATURES + tl.arange(0, FEATURES)
    pre = _product(x, table, bias, row, feature, n, d_dict, width, DEPTH, WIDEN)
    key = tl.abs(pre) if ABSOLUTE else pre
    key = tl.where(key != key, float("inf"), tl.maximum(key, -3.4028234663852886e38))
    key = tl.where((feature < d_dict)[None, :], key, -float("inf"))
    best = tl.max(tl.reshape(key, (ROWS, FEATURES // GROUP, GROUP)), axis=2)
    group = tile * (FEATURES // GROUP) + tl.arange(0, FEATURES // GROUP)
    tl.store(maxima + row[:, None] * groups + group[None, :], best, mask=(row < n)[:, None] & (group < groups)[None, :])


@triton.jit
@no_type_check
def _rescore_kernel(pre, x, table, bias, chosen, kept, d_dict, width, GROUP: tl.constexpr, SLOTS: tl.constexpr, DEPTH: tl.constexpr):
    """fp32 pre-activations of all features of some chosen groups of one row."""
    row = tl.program_id(0).to(tl.int64)
    lane = tl.program_id(1) * (SLOTS * GROUP) + tl.arange(0, SLOTS * GROUP)
    mine = lane < kept * GROUP
    feature = tl.load(chosen + row * kept + lane // GROUP, mask=mine, other=0) * GROUP + lane % GROUP
    real = mine & (feature < d_dict)
    total = tl.zeros((SLOTS * GROUP,), dtype=tl.float32)
    for start in range(0, width, DEPTH):
        depth = start + tl.arange(0, DEPTH)
        inside = depth < width
        a = tl.load(x + row * width + depth, mask=inside, other=0.0).to(tl.float32)
        b = tl.load(table + feature[:, None] * width + depth[None, :], mask=real[:, None] & inside[None, :], other=0.0).to(tl.float32)
        total += tl.sum(b * a[None, :], axis=1)
    total += tl.load(bias + feature, mask=real, other=0.0).to(tl.float32)
    tl.store(pre + row * kept * GROUP + lane, total, mask=mine)


@triton.jit
@no_type_check
def _bits_kernel(
    bits, counts, x, table, bias, low, slack, size, n, d_dict, width, ROWS: tl.constexpr, FEATURES: tl.constexpr, DEPTH: tl.constexpr,
    WIDEN: tl.constexpr,
):  # fmt: skip
    """One bit a pre-activation that may be above its bound, and how many there are of each row in this tile."""
    tiles, across = tl.cdiv(n, ROWS), tl.cdiv(d_dict, FEATURES)
    tile = (tl.program_id(0) // tiles).to(tl.int64)
    row = (tl.program_id(0) % tiles).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    feature = tile * FEATURES + tl.arange(0, FEATURES)
    pre = _product(x, table, bias, row, feature, n, d_dict, width, DEPTH, WIDEN)
    real = feature < d_dict
    room = tl.load(size + row, mask=row < n, other=0.0)[:, None] * tl.load(slack + feature, mask=real, other=0.0)[None, :]
    hit = ((pre + room <= tl.load(low + feature, mask=real, other=0.0)[None, :]) == 0) & real[None, :]  # also where it is not a number
    bit = tl.reshape(hit.to(tl.int32), (ROWS, FEATURES // 8, 8)) << tl.arange(0, 8)[None, None, :]
    word = tile * (FEATURES // 8) + tl.arange(0, FEATURES // 8)
    tl.store(bits + row[:, None] * (across * (FEATURES // 8)) + word[None, :], tl.sum(bit, axis=2).to(tl.uint8), mask=(row < n)[:, None])
    tl.store(counts + row * across + tile, tl.sum(hit.to(tl.int32), axis=1), mask=row < n)


@triton.jit
@no_type_check
def _expand_kernel(found, bits, ends, counts, across, FEATURES: tl.constexpr, TILES: tl.constexpr):
    """The features of the bits of `TILES` neighbouring tiles of a row, ascending, at their place in the list."""
    row = tl.program_id(0).to(tl.int64)
    tile = tl.program_id(1) * TILES
    first = row * across + tile
    base = tl.load(ends + first) - tl.load(counts + first)
    feature = tile * FEATURES + tl.arange(0, TILES * FEATURES)
    words = across * (FEATURES // 8)
    word = tl.load(bits + row * words + feature // 8, mask=feature // 8 < words, other=0).to(tl.int32)
    hit = (word >> (feature % 8)) & 1
    tl.store(found + base + tl.cumsum(hit, axis=0) - 1, feature.to(tl.int64), mask=hit == 1)


def top_k_pairs(
    centred: Float[Tensor, "n d_in"],
    W_enc: Float[Tensor, "d_dict d_in"],
    b_enc: Float[Tensor, "d_dict"],
    *,
    k: int,
    proposer: Proposer,
    absolute: bool = False,
) -> Chosen:
    """See `ops.top_k_pairs`."""
    d_dict, b_enc = len(W_enc), b_enc.contiguous()
    k = min(k, d_dict)
    groups = cdiv(d_dict, _GROUP)
    most = min(groups, k + (_SPARE if proposer.product == "bfloat16" else 0))
    features, values = [centred.new_zeros(0, k, dtype=torch.int64)], [W_enc.new_zeros(0, k)]
    for x in centred.contiguous().split(max(1, _SCRATCH_BYTES // (4 * groups))) if len(centred) and k else ():
        chosen = _group_maxima(x, b_enc, proposer, absolute=absolute).topk(most, sorted=False).indices
        pre = _rescored_groups(x, W_enc, b_enc, chosen=chosen)
        feature = (chosen[:, :, None] * _GROUP + torch.arange(_GROUP, device=x.device)).flatten(1)
        key = (pre.abs() if absolute else pre).clamp(min=_LOWEST).masked_fill(feature >= d_dict, -torch.inf)
        best = key.topk(k, sorted=False).indices
        features.append(feature.gather(1, best))
        values.append(pre.gather(1, best))
    return Chosen(Pairs.full(torch.cat(features), d_dict=d_dict), torch.cat(values).flatten())


def pairs_above(
    centred: Float[Tensor, "n d_in"],
    W_enc: Float[Tensor, "d_dict d_in"],
    b_enc: Float[Tensor, "d_dict"],
    *,
    bound: Float[Tensor, "d_dict"],
    proposer: Proposer,
    sure: bool = True,
) -> Chosen:
    """See `ops.pairs_above`.

    No pair is missed: the product errs by at most `margin` |row| |feature|. bf16 rounds each of its two inputs by at most 2^-8 of it, and 2^-10 is
    more than an fp32 sum of 8,192 terms loses.
    """
    margin = 2.0**-10 + (2.0**-7 if proposer.product == "bfloat16" else 0.0)
    low = bound - 2.0**-20 * (bound.abs() + b_enc.abs())
    slack, size = margin * torch.linalg.vector_norm(W_enc, dim=1), torch.linalg.vector_norm(centred, dim=1)
    d_dict, b_enc = len(W_enc), b_enc.contiguous()
    counts, features = [centred.new_zeros(0, dtype=torch.int64)], [centred.new_zeros(0, dtype=torch.int64)]
    block = max(1, 8 * _SCRATCH_BYTES // max(1, d_dict))
    for x, norm in zip(centred.contiguous().split(block), size.split(block), strict=True) if len(centred) and d_dict else ():
        count, feature = _maybe_above(x, b_enc, proposer, low=low.contiguous(), slack=slack, size=norm)
        counts.append(count)
        features.append(feature)
    row = torch.repeat_interleave(torch.arange(len(centred), device=centred.device), torch.cat(counts))
    pairs = Pairs.of_rows(row, torch.cat(features), rows=len(centred), d_dict=d_dict)
    pre = row_dots(pairs, centred, W_enc) + b_enc[pairs.feature]
    return _kept(pairs, pre, ~(pre <= bound[pairs.feature]))


def _group_maxima(x: Float[Tensor, "n d_in"], b_enc: Float[Tensor, "d_dict"], proposer: Proposer, *, absolute: bool) -> Float[Tensor, "n groups"]:
    n, (d_dict, width), tiles = len(x), proposer.table.shape, _tiles(x, proposer)
    groups = cdiv(d_dict, _GROUP)
    maxima = torch.empty(n, groups, dtype=torch.float32, device=x.device)
    grid = (cdiv(n, tiles.rows) * cdiv(d_dict, tiles.features),)
    with torch.cuda.device_of(x):
        _maxima_kernel[grid](
            maxima, x.to(proposer.table.dtype), proposer.table.contiguous(), b_enc, n, d_dict, width, groups,
            ABSOLUTE=absolute, GROUP=_GROUP, ROWS=tiles.rows, FEATURES=tiles.features, DEPTH=tiles.depth, WIDEN=not x.is_cuda, num_warps=8,
        )  # fmt: skip
    return maxima


def _rescored_groups(
    x: Float[Tensor, "n d_in"], W_enc: Float[Tensor, "d_dict d_in"], b_enc: Float[Tensor, "d_dict"], *, chosen: Int[Tensor, "n kept"]
) -> Float[Tensor, "n candidates"]:
    (n, kept), (d_dict, width) = chosen.shape, W_enc.shape
    pre = torch.empty(n, kept * _GROUP, dtype=W_enc.dtype, device=x.device)
    depth = min(64, max(16, 1 << (width - 1).bit_length()))
    with torch.cuda.device_of(x):
        _rescore_kernel[(n, cdiv(kept, _SLOTS))](
            pre, x, W_enc.contiguous(), b_enc, chosen.contiguous(), kept, d_dict, width, GROUP=_GROUP, SLOTS=_SLOTS, DEPTH=depth
        )
    return pre


class _Found(NamedTuple):
    counts: Int[Tensor, "n"]
    """Pairs of each row."""
    feature: Int[Tensor, "nnz"]


def _maybe_above(
    x: Float[Tensor, "n d_in"],
    b_enc: Float[Tensor, "d_dict"],
    proposer: Proposer,
    *,
    low: Float[Tensor, "d_dict"],
    slack: Float[Tensor, "d_dict"],
    size: Float[Tensor, "n"],
) -> _Found:
    n, (d_dict, width), tiles = len(x), proposer.table.shape, _tiles(x, proposer)
    across = cdiv(d_dict, tiles.features)
    bits = torch.empty(n, across * (tiles.features // 8), dtype=torch.uint8, device=x.device)
    counts = torch.empty(n, across, dtype=torch.int32, device=x.device)
    with torch.cuda.device_of(x):
        _bits_kernel[(cdiv(n, tiles.rows) * across,)](
            bits, counts, x.to(proposer.table.dtype), proposer.table.contiguous(), b_enc, low, slack, size.contiguous(), n, d_dict, width,
            ROWS=tiles.rows, FEATURES=tiles.features, DEPTH=tiles.depth, WIDEN=not x.is_cuda, num_warps=8,
        )  # fmt: skip
        ends = counts.flatten().cumsum(0)
        feature = torch.empty(int(ends[-1]), dtype=torch.int64, device=x.device)
        together = max(1, _EXPAND // tiles.features) if x.is_cuda else 2
        _expand_kernel[(n, cdiv(across, together))](feature, bits, ends, counts, across, FEATURES=tiles.features, TILES=together)
    return _Found(counts.sum(1), feature)


def _kept(pairs: Pairs, pre: Float[Tensor, "nnz"], mask: Bool[Tensor, "nnz"]) -> Chosen:
    return Chosen(Pairs.of_rows(pairs.row[mask], pairs.feature[mask], rows=pairs.rows, d_dict=pairs.d_dict), pre[mask])


def _tiles(x: Tensor, proposer: Proposer) -> Tiles:
    """Small ones under the interpreter, so that small tests have several; in fp32 a tile must leave room for twice the bytes."""
    if not x.is_cuda:
        return Tiles(rows=16, features=64, depth=16)
    return Tiles(rows=128, features=128, depth=64) if proposer.product == "bfloat16" else Tiles(rows=64, features=64, depth=32)
