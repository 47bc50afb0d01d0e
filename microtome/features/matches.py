"""The same feature elsewhere: in another index over the same tokens, or in the other dictionaries of its own index.

Two dictionaries number their features at will, so a feature is matched by what it does: Pearson's correlation of the two activations over all tokens
that both indexes keep (0 where a feature is silent), from the postings of both; and by what it writes, the cosine of the decoder directions.
Neither alone is proof: words that always stand together correlate, and a narrow residual stream makes directions look alike.
"""

from dataclasses import dataclass

import numpy as np

from microtome.errors import ShapeMismatch
from microtome.features.alike import cosine, nearest
from microtome.features.arrays import Array
from microtome.features.coactivation import sums
from microtome.features.context import mix
from microtome.features.links import Match, Matches
from microtome.features.postings import Firings, Postings
from microtome.features.store import Store


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Tokens that both stores keep, and the moments of the other's features over them."""

    keep: Array
    """bool [n_tokens]."""
    n: int
    total: Array
    """Sum of each feature's activations, float64 [features]."""
    square: Array
    """Sum of their squares."""


def matches(store: Store, feature: int, other: Store, *, limit: int) -> Matches:
    """The features of `other` nearest to one of `store`, by correlation and by cosine; in its own index those of the other dictionaries."""
    if other.inputs["model"] != store.inputs["model"]:
        do = "Index both dictionaries with the same model."
        raise ShapeMismatch("the two indexes are of different models.", got=other.inputs["model"], wanted=store.inputs["model"], do=do)
    own = store.numbering.place(feature).member if other.id == store.id else None
    shared = _shared(store, other) if other.corpus.id == store.corpus.id else None
    near = _cosines(store, feature, other, own=own)
    correlation, count, null, mutual = None, np.zeros(other.n_features), None, None
    if shared is not None:
        firings = _within(store.postings.feature(feature), shared.keep)
        correlation, count = correlations(other, firings, shared=shared)
        shifted, _ = correlations(other, _shifted(firings, shared, seed=feature), shared=shared)
        for values in (correlation, shifted):
            _leave_out(other, values, member=own)
        null = float(max(0.0, shifted.max(initial=0.0)))
        mutual = _is_mutual(store, feature, other, best=int(correlation.argmax())) if correlation.max(initial=0.0) > 0 else None
    make = _Maker(other, correlation=correlation, cosines=near, count=count)
    return Matches(
        index=store.name,
        feature=feature,
        label=store.labels()[feature],
        other=other.name,
        n_tokens=0 if shared is None else shared.n,
        null=null,
        is_mutual=mutual,
        by_correlation=() if correlation is None else make.listed(correlation, limit=limit),
        by_cosine=make.listed(np.nan_to_num(near, nan=-2.0), limit=limit),
    )


def correlations(store: Store, firings: Firings, *, shared: Shared) -> tuple[Array, Array]:
    """Pearson's r of some activations (0 elsewhere) with every feature over the shared tokens, and on how many tokens both fire."""
    members = len(store.numbering.sites)
    found = sums(store.postings, firings.positions, firings.values, members=range(members), n_members=members, scaled=False)
    values, n = firings.values.astype(np.float64), max(1, shared.n)
    mine, theirs = values.sum(), shared.total
    spread = (np.square(values).sum() - mine**2 / n) * np.maximum(shared.square - theirs**2 / n, 0.0)
    covariance = found.product - mine * theirs / n
    return np.divide(covariance, np.sqrt(spread), out=np.zeros_like(covariance), where=spread > 0), found.count


def _shared(store: Store, other: Store) -> Shared:
    """The tokens that both keep: the stored moments, less what lies outside."""
    numbers = other.rows.numbers
    counts = numbers["count"].astype(np.float64)
    total, square = numbers["mean"].astype(np.float64) * counts, numbers["second_moment"] * counts
    ours, theirs = store.postings.keep(), other.postings.keep()
    outside = np.flatnonzero(theirs & ~ours)
    if len(outside):
        less = _moments(other.postings, outside)
        total, square = total - less[0], np.maximum(square - less[1], 0.0)
    keep = ours & theirs
    return Shared(keep=keep, n=int(keep.sum()), total=total, square=square)


