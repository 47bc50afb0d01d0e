"""Scaling law: how the loss falls with features and tokens, fitted to runs, and the size that it recommends next.

L(n, t) = E + A (n / n0)^-alpha + B (t / t0)^-beta

with n features, t tokens and n0, t0 the geometric means of the sizes fitted: the form of Hoffmann et al. 2022 (arXiv 2203.15556, eq. 2) with the
dictionary in the place of the model. That the loss of sparse autoencoders falls as a power law in features and tokens, above a part that no
number of features removes and that k sets, is in Gao et al. 2024 (arXiv 2406.04093, section 3) and in "Scaling Monosemanticity" (Anthropic, May
2024); so one law is fitted at one k. An axis with a single size has no term.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from microtome.errors import ConfigError

Array = npt.NDArray[np.float64]
REACH = 4.0
"""How far beyond the largest size measured a recommendation may go."""
MIN_SIZES = 3
"""Sizes an axis needs to have a term: two give an exponent, a third the irreducible part."""
MAX_RESIDUAL = 0.1
"""Root mean square residual, as a share of the range of log loss, above which nothing is recommended."""
MAX_AHEAD = 0.05
"""Relative error in predicting the largest run, above which nothing is recommended."""
_EXPONENTS = np.geomspace(0.03, 2.0, 15)
_DRAWS = 100
_ITERATIONS, _REFITTING = 300, 15


@dataclass(frozen=True, kw_only=True)
class ScalingPoint:
    """One run."""

    features: int
    tokens: int
    loss: float
    """Fraction of variance unexplained on held-out tokens."""


@dataclass(frozen=True, kw_only=True)
class ScalingLaw:
    """L(n, t) = irreducible + feature_term (n / features0)^-alpha + token_term (t / tokens0)^-beta; a term that is not fitted is 0."""

    irreducible: float
    feature_term: float
    alpha: float
    features0: float
    token_term: float
    beta: float
    tokens0: float

    def __call__(self, features: float, tokens: float) -> float:
        """The loss of a size."""
        of_features = self.feature_term * (features / self.features0) ** -self.alpha
        return self.irreducible + of_features + self.token_term * (tokens / self.tokens0) ** -self.beta


@dataclass(frozen=True, kw_only=True)
class Recommended:
    """The best size at a cost, by the law."""

    features: int
    tokens: int
    loss: float
    low: float
    """95 % interval of the predicted loss, by refitting to resampled residuals."""
    high: float
    cost: float
    """features x tokens, as a multiple of the costliest run measured."""


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """A law, how well it fits, and what it recommends."""

    law: ScalingLaw
    points: tuple[ScalingPoint, ...]
    residuals: tuple[float, ...]
    """log(measured) - log(predicted) of each point."""
    rms: float
    """Root mean square of the residuals."""
    ahead: float | None
    """Relative error in predicting the largest size from the others alone; None where too few are left to fit."""
    recommended: Recommended | None
    refused: str = ""
    """Why nothing is recommended."""


def fit_scaling(points: Sequence[ScalingPoint], *, cost: float = 4.0) -> Scaling:
    """Fit the law by least squares in log loss, and recommend the size with the lowest loss at `cost` times the costliest run's features x tokens.

    Nothing is recommended where the law misses the points by more than `MAX_RESIDUAL` of their range, misses the largest run by more than `MAX_AHEAD`
    when fitted without it, sees no gain from more, or has its best beyond `REACH` times a size that was measured. Raises `ConfigError` for points
    that cannot carry a fit: losses that are not positive, an axis with two sizes, no axis with three, or no more points than parameters.
    """
    kept = tuple(points)
    terms = _check(kept)
    law = _fit(kept, terms=terms)
    residuals = _residuals(law, kept)
    rms = float(np.sqrt(np.mean(residuals**2)))
    ahead = _ahead(kept, terms=terms)
    made = _recommend(law, kept, cost=cost)
    refused = _why_not(law, kept, rms=rms, ahead=ahead) or (made if isinstance(made, str) else "")
    recommended = None
    if not refused and not isinstance(made, str):
        low, high = _interval(law, kept, terms=terms, at=made)
        most = max(point.features * point.tokens for point in kept)
        features, tokens = round(made[0]), round(made[1])
        recommended = Recommended(features=features, tokens=tokens, loss=law(*made), low=low, high=high, cost=features * tokens / most)
    return Scaling(
        law=law, points=kept, residuals=tuple(float(each) for each in residuals), rms=rms, ahead=ahead, recommended=recommended, refused=refused
    )


Terms = tuple[bool, bool]


def _check(points: tuple[ScalingPoint, ...]) -> Terms:
    """(features have a term, tokens have a term)."""
    sizes = (len({point.features for point in points}), len({point.tokens for point in points}))
    got = f"{len(points)} runs with {sizes[0]} numbers of features and {sizes[1]} of tokens"
    wanted = f"{MIN_SIZES} or more sizes on an axis that varies"
    do = "Sweep more sizes, e.g. --sweep features=256,512,1024,2048."
    if not all(math.isfinite(point.loss) and point.loss > 0 for point in points):
        losses = ", ".join(f"{point.loss:g}" for point in points)
        raise ConfigError("a scaling law needs losses above 0.", got=losses, wanted="finite losses above 0", do="Leave out the runs that diverged.")
    terms = (sizes[0] >= MIN_SIZES, sizes[1] >= MIN_SIZES)
    if not any(terms) or any(1 < size < MIN_SIZES for size in sizes):
        raise ConfigError("a scaling law cannot be fitted to these sizes.", got=got, wanted=wanted, do=do)
    if len(points) <= 1 + 2 * sum(terms) and all(terms):
        raise ConfigError("there are too few runs for the law's parameters.", got=got, wanted=f"more than {1 + 2 * sum(terms)} runs", do=do)
    return terms


class _Logs(NamedTuple):
    """log(n / n0), log(t / t0), and the loss."""

    n: Array
    t: Array
    loss: Array


def _columns(points: Sequence[ScalingPoint]) -> _Logs:
    n, t = (np.log([getattr(point, name) for point in points]) for name in ("features", "tokens"))
    return _Logs(n - n.mean(), t - t.mean(), np.array([point.loss for point in points]))


def _fit(points: tuple[ScalingPoint, ...], *, terms: Terms, start: ScalingLaw | None = None) -> ScalingLaw:
    """The best of a grid of exponents (the rest is then linear), refined; `start` spares the grid."""
    data = _columns(points)
    parameters = _from_grid(data, terms=terms) if start is None else _parameters(start, data.loss)
    parameters = _refined(parameters, data, terms=terms, iterations=_ITERATIONS if start is None else _REFITTING)
    irreducible, feature, token = np.exp(parameters[:3])
    floor = 1e-6 * float(data.loss.min())
    centre = [float(np.exp(np.mean(np.log([getattr(point, name) for point in points])))) for name in ("features", "tokens")]
    return ScalingLaw(
        irreducible=float(irreducible) if irreducible > floor else 0.0,
        feature_term=float(feature) if terms[0] else 0.0,
        alpha=float(parameters[3]) if terms[0] else 0.0,
        features0=centre[0],
        token_term=float(token) if terms[1] else 0.0,
        beta=float(parameters[4]) if terms[1] else 0.0,
        tokens0=centre[1],
    )


def _parameters(law: ScalingLaw, loss: Array) -> Array:
    """(log E, log A, log B, alpha, beta)."""
    tiny = 1e-9 * float(loss.min())
    return np.array([*np.log(np.maximum([law.irreducible, law.feature_term, law.token_term], tiny)), law.alpha, law.beta])


def _from_grid(data: _Logs, *, terms: Terms) -> Array:
    best: tuple[float, Array] | None = None
    for alpha, beta in product(_EXPONENTS if terms[0] else [0.0], _EXPONENTS if terms[1] else [0.0]):
        columns = [np.ones_like(data.loss), np.exp(-alpha * data.n) * terms[0], np.exp(-beta * data.t) * terms[1]]
        factors, error = _nonnegative(np.stack(columns, 1) / data.loss[:, None])
        if best is None or error < best[0]:
            best = (error, np.array([*np.log(np.maximum(factors, 1e-9 * data.loss.min())), alpha, beta]))
    assert best is not None
    return best[1]


def _nonnegative(columns: Array) -> tuple[Array, float]:
    """The factors >= 0 with which the columns add up to 1 best, by trying every set of columns that may be used; and the squared error."""
    best, least = np.zeros(columns.shape[1]), math.inf
    for used in product((False, True), repeat=columns.shape[1]):
        mask = np.array(used)
        if not mask.any():
            continue
        found = np.linalg.lstsq(columns[:, mask], np.ones(len(columns)), rcond=None)[0]
        if (found < 0).any():
            continue
        error = float(np.sum((columns[:, mask] @ found - 1) ** 2))
        if error < least:
            least = error
            best = np.zeros(columns.shape[1])
            best[mask] = found
    return best, least


def _refined(parameters: Array, data: _Logs, *, terms: Terms, iterations: int) -> Array:
    """Levenberg-Marquardt on the squared residuals of log loss."""
    free = np.array([True, terms[0], terms[1], terms[0], terms[1]])
    damping, (residual, slope) = 1e-3, _linearised(parameters, data, terms=terms)
    for _ in range(iterations):
        J = slope[:, free]
        gram = J.T @ J
        move = np.linalg.solve(gram + damping * (np.diag(np.diag(gram)) + 1e-12 * np.eye(len(gram))), J.T @ residual)
        tried = parameters.copy()
        tried[free] += np.clip(move, -2.0, 2.0)
        tried[3:] = np.clip(tried[3:], 1e-3, 5.0)
        tried[:3] = np.clip(tried[:3], -40.0, 40.0)
        after, sloped = _linearised(tried, data, terms=terms)
        if after @ after < residual @ residual:
            gained = residual @ residual - after @ after
            parameters, residual, slope, damping = tried, after, sloped, max(damping / 3, 1e-12)
            if gained < 1e-10 * (1e-14 + after @ after):
                break
        elif damping > 1e12:
            break
        else:
            damping *= 4
    return parameters


def _linearised(parameters: Array, data: _Logs, *, terms: Terms) -> tuple[Array, Array]:
    """(residuals of log loss, derivatives of the predicted log loss by the parameters)."""
    E, A, B = np.exp(parameters[:3]) * np.array([1.0, *terms])
    of_features, of_tokens = A * np.exp(-parameters[3] * data.n), B * np.exp(-parameters[4] * data.t)
    predicted = E + of_features + of_tokens
    slopes = np.stack([np.full_like(data.n, E), of_features, of_tokens, -data.n * of_features, -data.t * of_tokens], 1) / predicted[:, None]
    return np.log(data.loss) - np.log(predicted), slopes


def _residuals(law: ScalingLaw, points: Sequence[ScalingPoint]) -> Array:
    return np.array([math.log(point.loss / law(point.features, point.tokens)) for point in points])


def _ahead(points: tuple[ScalingPoint, ...], *, terms: Terms) -> float | None:
    largest = max(points, key=lambda point: (point.features * point.tokens, point.features))
    others = tuple(point for point in points if point is not largest)
    try:
        if _check(others) != terms:
            return None
    except ConfigError:
        return None
    return abs(_fit(others, terms=terms)(largest.features, largest.tokens) / largest.loss - 1)


def _why_not(law: ScalingLaw, points: tuple[ScalingPoint, ...], *, rms: float, ahead: float | None) -> str:
    spread = math.log(max(point.loss for point in points) / min(point.loss for point in points))
    if rms > MAX_RESIDUAL * spread:
        return f"the law misses the runs by {rms:.1%} (root mean square), which is much beside their range of {spread:.1%}"
    if ahead is not None and ahead > MAX_AHEAD:
        return f"fitted without the largest run, it misses that one by {ahead:.1%}"
    reachable = law.feature_term + law.token_term
    return "more features or tokens gain nothing that the fit can see" if reachable < 0.01 * law.irreducible else ""


def _recommend(law: ScalingLaw, points: tuple[ScalingPoint, ...], *, cost: float) -> tuple[float, float] | str:
    """(features, tokens) at `cost` times the costliest run, or why there are none."""
    most = max(point.features * point.tokens for point in points)
    largest = [float(max(getattr(point, name) for point in points)) for name in ("features", "tokens")]
    smallest = [float(min(getattr(point, name) for point in points)) for name in ("features", "tokens")]
    one = [low == high for low, high in zip(smallest, largest, strict=True)]
    budget = cost * most
    if one[1]:
        candidates = np.array([budget / largest[1]])
    elif one[0]:
        candidates = np.array([largest[0]])
    else:
        candidates = np.geomspace(budget / (16 * REACH * largest[1]), 16 * REACH * largest[0], 4001)
    best = float(min(candidates, key=lambda features: law(features, budget / features)))
    found = (best, budget / best)
    beyond = [name for name, size, top in zip(("features", "tokens"), found, largest, strict=True) if size > REACH * top * (1 + 1e-9)]
    below = [name for name, size, low in zip(("features", "tokens"), found, smallest, strict=True) if size < low * (1 - 1e-9)]
    if beyond or below:
        where = f"{found[0]:,.0f} features x {found[1]:,.0f} tokens"
        side = f"more than {REACH:g} times as many {beyond[0]}" if beyond else f"fewer {below[0]} than any run"
        return f"its best at {cost:g} times the cost would be {where}: {side} as measured, where the fit supports nothing"
    return found


def _interval(law: ScalingLaw, points: tuple[ScalingPoint, ...], *, terms: Terms, at: tuple[float, float]) -> tuple[float, float]:
    """95 % interval of the loss at a size: refits to the law's own points with resampled residuals, and one residual more for the run itself."""
    residuals, generator = _residuals(law, points), np.random.default_rng(0)
    degrees = max(1, len(points) - 1 - 2 * sum(terms))
    residuals = residuals * math.sqrt(len(points) / degrees)
    predicted: list[float] = []
    for _ in range(_DRAWS):
        noise = generator.choice(residuals, len(points) + 1)
        drawn = tuple(
            ScalingPoint(features=point.features, tokens=point.tokens, loss=law(point.features, point.tokens) * math.exp(each))
            for point, each in zip(points, noise, strict=False)
        )
        predicted.append(_fit(drawn, terms=terms, start=law)(*at) * math.exp(noise[-1]))
    low, high = np.quantile(predicted, [0.025, 0.975])
    return float(low), float(high)
