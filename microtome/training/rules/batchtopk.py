"""BatchTopK, trained: the n k largest pre-activations of the whole batch (Bussmann et al. 2024), so rows may have more or fewer than k.

At inference there is no batch to compare with: a feature is active where it is above a threshold, the running mean of the smallest value kept.
"""

import math
from collections.abc import Mapping
from typing import Any, final

import torch

from microtome.shapes import Float, Tensor
from microtome.training.choice import largest_of_batch
from microtome.training.config import Build
from microtome.training.rules.rule import RULES, Active, Back, Encoder, Gradient, Rule, whole
from microtome.training.support import Sparse

MEMORY = 0.99
"""Weight of the past in the running threshold: about the last hundred batches."""


@final
class BatchTopKRule(Rule):
    """Everything chosen is above 0, and the gradient passes unchanged."""

    shares_features = True

    def __init__(self, *, k: int) -> None:
        self.k = k
        self._last = torch.zeros((), dtype=torch.float64)
        self._sum, self._weight = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)

    @property
    def threshold(self) -> float | None:
        """The running mean, corrected for its start; None before the first batch."""
        return float(self._sum / self._weight) if self._weight > 0 else None

    def activate(self, x: Float[Tensor, "n d_in"], encoder: Encoder) -> Active:
        W_enc, b_enc, guess = encoder.weights["W_enc"], encoder.weights["b_enc"], float(self._last)
        chosen = largest_of_batch(x, W_enc, b_enc, k=self.k, proposer=encoder.proposer, group=self.group, guess=guess)
        return Active(support=Sparse(chosen.pairs), pre=chosen.pre, values=chosen.pre, strength=chosen.pre)

    def observe(self, active: Active) -> None:
        """Take the smallest value kept of a training batch into the running mean."""
        least = self.group.least(float(active.pre.min()) if len(active.pre) else math.inf)
        threshold = 0.0 if least == math.inf else least
        self._last.fill_(threshold)
        self._sum.mul_(MEMORY).add_((1 - MEMORY) * threshold)
        self._weight.mul_(MEMORY).add_(1 - MEMORY)

    def backward(self, active: Active, gradient: Gradient, *, weights: Mapping[str, Tensor]) -> Back:
        return Back(product=whole(gradient))

    def running(self) -> dict[str, Tensor]:
        return {"last_threshold": self._last, "threshold_sum": self._sum, "threshold_weight": self._weight}


@RULES.register("batchtopk")
def batchtopk(nonlinearity: Any, build: Build) -> Rule:
    """The rule of a `BatchTopK`."""
    return BatchTopKRule(k=nonlinearity.k)
