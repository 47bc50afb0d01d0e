"""ReLU, trained: a = max(pre, 0)."""

from collections.abc import Mapping
from typing import Any, final

import torch

from microtome.shapes import Float, Tensor
from microtome.training.config import Build
from microtome.training.rules.rule import RULES, Active, Back, Encoder, Gradient, Rule, only, places_above, whole


@final
class ReLURule(Rule):
    """The gradient of a is that of pre where pre is above 0."""

    may_be_dense = True
    shares_features = True

    def open_at(self, bound: Float[Tensor, "d_dict"]) -> dict[str, Tensor]:
        return {"b_enc": -bound}

    def activate(self, x: Float[Tensor, "n d_in"], encoder: Encoder) -> Active:
        support, pre = places_above(x, encoder, torch.zeros_like(encoder.weights["b_enc"]))
        values = pre.relu()
        return Active(support=support, pre=pre, values=values, strength=values)

    def backward(self, active: Active, gradient: Gradient, *, weights: Mapping[str, Tensor]) -> Back:
        into = whole(gradient)
        return Back(product=only(active.pre > 0, into))


@RULES.register("relu")
def relu(nonlinearity: Any, build: Build) -> Rule:
    """The rule of a `ReLU`."""
    return ReLURule()
