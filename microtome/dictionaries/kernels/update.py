"""Adam (Kingma and Ba 2015) on the rows of a matrix, which may be held at norm 1: what the step takes, whatever computes it.

    g <- g - c <g, w> w                     where rows are held: what would only change their norm
    m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2
    w <- w - rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
    w <- w / (sqrt(c) |w|)                  where rows are held

c, `copies`, is how often a row is written (a tied decoder's several times): the norm of all that it writes is 1.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from microtome.shapes import Tensor


@dataclass(frozen=True, kw_only=True)
class AdamStep:
    """One step's numbers."""

    rate: float
    taken: int
    """t, from 1."""
    copies: int = 0
    """0: rows are free."""
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8


class Moments(NamedTuple):
    """Running means of a gradient and of its square, of the weights' shape."""

    exp_avg: Tensor
    exp_avg_sq: Tensor

    @classmethod
    def of(cls, weight: Tensor) -> "Moments":
        """Before the first step."""
        return cls(torch.zeros_like(weight), torch.zeros_like(weight))
