"""Features that tell two small sets of texts apart: AUC of each with its interval, and a null of shuffled labels that knows how many were tried.

A text's value under a feature is its largest activation (`max`) or the mean over its tokens (`mean`). AUC = P(positive > negative) + ½ P(equal)
over pairs of texts (Mann and Whitney 1947). The null shuffles the labels and keeps, each time, the largest |AUC − ½| over *all* features: a feature's
p is the share of shuffles whose best reaches its own (Westfall and Young 1993, maxT), so p is corrected for having tried them all. The interval is
a score interval (Newcombe 2006): wide with few texts, and with a width where the sets do not overlap, which a bootstrap has not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from microtome.errors import QueryInvalid, nearest
from microtome.features.arrays import Array
from microtome.features.found import Separation, Separator
from microtome.features.probe import check_texts, encode
from microtome.features.store import Store
from microtome.models import Model
from microtome.stats import auc_interval

POOLS = ("max", "mean")
_BLOCK = 64
"""Shuffles a product."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """How two sets are compared."""

    pool: str = "max"
    shuffles: int = 999
    seed: int = 0
    limit: int = 50

    def __post_init__(self) -> None:
        if self.pool not in POOLS:
            raise QueryInvalid(f'a text has no "{self.pool}".', got=self.pool, wanted=", ".join(POOLS), do=nearest(self.pool, POOLS))
        if self.shuffles < 19:
            raise QueryInvalid("too few shuffles for a p of 0.05.", got=self.shuffles, wanted="at least 19", do="Give shuffles=999.")


def separate(store: Store, model: Model, *, positive: Sequence[str], negative: Sequence[str], how: Compared) -> Separation:
    """Features ranked by |AUC − ½|, equal ones by number."""
    check_texts(positive, what="positive text")
    check_texts(negative, what="negative text")
    if min(len(positive), len(negative)) < 2:
        got = f"{len(positive)} and {len(negative)}"
        raise QueryInvalid("too few texts to compare.", got=got, wanted="at least two of each kind", do="Add some; ten of each tell more.")
    values, features = _values(store, model, [*positive, *negative], pool=how.pool)
    n = len(positive)
    found = auc(values, n_positive=n)
    best = null(values, n_positive=n, shuffles=how.shuffles, seed=how.seed)
    p = (1 + len(best) - np.searchsorted(np.sort(best), np.abs(found - 0.5) - 1e-12)) / (1 + len(best))
    order = np.argsort(-np.abs(found - 0.5), kind="stable")[: max(0, how.limit)]
    labels, densities, maxima = store.labels(), store.rows.numbers["density"], store.rows.numbers["max"]
    hits: list[Separator] = []
    for at in map(int, order):
        feature = int(features[at])
        ends = auc_interval(float(found[at]), n_positive=n, n_negative=len(negative))
        top = float(maxima[feature]) or float(values[:, at].max())
        hits.append(
            Separator(
                feature=feature,
                label=labels[feature],
                auc=float(found[at]),
                low=ends.low,
                high=ends.high,
                p=float(p[at]),
                positive=float(values[:n, at].mean()) / top,
                negative=float(values[n:, at].mean()) / top,
                density=float(densities[feature]),
            )
        )
    return Separation(
        n_positive=n,
        n_negative=len(negative),
        pool=how.pool,
        n_tested=len(features),
        shuffles=how.shuffles,
        null_95=0.5 + float(np.quantile(best, 0.95)),
        n_significant=int((p <= 0.05).sum()),
        seed=how.seed,
        hits=tuple(hits),
    )


def auc(values: Array, *, n_positive: int) -> Array:
    """AUC of every column; the first `n_positive` rows are the positive ones. float64 [columns]."""
    n, m = n_positive, len(values) - n_positive
    return (mid_ranks(values)[:n].sum(0) - n * (n + 1) / 2) / (n * m)


def null(values: Array, *, n_positive: int, shuffles: int, seed: int) -> Array:
    """For each shuffle of the labels the largest |AUC − ½| of any column, float64 [shuffles]; 0 where there is no column."""
    n, m = n_positive, len(values) - n_positive
    ranks, draw = mid_ranks(values), np.random.default_rng(seed)
    found: list[Array] = []
    for start in range(0, shuffles, _BLOCK):
        picks = np.argsort(draw.random((min(_BLOCK, shuffles - start), n + m)), axis=1)[:, :n]
        chosen = np.zeros((len(picks), n + m))
        np.put_along_axis(chosen, picks, 1.0, axis=1)
        sums = chosen @ ranks
        found.append(np.abs((sums - n * (n + 1) / 2) / (n * m) - 0.5).max(1, initial=0.0))
    return np.concatenate(found)


def mid_ranks(values: Array) -> Array:
    """Ranks from 1 down each column, equal values sharing the mean of theirs, float64."""
    n = len(values)
    order = np.argsort(values, axis=0, kind="stable")
    ordered = np.take_along_axis(values, order, 0)
    at = np.arange(n)[:, None]
    new = np.ones(values.shape, dtype=bool)
    new[1:] = ordered[1:] != ordered[:-1]
    first = np.maximum.accumulate(np.where(new, at, 0), 0)
    ends = np.roll(new, -1, 0)
    ends[-1:] = True
    last = np.minimum.accumulate(np.where(ends, at, n)[::-1], 0)[::-1]
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, 0)
    return ranks


def _values(store: Store, model: Model, texts: Sequence[str], *, pool: str) -> tuple[Array, Array]:
    """The texts' values under the features that fire on any of them, float64 [texts, features], and those features."""
    rows = np.zeros((len(texts), store.n_features), np.float32)
    for row, text in zip(rows, texts, strict=True):
        encoded = encode(store, model, text)
        if pool == "max":
            np.maximum.at(row, encoded.ids, encoded.values)
        else:
            np.add.at(row, encoded.ids, encoded.values / len(encoded.tokens))
    features = np.flatnonzero(rows.max(0, initial=0.0))
    return rows[:, features].astype(np.float64), features
