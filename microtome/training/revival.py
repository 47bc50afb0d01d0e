"""Revival (AuxK): dead features reconstruct what the others left over, by paths that no threshold blocks.

After Gao et al. 2024, appendix A.2, for the dead features of one member:

    pre_aux = W_enc[dead] x,   a_aux = pre_aux on the k_aux largest of each row,   aux = mean((a_aux W_dec[dead] - (z - z_hat))^2)

`pre_aux` has no bias and `a_aux` is not rectified, whatever the nonlinearity: a feature is dead because its pre-activations are low, and behind its
own threshold its gradient would be exactly 0. The residual and x are constants here. Tests revive planted dead features of every kind.
"""

from typing import NamedTuple

import torch.nn.functional as F

from microtome.shapes import Float, Tensor
from microtome.training.group import ALONE, Group

AUX_ROWS = 1024
"""Rows of each batch that it is taken on: an unbiased sample, since batches are shuffled."""


class Revival(NamedTuple):
    """The loss and its gradients for the rows of the dead features."""

    loss: Float[Tensor, ""]
    W_enc: Float[Tensor, "m d_in"]
    W_dec: Float[Tensor, "m d_written"]


def revive(
    x: Float[Tensor, "n d_in"], error: Float[Tensor, "n d_written"], *, W_enc: Tensor, W_dec: Tensor, k_aux: int, group: Group = ALONE
) -> Revival:
    """`error` is z_hat - z in the columns written; `W_enc` and `W_dec` are the rows of the dead: products cost their share of the encoder's.

    Where a group shares the features they are the rows of its dead that are held here; the loss is that of all.
    """
    codes = F.linear(x, W_enc)
    kept = group.largest(codes, k_aux)
    if kept is not None:
        codes.mul_(kept)
    slope = group.over_features(codes @ W_dec).add_(error)
    loss = slope.square().mean()
    slope.mul_(2 / slope.numel())
    code_gradient = slope @ W_dec.T
    if kept is not None:
        code_gradient.mul_(kept)
    return Revival(loss=loss, W_enc=code_gradient.T @ x, W_dec=codes.T @ slope)
