"""The training step of a TopK autoencoder whose only dense product is the encoder's: forward and gradients of `reference.py`, made of the `ops`."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

from microtome.dictionaries.kernels import ops
from microtome.dictionaries.kernels.proposer import Proposer
from microtome.dictionaries.kernels.topk import top_k
from microtome.dictionaries.kernels.weights import Weights
from microtome.shapes import Float, Int, Tensor


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one batch gives."""

    error: Float[Tensor, "n d_in"]
    """z_hat - z."""
    loss: Float[Tensor, ""]
    indices: Int[Tensor, "n k"]
    values: Float[Tensor, "n k"]
    counts: Int[Tensor, "d_dict"]
    """Rows on which each feature was active (value above 0)."""
    gradients: Weights


def step(z: Float[Tensor, "n d_in"], weights: Weights, *, k: int, proposer: Proposer) -> Step:
    """Loss and gradients of one batch."""
    centred = z - weights.b_dec
    pairs, pre = ops.top_k_pairs(centred, weights.W_enc, weights.b_enc, k=k, proposer=proposer)
    active = pre > 0
    values = pre * active
    error = ops.decode(pairs, values, weights.W_dec).add_(weights.b_dec).sub_(z)
    loss = error.square().mean()

    slope = error * (2 / error.numel())
    value_gradient = ops.row_dots(pairs, slope, weights.W_dec) * active
    b_enc = torch.zeros_like(weights.b_enc).index_add_(0, pairs.feature, value_gradient)
    gradients = Weights(
        W_enc=ops.feature_sums(pairs, value_gradient, centred),
        W_dec=ops.feature_sums(pairs, values, slope),
        b_enc=b_enc,
        b_dec=slope.sum(0) - b_enc @ weights.W_enc,
    )
    counts = torch.bincount(pairs.feature[active], minlength=len(b_enc))
    shape = (len(z), -1)
    return Step(error=error, loss=loss, indices=pairs.feature.view(shape), values=values.view(shape), counts=counts, gradients=gradients)


class Revival(NamedTuple):
    """The revival loss and its gradients for the rows of the dead features."""

    loss: Float[Tensor, ""]
    W_enc: Float[Tensor, "m d_in"]
    W_dec: Float[Tensor, "m d_in"]


def revive(centred: Float[Tensor, "n d_in"], error: Float[Tensor, "n d_in"], weights: Weights, *, dead: Int[Tensor, "m"], k_aux: int) -> Revival:
    """See `reference.revival_loss`. The products are dense over the dead columns alone: they cost m / d_dict of an encoder product each."""
    W_enc, W_dec = weights.W_enc[dead], weights.W_dec[dead]
    codes = F.linear(centred, W_enc)
    kept = None
    if k_aux < len(dead):
        kept = torch.zeros_like(codes).scatter_(1, top_k(codes, k_aux), 1.0)
        codes.mul_(kept)
    slope = (codes @ W_dec).add_(error)
    loss = slope.square().mean()
    slope.mul_(2 / slope.numel())
    code_gradient = slope @ W_dec.T
    if kept is not None:
        code_gradient.mul_(kept)
    return Revival(loss=loss, W_enc=code_gradient.T @ centred, W_dec=codes.T @ slope)
