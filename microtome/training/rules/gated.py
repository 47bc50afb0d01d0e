"""Gated, trained (Rajamanoharan et al. 2024, "Improving dictionary learning with gated sparse autoencoders", eq. 6 to 10).

    gate = W_enc x + b_enc          says whether a feature is active
    mag  = relu(exp(r_mag) * (W_enc x) + b_mag)
    a    = mag where gate > 0

The step from gate to a has no gradient. The gate learns from the sparsity penalty on relu(gate), and from reconstructing with relu(gate) through the
decoder as it is (its gradient stopped): `gate_learns` asks the step for that second loss.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, final

import torch

from microtome.shapes import Float, Tensor
from microtome.training.config import Build
from microtome.training.rules.rule import RULES, Active, Back, Encoder, Gradient, Rule, only, places_above
from microtome.training.support import Support


class _Magnitude(NamedTuple):
    projected: Tensor
    """W_enc x."""
    gain: Tensor
    mag: Tensor
    """Before its relu."""


@final
class GatedRule(Rule):
    """`r_mag` and `b_mag` start at 0: the magnitude starts as W_enc x where the gate is open."""

    may_be_dense = True
    shares_features = True
    gate_learns = True

    def tensors(self, d_dict: int) -> dict[str, Tensor]:
        return {"r_mag": torch.zeros(d_dict), "b_mag": torch.zeros(d_dict)}

    def open_at(self, bound: Float[Tensor, "d_dict"]) -> dict[str, Tensor]:
        return {"b_enc": -bound}

    def activate(self, x: Float[Tensor, "n d_in"], encoder: Encoder) -> Active:
        support, gate = places_above(x, encoder, torch.zeros_like(encoder.weights["b_enc"]))
        magnitude = _magnitude(support, gate, encoder.weights)
        return Active(support=support, pre=gate, values=only(gate > 0, magnitude.mag.relu()), strength=gate.relu())

    def backward(self, active: Active, gradient: Gradient, *, weights: Mapping[str, Tensor]) -> Back:
        support, open_ = active.support, active.pre > 0
        magnitude = _magnitude(support, active.pre, weights)
        into_mag = only(open_ & (magnitude.mag > 0), gradient.values)
        into_gate = torch.zeros_like(into_mag) if gradient.strength is None else only(open_, gradient.strength)
        return Back(
            product=into_mag * magnitude.gain + into_gate,
            bias=into_gate,
            tensors={"r_mag": support.total(into_mag * magnitude.gain * magnitude.projected), "b_mag": support.total(into_mag)},
        )


def _magnitude(support: Support, gate: Tensor, weights: Mapping[str, Tensor]) -> _Magnitude:  # what, where, by what
    projected = gate - support.of_feature(weights["b_enc"])
    gain = support.of_feature(weights["r_mag"]).exp()
    return _Magnitude(projected, gain, gain * projected + support.of_feature(weights["b_mag"]))


@RULES.register("gated")
def gated(nonlinearity: Any, build: Build) -> Rule:
    """The rule of a `Gated`."""
    return GatedRule()
