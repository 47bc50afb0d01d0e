"""Losses beside the mean squared error, as values, each with its gradient.

The whole loss of a row is its squared error, as a share of the variance, + the penalties. f is an activation and |W| the norm of its feature's
decoder row over all it writes, in units in which the rows' root mean square distance from their mean is 1: so a coefficient means the same at
every width d. (Where the literature scales inputs to norm √d and sums squared errors over columns, its L1 coefficient is √d times, its L0 and
tanh coefficients d times ours: 5 at d = 4,096 is 0.08.)
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch

from microtome.config import from_dict, to_dict
from microtome.dictionaries import Nonlinearity
from microtome.errors import ConfigError
from microtome.registry import Registry
from microtome.shapes import Float, Tensor
from microtome.training.support import Support


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A loss; a config stores it as `{"name": …, **fields}`."""

    def check(self, nonlinearity: Nonlinearity, *, d_dict: int) -> None:
        """Raise `ConfigError` where it has no meaning for this dictionary."""

    def to_json(self) -> dict[str, Any]:
        name = next(name for name in LOSSES if LOSSES.get(name) is type(self))
        return {"name": name, **{key: to_dict(value) for key, value in vars(self).items()}}

    @classmethod
    def from_json(cls, value: object) -> "Loss":
        """The inverse of `to_json`; unknown names and fields are errors that name the nearest one."""
        if not isinstance(value, Mapping):
            raise ConfigError("a loss has the wrong type.", got=repr(value), wanted='{"name": …, fields}', do="Correct it.")
        stored: dict[str, Any] = {str(key): each for key, each in value.items()}
        kind = LOSSES.get(str(stored.pop("name", "")))
        return from_dict(kind, stored, where=f"loss {kind.__name__}")


LOSSES: Registry[type[Loss]] = Registry("loss")


class Seen(NamedTuple):
    """What a penalty is taken on: one member's activity on a batch."""

    support: Support
    pre: Tensor
    strength: Tensor
    weights: Mapping[str, Tensor]
    norms: Float[Tensor, "d_dict"]
    """|W| ÷ √d: inputs have a variance of d."""
    x: Float[Tensor, "n d_in"]
    """Encoder inputs."""


class Push(NamedTuple):
    """A penalty's value, summed over rows, and its gradient; None is 0."""

    loss: Tensor
    strength: Tensor | None = None
    jump: Tensor | None = None
    """For 1(pre > threshold)."""
    pre: Tensor | None = None
    norms: Float[Tensor, "d_dict"] | None = None
    threshold: Float[Tensor, "d_dict"] | None = None
    everywhere: Float[Tensor, "d_dict"] | None = None
    """For every pre-activation of a feature, on all rows alike, on top of `pre`."""


class Penalty(Loss, ABC):
    """A loss on the activity of one member; it reaches its full weight after `penalty_warmup_share` of the steps."""

    coefficient: float

    @property
    def thins(self) -> bool:
        """Whether it makes dictionaries sparse."""
        return True

    @abstractmethod
    def push(self, seen: Seen) -> Push:
        """Value and gradient for a coefficient of 1."""

    def check(self, nonlinearity: Nonlinearity, *, d_dict: int) -> None:
        if not 0 <= self.coefficient < float("inf"):
            raise ConfigError(f"the coefficient of {self} is out of range.", got=self.coefficient, wanted="0 or more", do="Correct it.")


@dataclass(frozen=True, kw_only=True)
class L1(Penalty):
    """coefficient * sum f |W| (Anthropic, April 2024)."""

    coefficient: float = 0.1

    def push(self, seen: Seen) -> Push:
        size, norms = seen.strength.abs(), seen.support.of_feature(seen.norms)
        return Push(loss=(size * norms).sum(), strength=_sign(seen.strength) * norms, norms=seen.support.total(size))


@dataclass(frozen=True, kw_only=True)
class Tanh(Penalty):
    """coefficient * sum tanh(scale f |W|): counts active features, softly (Anthropic, January 2025)."""

    coefficient: float = 0.02
    scale: float = 4.0

    def push(self, seen: Seen) -> Push:
        size, norms = seen.strength.abs(), seen.support.of_feature(seen.norms)
        value = torch.tanh(self.scale * size * norms)
        slope = self.scale * (1 - value.square())
        return Push(loss=value.sum(), strength=slope * norms * _sign(seen.strength), norms=seen.support.total(slope * size))


@dataclass(frozen=True, kw_only=True)
class L0(Penalty):
    """coefficient * the number of active features, through JumpReLU's straight-through gradient (Rajamanoharan et al. 2024, eq. 9).

    With a `target`, coefficient * h(L0 / target - 1) of the batch's mean L0 instead, which pulls from both sides: h(e) = e^2, as in Gemma Scope 2,
    up to |e| = 1 and 2|e| - 1 beyond, or features that are active at the start would be pushed away for good.
    """

    coefficient: float = 0.5
    """Without a target, the share of the variance that a feature must explain to be worth being active: of the order of 0.01."""
    target: float | None = 32.0

    def push(self, seen: Seen) -> Push:
        rows = len(seen.x)
        count = (seen.pre > seen.support.of_feature(seen.weights["threshold"])).sum().to(seen.pre.dtype)
        if self.target is None:
            return Push(loss=count, jump=torch.ones_like(seen.pre))
        excess = count / rows / self.target - 1
        near, far = excess.clamp(-1, 1), (excess.abs() - 1).clamp_min(0)
        return Push(loss=rows * (near.square() + 2 * far), jump=torch.ones_like(seen.pre) * (2 * near / self.target))

    def check(self, nonlinearity: Nonlinearity, *, d_dict: int) -> None:
        super().check(nonlinearity, d_dict=d_dict)
        _only_for(nonlinearity, ("JumpReLU",), "l0", "Use l1 or tanh, or the nonlinearity jumprelu.")
        if self.target is not None and not 0 < self.target <= d_dict:
            raise ConfigError(
                "the target of l0 is out of range.", got=self.target, wanted=f"above 0, at most d_dict ({d_dict})", do="Correct target."
            )


