"""The kernels in plain torch, on any device: see `reference` for what they compute.

The encoder's product runs in blocks of rows whose pre-activations stay in the cache, so the dense [n, d_dict] matrix is never whole. In bf16 it only
proposes pairs; those are scored again in fp32.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.optim.adam import adam as fused

from microtome.dictionaries.kernels.pairs import BatchChosen, Chosen, Pairs
from microtome.dictionaries.kernels.proposer import Proposer
from microtome.dictionaries.kernels.topk import top_k
from microtome.dictionaries.kernels.update import AdamStep, Moments
from microtome.shapes import Float, Tensor

_BLOCK_BYTES = 1 << 22
"""Pre-activations of a block."""
_MARGIN = 2.0**-7
"""Of |row| |feature| and of the bound: bf16 rounds its two inputs and its output by at most 2^-9 each."""


class _Block(NamedTuple):
    first: int
    pre: Float[Tensor, "block d_dict"]


def _blocks(centred: Float[Tensor, "n d_in"], b_enc: Float[Tensor, "d_dict"], proposer: Proposer) -> Iterator[_Block]:
    table = proposer.table
    size = max(32, _BLOCK_BYTES // (table.element_size() * len(table)))
    rows, bias = centred.to(table.dtype), b_enc.to(table.dtype)
    for first in range(0, len(rows), size):
        yield _Block(first, F.linear(rows[first : first + size], table, bias))


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
    parts, values = list[Tensor](), list[Tensor]()
    for _, pre in _blocks(centred, b_enc, proposer):
        parts.append(top_k(pre.abs() if absolute else pre, k))
        if proposer.table.dtype == torch.float32:
            values.append(pre.gather(1, parts[-1]))
    empty = centred.new_zeros(0, min(k, len(W_enc)))
    pairs = Pairs.full(torch.cat(parts) if parts else empty.long(), d_dict=len(W_enc))
    if proposer.table.dtype == torch.float32:
        return Chosen(pairs, torch.cat(values or [empty]).reshape(-1))
    return Chosen(pairs, row_dots(pairs, centred, W_enc) + b_enc[pairs.feature])


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
    exact = proposer.table.dtype == torch.float32
    low, slack, size = bound, W_enc.new_zeros(0), W_enc.new_zeros(0)
    if not exact:
        low = bound - _MARGIN * (bound.abs() + b_enc.abs())
        slack, size = _MARGIN * torch.linalg.vector_norm(W_enc, dim=1), torch.linalg.vector_norm(centred, dim=1)
    rows, features, values = list[Tensor](), list[Tensor](), list[Tensor]()
    for first, pre in _blocks(centred, b_enc, proposer):
        lifted = pre if exact else torch.addcmul(pre.float(), size[first : first + len(pre), None], slack)
        row, feature = (~(lifted <= low)).nonzero(as_tuple=True)
        rows.append(row + first)
        features.append(feature)
        if exact:
            values.append(pre[row, feature])
    none = torch.zeros(0, dtype=torch.int64, device=centred.device)
    pairs = Pairs.of_rows(torch.cat([none, *rows]), torch.cat([none, *features]), rows=len(centred), d_dict=len(W_enc))
    if exact:
        return Chosen(pairs, torch.cat([centred.new_zeros(0), *values]))
    pre = row_dots(pairs, centred, W_enc) + b_enc[pairs.feature]
    return kept(Chosen(pairs, pre), ~(pre <= bound[pairs.feature]))


def kept(chosen: Chosen, mask: Tensor) -> Chosen:
    """The pairs where `mask` (true or false a pair) is true."""
    pairs = chosen.pairs
    return Chosen(Pairs.of_rows(pairs.row[mask], pairs.feature[mask], rows=pairs.rows, d_dict=pairs.d_dict), chosen.pre[mask])


def largest(found: Chosen, wanted: int) -> BatchChosen:
    """The `wanted` largest of more pairs; of those that tie for the last places, the later ones. Values that are no numbers count as the largest."""
    pairs, pre = found
    least = pre.kthvalue(len(pre) - wanted + 1).values
    place = (~(pre < least)).nonzero()[:, 0]
    if len(place) > wanted:
        ties = (pre[place] == least).nonzero()[: len(place) - wanted, 0]
        place = place[torch.ones_like(place, dtype=torch.bool).index_fill_(0, ties, False)]
    return BatchChosen(Pairs(torch.searchsorted(place, pairs.indptr), pairs.feature[place], pairs.d_dict), pre[place], float(least))


def decode(pairs: Pairs, values: Float[Tensor, "nnz"], table: Float[Tensor, "d_dict d"]) -> Float[Tensor, "n d"]:
    """See `ops.decode`."""
    return F.embedding_bag(pairs.feature, table, pairs.indptr, per_sample_weights=values, mode="sum", include_last_offset=True)


def row_dots(pairs: Pairs, rows: Float[Tensor, "n d"], table: Float[Tensor, "d_dict d"]) -> Float[Tensor, "nnz"]:
    """See `ops.row_dots`. On a CPU by feature, so that the large table streams and the rows stay in the cache."""
    if table.device.type != "cpu":
        return torch.linalg.vecdot(table[pairs.feature], rows[pairs.row])
    order, row, offsets = pairs.by_feature
    dots = torch.ops.aten._embedding_bag_per_sample_weights_backward(table, rows, row, offsets[:-1], pairs.feature[order], 0)
    return torch.empty_like(dots).index_copy_(0, order, dots)


def feature_sums(pairs: Pairs, weight: Float[Tensor, "nnz"], rows: Float[Tensor, "n d"]) -> Float[Tensor, "d_dict d"]:
    """See `ops.feature_sums`."""
    order, row, offsets = pairs.by_feature
    return F.embedding_bag(row, rows, offsets, per_sample_weights=weight[order], mode="sum", include_last_offset=True)


def adam(weight: Tensor, gradient: Tensor, *, moments: Moments, step: AdamStep) -> None:
    """See `ops.adam`."""
    if step.copies:
        gradient.addcmul_(torch.linalg.vecdot(gradient, weight).mul_(step.copies).unsqueeze(1), weight, value=-1)
    before = torch.tensor(float(step.taken - 1), device=weight.device)
    fused(
        [weight], [gradient], [moments.exp_avg], [moments.exp_avg_sq], [], [before], fused=True, amsgrad=False, maximize=False,
        beta1=step.beta1, beta2=step.beta2, lr=step.rate, weight_decay=0.0, eps=step.eps,
    )  # fmt: skip
    if step.copies:
        weight.div_(torch.linalg.vector_norm(weight, dim=1, keepdim=True).mul_(step.copies**0.5))
