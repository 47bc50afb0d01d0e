"""What the kernels compute, in plain dense torch: the specification that the fast ones are tested against.

With rows z [n, d_in] in scaled units:

    pre   = (z - b_dec) W_enc^T + b_enc
    a     = relu(pre) on the k largest of each row, 0 elsewhere
    z_hat = a W_dec + b_dec
    loss  = mean((z_hat - z)^2)                                   over rows and columns

The pieces: `pre` [n, d_dict] is x W_enc^T + b_enc with x = z - b_dec; a choice is a mask over it; `dense` [n, d_dict] holds a value at every chosen
pair and 0 elsewhere.

    decode       = dense table
    row_dots     = (rows table^T) at the chosen pairs
    feature_sums = dense^T rows

Everything is differentiable by autograd, which gives the gradients that the fast kernels must reproduce.
"""

import torch

from microtome.dictionaries.kernels.weights import Weights
from microtome.shapes import Bool, Float, Tensor


def keep_largest(pre: Float[Tensor, "n m"], k: int) -> Bool[Tensor, "n m"]:
    """True at the k largest values of each row."""
    kept = torch.zeros_like(pre, dtype=torch.bool)
    return kept.scatter(1, pre.topk(min(k, pre.shape[1]), dim=1).indices, True)


def keep_above(pre: Float[Tensor, "n d_dict"], bound: Float[Tensor, "d_dict"]) -> Bool[Tensor, "n d_dict"]:
    """True where a pre-activation is above its feature's bound."""
    return pre > bound


def keep_batch_largest(pre: Float[Tensor, "n d_dict"], k: int) -> Bool[Tensor, "n d_dict"]:
    """True at the n k largest values of the whole batch, as far as they are positive."""
    kept = torch.zeros(pre.numel(), dtype=torch.bool, device=pre.device)
    kept[pre.flatten().topk(min(len(pre) * k, pre.numel())).indices] = True
    return kept.view_as(pre) & (pre > 0)


def encode(z: Float[Tensor, "n d_in"], weights: Weights, *, k: int) -> Float[Tensor, "n d_dict"]:
    """Dense codes."""
    pre = (z - weights.b_dec) @ weights.W_enc.T + weights.b_enc
    return torch.where(keep_largest(pre, k), pre.relu(), 0.0)


def decode(codes: Float[Tensor, "n d_dict"], weights: Weights) -> Float[Tensor, "n d_in"]:
    """The reconstruction in scaled units."""
    return codes @ weights.W_dec + weights.b_dec


def loss(z: Float[Tensor, "n d_in"], weights: Weights, *, k: int) -> Float[Tensor, ""]:
    """Mean squared error."""
    return (decode(encode(z, weights, k=k), weights) - z).square().mean()