def _moments(postings: Postings, positions: Array) -> tuple[Array, Array]:
    """Sums of the activations on some tokens and of their squares."""
    total, square = np.zeros(postings.d_dict), np.zeros(postings.d_dict)
    for _, forward in postings.forward(positions):
        indptr, ids, values = (forward.arrays[name] for name in ("indptr", "ids", "values"))
        first, last = indptr[forward.rows], indptr[forward.rows + 1]
        sizes = last - first
        at = np.repeat(last - np.cumsum(sizes), sizes) + np.arange(int(sizes.sum()))
        who, much = ids[at].astype(np.intp), values[at].astype(np.float64)
        total += np.bincount(who, weights=much, minlength=len(total))
        square += np.bincount(who, weights=much**2, minlength=len(total))
    return total, square


def _within(firings: Firings, keep: Array) -> Firings:
    here = keep[firings.positions]
    return Firings(positions=firings.positions[here], values=firings.values[here])


def _shifted(firings: Firings, shared: Shared, *, seed: int) -> Firings:
    """The same activations on other tokens: moved along the shared ones by a distance of a quarter to three quarters of them, round the end."""
    kept = np.flatnonzero(shared.keep)
    if not len(firings):
        return firings
    part = int(mix(np.array([seed + 1], np.uint64))[0] % np.uint64(1 << 20)) / (1 << 20)
    ranks = (np.searchsorted(kept, firings.positions) + int(len(kept) * (0.25 + 0.5 * part))) % len(kept)
    order = np.argsort(ranks)
    return Firings(positions=kept[ranks[order]], values=firings.values[order])


def _is_mutual(store: Store, feature: int, other: Store, *, best: int) -> bool:
    """Whether the feature is the best match of its best match, in its own dictionary."""
    shared = _shared(other, store)
    back, _ = correlations(store, _within(other.postings.feature(best), shared.keep), shared=shared)
    span = store.numbering.span(store.numbering.place(feature).member)
    return int(back[span].argmax()) + span.start == feature


def _cosines(store: Store, feature: int, other: Store, *, own: int | None) -> Array:
    """Of the decoder directions, float32 [features]; NaN where the widths differ and for the feature's own dictionary."""
    place = store.numbering.place(feature)
    vector = store.wiring.decoders(place.member)[place.number]
    found = np.full(other.n_features, np.nan, np.float32)
    for member in range(len(other.numbering.sites)):
        rows = other.wiring.decoders(member)
        if member != own and rows.shape[1] == len(vector):
            found[other.numbering.span(member)] = cosine(rows, vector)
    return found


def _leave_out(other: Store, values: Array, *, member: int | None) -> None:
    if member is not None:
        values[other.numbering.span(member)] = -2.0


class _Maker:
    """Writes the lists of one answer."""

    def __init__(self, other: Store, *, correlation: Array | None, cosines: Array, count: Array) -> None:
        self._other, self._correlation, self._cosines, self._count = other, correlation, cosines, count

    def listed(self, values: Array, *, limit: int) -> tuple[Match, ...]:
        """The features with the largest positive values."""
        return tuple(self._match(feature) for feature in nearest(values, limit=limit) if values[feature] > 0)

    def _match(self, feature: int) -> Match:
        place, cosine = self._other.numbering.place(feature), float(self._cosines[feature])
        return Match(
            feature=feature,
            site=str(place.site),
            number=place.number,
            label=self._other.labels()[feature],
            correlation=None if self._correlation is None else float(self._correlation[feature]),
            cosine=None if np.isnan(cosine) else cosine,
            count=int(self._count[feature]),
            density=float(self._other.rows.numbers["density"][feature]),
        )