@dataclass(frozen=True, kw_only=True)
class PreAct(Penalty):
    """coefficient * sum relu(threshold - pre) |W| over all features (Anthropic, January 2025): features that are far from active come nearer.

    Nearly all features are below their threshold, yet the work is that of the few above: the sum over all rows of pre is W_enc (sum of x) + n b_enc.
    """

    coefficient: float = 1e-7

    @property
    def thins(self) -> bool:
        return False

    def push(self, seen: Seen) -> Push:
        weights, rows = seen.weights, len(seen.x)
        threshold = weights.get("threshold", torch.zeros_like(weights["b_enc"]))
        above = seen.pre > seen.support.of_feature(threshold)
        over = torch.where(above, seen.pre - seen.support.of_feature(threshold), 0.0)
        below = rows * (threshold - weights["b_enc"]) - weights["W_enc"] @ seen.x.sum(0) + seen.support.total(over)
        ones = above.to(seen.pre.dtype)
        return Push(
            loss=(seen.norms * below).sum(),
            pre=ones * seen.support.of_feature(seen.norms),
            norms=below,
            threshold=seen.norms * (rows - seen.support.total(ones)),
            everywhere=-seen.norms,
        )

    def check(self, nonlinearity: Nonlinearity, *, d_dict: int) -> None:
        super().check(nonlinearity, d_dict=d_dict)
        _only_for(nonlinearity, ("ReLU", "JumpReLU"), "preact", "Leave it out.")


@dataclass(frozen=True, kw_only=True)
class Matryoshka(Loss):
    """The squared error is the mean of those of reconstructions by the first features alone, each prefix and the whole (Bussmann et al. 2025)."""

    prefixes: tuple[int, ...]
    """Rising numbers of features, below d_dict; the whole is added."""

    def check(self, nonlinearity: Nonlinearity, *, d_dict: int) -> None:
        borders = (0, *self.prefixes, d_dict)
        if not self.prefixes or any(low >= high for low, high in pairwise(borders)):
            wanted = f"rising numbers between 1 and {d_dict - 1}"
            raise ConfigError("the prefixes of matryoshka do not fit.", got=self.prefixes, wanted=wanted, do="Correct prefixes.")


@dataclass(frozen=True, kw_only=True)
class Nested(Loss):
    """The first `prefix` features reconstruct the mean of the row's turn, all features the row itself; the two errors count equally.

    Nested turn-averaged dictionary of Der et al. 2026 (arXiv 2606.28548): the prefix describes the turn, the rest what the token adds.
    """

    prefix: int

    def check(self, nonlinearity: Nonlinearity, *, d_dict: int) -> None:
        if not 1 <= self.prefix < d_dict:
            raise ConfigError("the prefix of nested does not fit.", got=self.prefix, wanted=f"1 to {d_dict - 1}", do="Correct prefix.")


@dataclass(frozen=True, kw_only=True)
class KL(Loss):
    """Fine-tuning at the end: the dictionary stands in the model, and KL(model || model with the dictionary) of the next token is made small.

    The squared error goes on counting beside it, or features drift to where the model does not care (after Karvonen 2025, arXiv 2503.17272).
    """

    tokens: int = 200_000
    """Tokens of fine-tuning, after the training itself."""
    coefficient: float = 1.0
    """Weight of the KL, in nats a token."""
    lr_share: float = 0.1
    """Of the peak learning rate; it falls linearly to 0."""

    def check(self, nonlinearity: Nonlinearity, *, d_dict: int) -> None:
        holds = self.tokens >= 1 and 0 < self.coefficient < float("inf") and 0 < self.lr_share < float("inf")
        if not holds:
            raise ConfigError("the loss kl is out of range.", got=str(self), wanted="tokens of 1 or more, the rest above 0", do="Correct it.")


for _name, _kind in {"l1": L1, "tanh": Tanh, "l0": L0, "preact": PreAct, "matryoshka": Matryoshka, "nested": Nested, "kl": KL}.items():
    LOSSES.register(_name)(_kind)


@dataclass(frozen=True, kw_only=True)
class AuxK:
    """Revival: dead features reconstruct what the others left over (after Gao et al. 2024, A.2)."""

    coefficient: float = 1 / 32
    """Weight; 0 turns revival off."""
    dead_after_tokens: int = 200_000
    """A feature that was not active on so many rows counts as dead and is revived."""

    def __post_init__(self) -> None:
        if not 0 <= self.coefficient < float("inf"):
            raise ConfigError("AuxK.coefficient is out of range.", got=self.coefficient, wanted="0 or more, finite", do="Correct coefficient.")
        if self.dead_after_tokens < 1:
            raise ConfigError(
                "AuxK.dead_after_tokens is out of range.", got=self.dead_after_tokens, wanted="1 or more", do="Correct dead_after_tokens."
            )


def _sign(values: Tensor) -> Tensor:
    """1 where a value is 0: a place just below its threshold would be positive if it were active."""
    return torch.where(values < 0, -1.0, 1.0)


def _only_for(nonlinearity: Nonlinearity, names: tuple[str, ...], loss: str, do: str) -> None:  # noqa: PLR0917  # a sentence's parts
    if type(nonlinearity).__name__ not in names:
        raise ConfigError(f"the loss {loss} has no meaning here.", got=type(nonlinearity).__name__, wanted=" or ".join(names), do=do)
