"""The training step of a TopK autoencoder whose only dense product is the encoder's: forward and gradients of `reference.py`.

The product merely proposes which features are active (in bf16 where the CPU has a unit for it), in blocks of rows, so the dense [n, d_dict] matrix is
never whole. The proposed ones are rescored in fp32, so values, loss and gradients are exact for the features chosen. From there on the work is
proportional to n k: the (row, feature) pairs are sorted by feature, and both weight gradients are weighted sums of rows per feature.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F

from microtome.dictionaries.kernels.topk import top_k
from microtome.dictionaries.kernels.weights import Weights
from microtome.shapes import Float, Int, Tensor

Product = Literal["float32", "bfloat16"]
_BLOCK_VALUES = {"float32": 1 << 20, "bfloat16": 1 << 21}
"""Pre-activations of a block: 4 MB, which stay in the cache between the product and the top-k."""


def pick_product(device: torch.device) -> Product:
    """`bfloat16` where it is the faster one: on a GPU, and on a CPU with AVX-512 BF16 or AMX. Elsewhere torch emulates it, ten times slower."""
    if device.type != "cpu":
        return "bfloat16"
    has_unit = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    capable = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if has_unit and capable else "float32"


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


@dataclass(frozen=True, kw_only=True)
class _ByFeature:
    """The n k (row, feature) pairs, sorted by feature."""

    order: Int[Tensor, "nk"]
    """Place of each pair in the row-major list."""
    row: Int[Tensor, "nk"]
    feature: Int[Tensor, "nk"]
    offsets: Int[Tensor, "d_dict"]
    """Where each feature's pairs begin."""


def step(z: Float[Tensor, "n d_in"], weights: Weights, *, k: int, proposer: Float[Tensor, "d_dict d_in"]) -> Step:
    """Loss and gradients of one batch.

    `proposer` holds the encoder rows in the number type of the product: `weights.W_enc` itself, or its bf16 shadow.
    """
    centred = z - weights.b_dec
    indices = propose(centred, proposer, weights.b_enc, k=k)
    pairs = _by_feature(indices, len(weights.W_enc))
    pre = _row_dots(weights.W_enc, centred, pairs) + weights.b_enc[pairs.feature]
    active = pre > 0
    sorted_values = pre * active
    values = torch.empty_like(sorted_values).index_copy_(0, pairs.order, sorted_values).view(indices.shape)
    error = F.embedding_bag(indices, weights.W_dec, per_sample_weights=values, mode="sum").add_(weights.b_dec).sub_(z)
    loss = error.square().mean()

    slope = error * (2 / error.numel())
    value_gradient = _row_dots(weights.W_dec, slope, pairs) * active
    b_enc = torch.zeros_like(weights.b_enc).index_add_(0, pairs.feature, value_gradient)
    gradients = Weights(
        W_enc=_sums(centred, value_gradient, pairs),
        W_dec=_sums(slope, sorted_values, pairs),
        b_enc=b_enc,
        b_dec=slope.sum(0) - b_enc @ weights.W_enc,
    )
    counts = torch.zeros_like(pairs.offsets).index_add_(0, pairs.feature, active.long())
    return Step(error=error, loss=loss, indices=indices, values=values, counts=counts, gradients=gradients)


def propose(
    centred: Float[Tensor, "n d_in"], proposer: Float[Tensor, "d_dict d_in"], b_enc: Float[Tensor, "d_dict"], *, k: int
) -> Int[Tensor, "n k_kept"]:
    """The k features with the largest pre-activations of each row, computed in the number type of `proposer`."""
    block = max(32, _BLOCK_VALUES["bfloat16" if proposer.dtype == torch.bfloat16 else "float32"] // len(proposer))
    rows, bias = centred.to(proposer.dtype), b_enc.to(proposer.dtype)
    return torch.cat([top_k(F.linear(part, proposer, bias), k) for part in rows.split(block)])


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


def _by_feature(indices: Int[Tensor, "n k"], d_dict: int) -> _ByFeature:
    flat = indices.reshape(-1)
    feature, order = flat.to(torch.int32).sort(stable=True)
    counts = torch.bincount(flat, minlength=d_dict)
    offsets = torch.zeros_like(counts)
    torch.cumsum(counts[:-1], 0, out=offsets[1:])
    return _ByFeature(order=order, row=order // indices.shape[1], feature=feature.long(), offsets=offsets)


def _row_dots(table: Float[Tensor, "d_dict d_in"], rows: Float[Tensor, "n d_in"], pairs: _ByFeature) -> Float[Tensor, "nk"]:
    """<table[feature], rows[row]> for every pair; by feature, so that the large table streams and the rows stay in the cache."""
    if table.device.type == "cpu":
        return torch.ops.aten._embedding_bag_per_sample_weights_backward(table, rows, pairs.row, pairs.offsets, pairs.feature, 0)
    return torch.einsum("nd,nd->n", table[pairs.feature], rows[pairs.row])


def _sums(rows: Float[Tensor, "n d_in"], weight: Float[Tensor, "nk"], pairs: _ByFeature) -> Float[Tensor, "d_dict d_in"]:
    """For every feature, the sum of its pairs' rows by weight; zero for a feature without pairs."""
    return F.embedding_bag(pairs.row, rows, pairs.offsets, per_sample_weights=weight, mode="sum")
