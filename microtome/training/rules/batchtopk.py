"""BatchTopK, trained: the n k largest pre-activations of the whole batch (Bussmann et al. 2024), so rows may have more or fewer than k.

At inference there is no batch to compare with: a feature is active where it is above a threshold, the smallest value kept. While training goes on
that is a running mean over batches; at the end it is that of the dev rows (`settle`), since a dictionary that has learnt few rows by heart, or that
still changes fast, is active elsewhere more or less often than on the batches it was trained on.
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

WINDOW, LEAST_WEIGHT = 10, 0.01
"""After t batches the next one has the weight WINDOW / (WINDOW + t) in the running mean: it is over the last tenth of the batches, at most 100."""


@final
class BatchTopKRule(Rule):
    """Everything chosen is above 0, and the gradient passes unchanged."""

    shares_features = True
    settles = True

    def __init__(self, *, k: int) -> None:
        self.k = k
        self._last, self._mean = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        self._seen = torch.zeros((), dtype=torch.int64)

    @property
    def threshold(self) -> float | None:
        """The running mean, or what `settle` found; None before the first batch."""
        return float(self._mean) if self._seen > 0 else None

    def activate(self, x: Float[Tensor, "n d_in"], encoder: Encoder) -> Active:
        W_enc, b_enc, guess = encoder.weights["W_enc"], encoder.weights["b_enc"], float(self._last)
        chosen = largest_of_batch(x, W_enc, b_enc, k=self.k, proposer=encoder.proposer, group=self.group, guess=guess)
        return Active(support=Sparse(chosen.pairs), pre=chosen.pre, values=chosen.pre, strength=chosen.pre)

    def observe(self, active: Active) -> None:
        """Take the smallest value kept of a training batch into the running mean."""
        self._last.fill_(self._least(active))
        self._mean.lerp_(self._last, max(LEAST_WEIGHT, WINDOW / (WINDOW + int(self._seen))))
        self._seen += 1

    def settle(self, active: Active) -> None:
        least = self._least(active)
        if math.isfinite(least):
            self._mean.fill_(least)

    def _least(self, active: Active) -> float:
        least = self.group.least(float(active.pre.min()) if len(active.pre) else math.inf)
        return 0.0 if least == math.inf else least

    def backward(self, active: Active, gradient: Gradient, *, weights: Mapping[str, Tensor]) -> Back:
        return Back(product=whole(gradient))

    def running(self) -> dict[str, Tensor]:
        return {"last_threshold": self._last, "threshold_mean": self._mean, "batches_seen": self._seen}


@RULES.register("batchtopk")
def batchtopk(nonlinearity: Any, build: Build) -> Rule:
    """The rule of a `BatchTopK`."""
    return BatchTopKRule(k=nonlinearity.k)
