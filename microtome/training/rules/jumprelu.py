"""JumpReLU, trained: a = pre * H(pre - threshold), with a straight-through gradient for the jump H.

The step H has no derivative that helps, so a rectangle of the width `bandwidth` e stands for it (Rajamanoharan et al. 2024, eq. 11):

    dH/dpre = r / e,  dH/dthreshold = -r / e,  r = 1 where |pre - threshold| < e / 2

so that with the gradient g of a:

    dpre       = g H + g threshold r / e        (the second term where the jump's gradient reaches all parameters: Anthropic, January 2025)
    dthreshold = - sum over rows of g threshold r / e

Places just below the threshold have a = 0 and still have a gradient, so the support begins at threshold - e / 2.

Where thresholds alone feel the jump, they learn √d_in times as fast as the other weights. A step of Adam moves each weight by the learning rate at
most, so a pre-activation, a sum over d_in columns, by about √d_in times that: the encoder would outrun a threshold, and L0 stay above its target.
"""

from collections.abc import Mapping
from typing import Any, final

import torch

from microtome.shapes import Float, Tensor
from microtome.training.config import Build
from microtome.training.rules.rule import RULES, Active, Back, Encoder, Gradient, Rule, only, places_above, whole

LEAST = 1e-3
"""Of the thresholds at the start: at 0 or below, nothing would reach them."""


@final
class JumpReLURule(Rule):
    """`through_all`: the jump's gradient reaches the pre-activations too, and so all parameters."""

    may_be_dense = True
    shares_features = True

    def __init__(self, *, bandwidth: float, through_all: bool) -> None:
        self.bandwidth = bandwidth
        self.through_all = through_all

    def tensors(self, d_dict: int) -> dict[str, Tensor]:
        return {"threshold": torch.zeros(d_dict)}

    def open_at(self, bound: Float[Tensor, "d_dict"]) -> dict[str, Tensor]:
        return {"threshold": bound.clamp_min(LEAST)}

    def rates(self, d_in: int) -> Mapping[str, float]:
        return {} if self.through_all else {"threshold": d_in**0.5}

    def activate(self, x: Float[Tensor, "n d_in"], encoder: Encoder) -> Active:
        threshold = encoder.weights["threshold"]
        support, pre = places_above(x, encoder, threshold - self.bandwidth / 2)
        values = only(pre > support.of_feature(threshold), pre)
        return Active(support=support, pre=pre, values=values, strength=values)

    def backward(self, active: Active, gradient: Gradient, *, weights: Mapping[str, Tensor]) -> Back:
        threshold = active.support.of_feature(weights["threshold"])
        into = whole(gradient)
        near = (active.pre - threshold).abs() < self.bandwidth / 2
        jump = into * threshold if gradient.jump is None else into * threshold + gradient.jump
        through = only(near, jump / self.bandwidth)
        product = only(active.pre > threshold, into)
        if self.through_all:
            product = product + through
        return Back(product=product, tensors={"threshold": active.support.total(through).neg_()})


@RULES.register("jumprelu")
def jumprelu(nonlinearity: Any, build: Build) -> Rule:
    """The rule of a `JumpReLU`."""
    return JumpReLURule(bandwidth=build.bandwidth, through_all=build.jump_gradient == "all")
