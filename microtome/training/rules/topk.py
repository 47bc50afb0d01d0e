"""TopK and AbsTopK, trained: the k largest pre-activations of each row, by value or by size."""

from collections.abc import Mapping
from typing import Any, final

from microtome.shapes import Float, Tensor
from microtome.training.choice import largest_a_row
from microtome.training.config import Build
from microtome.training.rules.rule import RULES, Active, Back, Encoder, Gradient, Rule, only, whole
from microtome.training.support import Sparse


@final
class TopKRule(Rule):
    """The gradient passes where a place was chosen and, unless `absolute`, is above 0; the choice itself has none."""

    shares_features = True

    def __init__(self, *, k: int, absolute: bool = False) -> None:
        self.k = k
        self.absolute = absolute

    def activate(self, x: Float[Tensor, "n d_in"], encoder: Encoder) -> Active:
        W_enc, b_enc = encoder.weights["W_enc"], encoder.weights["b_enc"]
        chosen = largest_a_row(x, W_enc, b_enc, k=self.k, proposer=encoder.proposer, group=self.group, absolute=self.absolute)
        values = chosen.pre if self.absolute else chosen.pre.relu()
        return Active(support=Sparse(chosen.pairs), pre=chosen.pre, values=values, strength=values)

    def backward(self, active: Active, gradient: Gradient, *, weights: Mapping[str, Tensor]) -> Back:
        into = whole(gradient)
        return Back(product=into if self.absolute else only(active.pre > 0, into))


@RULES.register("topk")
def topk(nonlinearity: Any, build: Build) -> Rule:
    """The rule of a `TopK`."""
    return TopKRule(k=nonlinearity.k)


@RULES.register("abstopk")
def abstopk(nonlinearity: Any, build: Build) -> Rule:
    """The rule of an `AbsTopK`."""
    return TopKRule(k=nonlinearity.k, absolute=True)
