"""Reported values: a number never travels without its interval, its n and what it was measured on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

_BLOCK_VALUES = 1 << 22
"""Values that are ranked at once."""
_HALVINGS = 40
"""Steps to an end of an interval that has no closed form: to 1e-12."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One reported figure."""

    name: str
    value: float
    low: float | None = None
    """Lower end of the 95 % interval, in the units of `value`."""
    high: float | None = None
    n: int
    """How many units (documents, tokens, examples) the value rests on."""
    unit: str = ""
    definition: str = ""
    """The formula in words."""
    failures: int = 0
    """Units for which no value could be had; they are not in `n`."""
    baselines: Mapping[str, float] = field(default_factory=lambda: {})
    """The same figure for the controls, by name (`random`, `mean`, …)."""
    origin: str = ""
    """Id of the artifact it was measured on."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    low: float
    high: float


def bootstrap_ratio(numerators: ArrayLike, denominators: ArrayLike, *, seed: int = 0, draws: int = 1000) -> Interval:
    """95 % percentile interval of sum(numerators) / sum(denominators), resampling the units (documents) with replacement."""
    over, under = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    assert over.shape == under.shape
    assert over.ndim == 1
    assert len(over) > 0
    picks = np.random.default_rng(seed).integers(0, len(over), size=(draws, len(over)))
    ratios = over[picks].sum(1) / under[picks].sum(1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Interval(low=float(low), high=float(high))


def wilson(successes: int, n: int, *, z: float = 1.96) -> Interval:
    """Wilson's score interval of a share (Wilson 1927); n = 0 gives the whole of [0, 1]."""
    if n == 0:
        return Interval(low=0.0, high=1.0)
    share, spread = successes / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return Interval(low=max(0.0, middle - half), high=min(1.0, middle + half))


def auc_interval(auc: float, *, n_positive: int, n_negative: int, z: float = 1.96) -> Interval:
    """Score interval of an AUC (method 5 of Newcombe 2006, Statistics in Medicine 25:559): every θ with |auc − θ| ≤ z √V(θ), wide at 0 and 1 too.

    V(θ) = θ (1 − θ) [1 + N ((1 − θ) / (2 − θ) + θ / (1 + θ))] / (n_positive · n_negative) is the variance that Hanley and McNeil (1982) give for
    exponential values, at θ rather than at the estimate, with N = (n_positive + n_negative) / 2 − 1 for both of their sizes less one.
    """
    assert min(n_positive, n_negative) > 0
    pairs, balanced = n_positive * n_negative, (n_positive + n_negative) / 2 - 1

    def is_within(theta: float) -> bool:
        variance = theta * (1 - theta) * (1 + balanced * ((1 - theta) / (2 - theta) + theta / (1 + theta))) / pairs
        return (auc - theta) ** 2 <= z * z * variance

    def end(outside: float) -> float:
        inside = auc
        for _ in range(_HALVINGS):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if is_within(middle) else (inside, middle)
        return outside

    return Interval(low=end(0.0), high=end(1.0))


def rank_correlation(left: ArrayLike, right: ArrayLike) -> float:
    """Spearman's rank correlation, equal values sharing the mean of their ranks; NaN where a side is constant or has fewer than two values."""
    a, b = _ranks(np.asarray(left, dtype=np.float64)), _ranks(np.asarray(right, dtype=np.float64))
    assert a.shape == b.shape
    a, b = a - a.mean() if len(a) else a, b - b.mean() if len(b) else b
    size = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / size if size > 0 else math.nan


def bootstrap_rank_correlation(left: ArrayLike, right: ArrayLike, *, seed: int = 0, draws: int = 1000) -> Interval:
    """95 % percentile interval of the rank correlation, resampling the pairs with replacement.

    Draws in which a side is constant are left out; where all of them are, the interval is the whole of [−1, 1].
    """
    a, b = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    assert a.shape == b.shape
    assert a.ndim == 1
    picks = np.random.default_rng(seed).integers(0, max(len(a), 1), size=(draws if len(a) else 0, len(a)))
    parts = np.array_split(picks, max(1, picks.size // _BLOCK_VALUES))
    found = np.concatenate([_rank_correlations(_ranks_of(a, some), _ranks_of(b, some)) for some in parts])
    if not len(found):
        return Interval(low=-1.0, high=1.0)
    low, high = np.quantile(found, [0.025, 0.975])
    return Interval(low=float(low), high=float(high))


def shuffled_rank_correlations(left: ArrayLike, right: ArrayLike, *, seed: int = 0, draws: int = 400) -> NDArray[np.float64]:
    """The rank correlations of `draws` shuffles of `left` with `right`: what no relation at all gives. NaN where a side is constant."""
    a, b = _ranks(np.asarray(left, dtype=np.float64)), _ranks(np.asarray(right, dtype=np.float64))
    assert a.shape == b.shape
    a, b = a - a.mean(), b - b.mean()
    size, draw = math.sqrt(float(a @ a) * float(b @ b)), np.random.default_rng(seed)
    return np.array([float(draw.permutation(a) @ b) / size if size > 0 else math.nan for _ in range(draws)])


def _rank_correlations(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Row by row, of ranks less their mean; rows in which a side is constant are left out."""
    size = np.sqrt((left**2).sum(1) * (right**2).sum(1))
    return (left * right).sum(1)[size > 0] / size[size > 0]


def _ranks_of(values: NDArray[np.float64], picks: NDArray[np.int64]) -> NDArray[np.float64]:
    """In each row of picks, the ranks of what was picked, less their mean: all rows at once, since they pick from the same values."""
    known, codes = np.unique(values, return_inverse=True)
    chosen, width = codes[picks], max(len(known), 1)
    counts = np.bincount((chosen + width * np.arange(len(picks))[:, None]).ravel(), minlength=width * len(picks)).reshape(len(picks), width)
    ranks = np.cumsum(counts, axis=1) - (counts - 1) / 2
    return np.take_along_axis(ranks, chosen, axis=1) - (picks.shape[1] + 1) / 2


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
