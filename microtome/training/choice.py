"""Which features are active, chosen over all processes of a group: the very ones that one process would choose."""

import torch

from microtome.dictionaries.kernels import Chosen, Pairs, Proposer, batch_top_k, pairs_above, top_k_pairs
from microtome.shapes import Bool, Float, Tensor
from microtome.training.group import Group

_SAMPLE = 64
"""Rows that a first guess of a batch's threshold is taken from."""


def largest_a_row(x: Float[Tensor, "n d_in"], W_enc: Tensor, b_enc: Tensor, *, k: int, proposer: Proposer, group: Group, absolute: bool) -> Chosen:
    """The k largest pre-activations of every row (by size where `absolute`) over all features; the pairs are those of this process's features.

    No feature that is not among the k largest of its process is among those of all, so each process shows the others k numbers a row.
    """
    chosen = top_k_pairs(x, W_enc, b_enc, k=k, proposer=proposer, absolute=absolute)
    if not group.shares_features:
        return chosen
    feature, order = chosen.pairs.feature.view(len(x), -1).sort(dim=1)
    pre = chosen.pre.view(len(x), -1).gather(1, order)
    mask = group.largest_of_rows(pre.abs() if absolute else pre, k)
    return Chosen(Pairs.of_rows(mask.nonzero()[:, 0], feature[mask], rows=len(x), d_dict=len(W_enc)), pre[mask])


def largest_of_batch(x: Float[Tensor, "n d_in"], W_enc: Tensor, b_enc: Tensor, *, k: int, proposer: Proposer, group: Group, guess: float) -> Chosen:
    """The n k largest positive pre-activations of the whole batch, over all rows and features; the pairs are this process's.

    As in `batch_top_k`, a bound from the last threshold falls until enough are above it; here they are counted over all processes.
    """
    if group.size == 1:
        found = batch_top_k(x, W_enc, b_enc, k=k, proposer=proposer, guess=guess)
        return Chosen(found.pairs, found.pre)
    rows = len(x) * (group.size if group.shares_rows else 1)
    features = len(W_enc) * (group.size if group.shares_features else 1)
    wanted = min(k, features) * rows
    low = 0.9 * (guess if guess > 0 else group.least(_sampled(x, W_enc, b_enc, k=-(-k // group.size) if group.shares_features else k)))
    while True:
        found = pairs_above(x, W_enc, b_enc, bound=torch.full_like(b_enc, max(low, 0.0)), proposer=proposer)
        enough = group.total(len(found.pre)) >= wanted
        if enough or low <= 0:
            break
        low = 0.0 if low < 1e-3 * guess or low < 1e-6 else 0.5 * low
    if enough:
        found = _kept(found, group.largest_of_all(found.pre, wanted))
    return found


def _sampled(x: Float[Tensor, "n d_in"], W_enc: Tensor, b_enc: Tensor, *, k: int) -> float:
    sample = x[:: max(1, len(x) // _SAMPLE)]
    pre = (sample @ W_enc.T + b_enc).flatten()
    return float(pre.topk(min(k * len(sample), len(pre)), sorted=False).values.min()) if len(pre) else 0.0


def _kept(chosen: Chosen, mask: Bool[Tensor, "nnz"]) -> Chosen:
    pairs = chosen.pairs
    return Chosen(Pairs.of_rows(pairs.row[mask], pairs.feature[mask], rows=pairs.rows, d_dict=pairs.d_dict), chosen.pre[mask])
