"""Which of the features that fire on some tokens matter most: four ways to rank."""

from dataclasses import dataclass

import numpy as np

from microtome.errors import QueryInvalid, nearest
from microtome.features.arrays import Array
from microtome.features.store import Store

RANKS = ("specific", "share", "max", "count")


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The best features, best first."""

    features: Array
    scores: Array
    n_active: int
    """Different features that fire at all."""

    def pairs(self) -> list[tuple[int, float]]:
        """(feature, score), best first."""
        return [(int(feature), float(score)) for feature, score in zip(self.features, self.scores, strict=True)]


def ranked(store: Store, *, ids: Array, values: Array, rank: str, limit: int, pin: int | None = None) -> Ranking:
    """Rank the features `ids` by their activations `values` (parallel lists, a feature may occur often; zeros do not count).

    `max`: largest activation. `share`: that over the feature's maximum over the store. `count`: tokens. `specific`: share × ln((1 + documents of
    the store) / (1 + documents in which it fires)), as inverse document frequency weighs words (Spärck Jones 1972). A feature that never
    fires in the store has share 1 where it fires. Equal scores are ordered by feature. The feature `pin` comes last if it fires but ranks lower.
    """
    if rank not in RANKS:
        raise QueryInvalid(f'there is no rank "{rank}".', got=rank, wanted=", ".join(RANKS), do=nearest(rank, RANKS))
    active = values > 0
    features, inverse, counts = np.unique(ids[active], return_inverse=True, return_counts=True)
    largest = np.zeros(len(features), dtype=np.float64)
    np.maximum.at(largest, inverse, values[active])
    known = store.rows.numbers["max"][features].astype(np.float64)
    shares = np.where(known > 0, largest / np.where(known > 0, known, 1.0), 1.0)
    rarity = np.log((1 + store.corpus.n_docs) / (1 + store.rows.numbers["documents"][features]))
    scores = {"max": largest, "share": shares, "count": counts.astype(np.float64), "specific": shares * rarity}[rank]
    order = np.argsort(-scores, kind="stable")
    best = order[: max(0, limit)]
    if pin is not None and pin not in features[best]:
        best = np.concatenate([best, order[features[order] == pin]])
    return Ranking(features=features[best], scores=scores[best], n_active=len(features))
