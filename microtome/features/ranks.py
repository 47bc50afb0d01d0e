"""Which of the features that fire on some tokens matter most: four ways to rank."""

from dataclasses import dataclass

import numpy as np

from microtome.errors import QueryInvalid, nearest
from microtome.features.arrays import Array
from microtome.features.postings import id_dtype
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


@dataclass(frozen=True, kw_only=True)
class Grouped:
    """Firings brought together by feature: those of `features[i]` are `order[starts[i] : starts[i + 1]]` of what was given."""

    features: Array
    starts: Array
    """One more than features."""
    order: Array
    largest: Array
    """Largest activation of each feature, float32."""

    def rows(self, feature: int) -> Array:
        """Indices of one feature's firings, in the order given."""
        at = int(np.searchsorted(self.features, feature))
        return self.order[int(self.starts[at]) : int(self.starts[at + 1])]


def grouped(ids: Array, values: Array, *, n_features: int) -> Grouped:
    """Bring parallel lists of features and activations together by feature; the values are all positive."""
    narrow = ids.astype(id_dtype(n_features))
    order = np.argsort(narrow, kind="stable")
    ordered = narrow[order]
    firsts = np.flatnonzero(np.diff(ordered.astype(np.int64), prepend=-1))
    largest = np.maximum.reduceat(values[order], firsts) if len(firsts) else np.zeros(0, dtype=np.float32)
    return Grouped(features=ordered[firsts].astype(np.int64), starts=np.append(firsts, len(ids)), order=order, largest=largest)


def share_of_max(activations: Array, largest: Array | float) -> Array:
    """Activations over the features' maxima over the store; 1 where a feature fires that never does in the store, 0 where none fires."""
    known = np.asarray(largest, dtype=np.float64)
    return np.where(known > 0, activations / np.where(known > 0, known, 1.0), (np.asarray(activations) > 0).astype(np.float64))


def ranked(store: Store, groups: Grouped, *, rank: str, limit: int, pin: int | None = None) -> Ranking:
    """Rank the features of some tokens.

    `max`: largest activation. `share`: that over the feature's maximum over the store. `count`: tokens. `specific`: share × ln((1 + documents of
    the store) / (1 + documents in which it fires)), as inverse document frequency weighs words (Spärck Jones 1972). A feature that never
    fires in the store has share 1 where it fires. Equal scores are ordered by feature. The feature `pin` comes last if it fires but ranks lower.
    """
    if rank not in RANKS:
        raise QueryInvalid(f'there is no rank "{rank}".', got=rank, wanted=", ".join(RANKS), do=nearest(rank, RANKS))
    features, counts = groups.features, np.diff(groups.starts)
    largest = groups.largest.astype(np.float64)
    shares = share_of_max(largest, store.rows.numbers["max"][features])
    rarity = np.log((1 + store.corpus.n_docs) / (1 + store.rows.numbers["documents"][features]))
    scores = {"max": largest, "share": shares, "count": counts.astype(np.float64), "specific": shares * rarity}[rank]
    order = np.argsort(-scores, kind="stable")
    best = order[: max(0, limit)]
    if pin is not None and pin not in features[best]:
        best = np.concatenate([best, order[features[order] == pin]])
    return Ranking(features=features[best], scores=scores[best], n_active=len(features))
