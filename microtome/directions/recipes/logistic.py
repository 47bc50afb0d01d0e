"""Logistic regression with an L1 or L2 penalty, solved to the optimum, small enough to read.

The objective is mean(log(1 + exp(−s(⟨x, w⟩ + b)))) + λ·P(w) with s = ±1 the class, P = ‖w‖²/2 or ‖w‖₁, and the bias free. Columns are
standardised first and the result is given in the rows' own units. L2 runs Newton's method in the span of the rows, where the optimum lies; L1
runs accelerated proximal gradient steps (FISTA; Beck and Teboulle 2009).
"""

from typing import Literal, NamedTuple

import torch

from microtome.errors import ConfigError, NotEnoughTokens
from microtome.shapes import Bool, Float, Tensor

_NEWTON_STEPS, _FISTA_STEPS = 60, 4000
_TOLERANCE, _FISTA_TOLERANCE = 1e-9, 1e-7
"""Largest slope that counts as none."""


class Fitted(NamedTuple):
    """A classifier: the probability of the positive class is σ(⟨x, weights⟩ + bias)."""

    weights: Float[Tensor, "width"]
    bias: float

    def scores(self, rows: Float[Tensor, "n width"]) -> Float[Tensor, "n"]:
        """⟨x, weights⟩ + bias, fp64."""
        return rows.double() @ self.weights.double() + self.bias


def fit_logistic(rows: Float[Tensor, "n width"], labels: Bool[Tensor, "n"], *, penalty: Literal["l1", "l2"] = "l2", strength: float = 0.1) -> Fitted:
    """Fit the classifier. `strength` is λ of the objective over standardised columns; it must be above 0.

    Raises `NotEnoughTokens` unless both classes are there.
    """
    if penalty not in ("l1", "l2") or not 0 < strength < float("inf"):
        raise ConfigError("a probe cannot be fitted so.", got=f"{penalty}, {strength}", wanted="l1 or l2, a number above 0", do="Correct it.")
    if bool(labels.all()) or not bool(labels.any()):
        raise NotEnoughTokens("a probe has only one class.", got=f"{len(labels)} rows of one class", wanted="rows of both", do="Give both.")
    x = rows.double()
    mean, scale = x.mean(0), x.std(0, correction=0)
    scale = torch.where(scale > 1e-12 * scale.max().clamp_min(1e-300), scale, torch.inf)  # columns that never change get no weight
    standard, sides = (x - mean) / scale, labels.double() * 2 - 1
    solve = _newton if penalty == "l2" else _fista
    w, b = solve(standard, sides, strength)
    weights = w / scale
    return Fitted(weights.float(), float(b - mean @ weights))


def objective(rows: Float[Tensor, "n width"], sides: Float[Tensor, "n"], *, w: Tensor, b: Tensor, penalty: Tensor) -> Tensor:
    """The mean log loss plus the penalty."""
    return torch.nn.functional.softplus(-sides * (rows @ w + b)).mean() + penalty


def _newton(x: Tensor, sides: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """In coordinates z of the rows' span: w = Vᵀz, so that rows of many columns cost what few rows cost."""
    u, singular, v = torch.linalg.svd(x, full_matrices=False)
    z = torch.cat([u * singular, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    ridge = torch.full((z.shape[1],), strength, dtype=x.dtype)
    ridge[-1] = 0
    theta = torch.zeros(z.shape[1], dtype=x.dtype)

    def value(at: Tensor) -> Tensor:
        return torch.nn.functional.softplus(-sides * (z @ at)).mean() + (ridge * at.square()).sum() / 2

    current = value(theta)
    for _ in range(_NEWTON_STEPS):
        p = torch.sigmoid(-sides * (z @ theta))
        gradient = -(z * (sides * p)[:, None]).mean(0) + ridge * theta
        if float(gradient.abs().max()) < _TOLERANCE:
            break
        curvature = (z * (p * (1 - p))[:, None]).T @ z / len(z) + torch.diag(ridge) + 1e-12 * torch.eye(len(theta), dtype=x.dtype)
        step, size = torch.linalg.solve(curvature, gradient), 1.0
        while size > 1e-8 and value(theta - size * step) > current:
            size /= 2
        theta = theta - size * step
        current = value(theta)
    return v.T @ theta[:-1], theta[-1]


def _fista(x: Tensor, sides: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    wide = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    rate = 4 * len(x) / float(torch.linalg.matrix_norm(wide, 2).square())
    theta = torch.zeros(wide.shape[1], dtype=x.dtype)
    ahead, momentum = theta, 1.0
    for _ in range(_FISTA_STEPS):
        p = torch.sigmoid(-sides * (wide @ ahead))
        moved = ahead + rate * (wide * (sides * p)[:, None]).mean(0)
        new = torch.cat([moved[:-1].sign() * (moved[:-1].abs() - rate * strength).clamp_min(0), moved[-1:]])
        if float((ahead - new) @ (new - theta)) > 0:  # the step went uphill: begin the momentum again (O'Donoghue and Candès 2015)
            momentum = 1.0
        following = (1 + (1 + 4 * momentum * momentum) ** 0.5) / 2
        ahead = new + (momentum - 1) / following * (new - theta)
        if float((new - theta).abs().max()) < _FISTA_TOLERANCE * rate:
            theta = new
            break
        theta, momentum = new, following
    return theta[:-1], theta[-1]
