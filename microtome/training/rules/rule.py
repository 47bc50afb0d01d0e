"""What a nonlinearity must say to be trained: which places it activates, and where the gradient goes from there."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F

from microtome.dictionaries.kernels import Proposer, pairs_above
from microtome.registry import Registry
from microtome.shapes import Float, Int, Tensor
from microtome.training.config import Build
from microtome.training.group import ALONE, Group
from microtome.training.support import Dense, Sparse, Support


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """One member's encoder as it stands."""

    weights: Mapping[str, Tensor]
    """`W_enc`, `b_enc`, and the rule's own."""
    proposer: Proposer
    dense: bool
    """Whether so much was active last time that matrix products are faster."""


@dataclass(frozen=True, kw_only=True)
class Active:
    """What a batch activates."""

    support: Support
    pre: Tensor
    """Pre-activations W_enc x + b_enc at the support's places."""
    values: Tensor
    """What is decoded; 0 where the place turned out not to be active."""
    strength: Tensor
    """What the sparsity losses make small: the values, but for gated dictionaries."""


class Gradient(NamedTuple):
    """The loss's gradient for the entries."""

    values: Tensor
    strength: Tensor | None = None
    jump: Tensor | None = None
    """For the step function 1(pre > threshold) of each place; only the L0 penalty has one."""


@dataclass(frozen=True, kw_only=True)
class Back:
    """The gradient one step further back."""

    product: Tensor
    """For W_enc x, of each place."""
    bias: Tensor | None = None
    """For b_enc, of each place, where it is not that of the product."""
    tensors: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    """For the rule's own tensors."""


class Rule(ABC):
    """How one nonlinearity is trained. The entries may be laid out sparse or dense; see `support`."""

    may_be_dense: bool = False
    """Whether it chooses by thresholds, so that any number of places may be active."""
    shares_features: bool = False
    """Whether it works where each process of a group holds a part of the features; a rule that compares features asks `group`."""
    group: Group = ALONE
    """The processes that train together."""
    settles: bool = False
    """Whether inference needs something of held-out rows."""
    gate_learns: bool = False
    """Whether the strengths reconstruct too, with the decoder frozen (gated dictionaries)."""

    def tensors(self, d_dict: int) -> dict[str, Tensor]:
        """Its own tensors at the start."""
        return {}

    @abstractmethod
    def activate(self, x: Float[Tensor, "n d_in"], encoder: Encoder) -> Active:
        """The active places of a batch of encoder inputs."""

    @abstractmethod
    def backward(self, active: Active, gradient: Gradient, *, weights: Mapping[str, Tensor]) -> Back:
        """From the values' gradient to the pre-activations' and to the rule's own tensors."""

    def observe(self, active: Active) -> None:  # noqa: B027  # nothing to learn is the common case
        """Learn from a training batch's activity what `running` holds."""

    def settle(self, active: Active) -> None:  # noqa: B027  # as observe
        """Take from the dev rows' activity what inference needs, at the end of training; asked of rules that `settles`."""

    def open_at(self, bound: Float[Tensor, "d_dict"]) -> dict[str, Tensor]:
        """What makes each feature active where W_enc x is above its bound, at the start; nothing where no threshold chooses."""
        return {}

    def rates(self, d_in: int) -> Mapping[str, float]:
        """By which multiple of the learning rate its own tensors learn, where that is not 1."""
        return {}

    def reset(self, weights: Mapping[str, Tensor], dead: Int[Tensor, "m"], *, start: Mapping[str, Tensor]) -> None:
        """Put dead features where they began: nothing else would ever raise a low bias."""
        for name in ("b_enc", *self.tensors(0)):
            weights[name][dead] = start[name][dead]

    def running(self) -> dict[str, Tensor]:
        """What it remembers from batch to batch, updated in place; a checkpoint stores it."""
        return {}


@runtime_checkable
class RuleFactory(Protocol):
    """Makes the rule of a nonlinearity."""

    def __call__(self, nonlinearity: Any, build: Build, /) -> Rule: ...


RULES: Registry[RuleFactory] = Registry("training rule")
"""By the name of the nonlinearity."""


def places_above(x: Float[Tensor, "n d_in"], encoder: Encoder, bound: Float[Tensor, "d_dict"]) -> tuple[Support, Tensor]:
    """A support that holds every place whose pre-activation is above its feature's bound, and the pre-activations there."""
    W_enc, b_enc = encoder.weights["W_enc"], encoder.weights["b_enc"]
    if encoder.dense:
        return Dense(len(W_enc)), F.linear(x, W_enc, b_enc)
    chosen = pairs_above(x, W_enc, b_enc, bound=bound, proposer=encoder.proposer)
    return Sparse(chosen.pairs), chosen.pre


def only(mask: Tensor, values: Tensor) -> Tensor:
    """The values where the mask is true, exactly 0 elsewhere, also where they are not finite."""
    return torch.where(mask, values, 0.0)


def whole(gradient: Gradient) -> Tensor:
    """The gradient of the values where they are the strengths too."""
    return gradient.values if gradient.strength is None else gradient.values + gradient.strength
