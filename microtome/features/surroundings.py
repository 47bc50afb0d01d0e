"""What stands around a feature's firings: the n-grams before and after, and where in the document, each beside how often it occurs at all."""

from dataclasses import dataclass

import numpy as np

from microtome.features.arrays import Array
from microtome.features.store import Store

SHAPES = ((1, 0), (2, 0), (0, 1), (0, 2))
"""Tokens before and after the firing that an n-gram takes in."""


@dataclass(frozen=True, kw_only=True)
class Gram:
    """Some tokens in a row, one of which is the one the feature fires on."""

    tokens: tuple[int, ...]
    pieces: tuple[str, ...]
    centre: int
    """Which of them the feature fires on."""
    count: int
    """Firings that stand so."""
    share: float
    """Of all its firings."""
    occurrences: int
    """How often these tokens stand so in the store, the centre kept …"""
    rate: float
    """… and P(fires | they do): count / occurrences."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A range of offsets in a document."""

    low: int
    """Tokens from the document's start …"""
    high: int
    """… to below this."""
    count: int
    """Firings there."""
    tokens: int
    """Kept tokens there."""
    density: float
    """count / tokens."""
    lift: float
    """That, over the feature's density in the whole store."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where a feature fires, as seen from the text alone."""

    index: str
    feature: int
    label: str
    n: int
    """Firings."""
    before: tuple[Gram, ...]
    """The commonest two- and three-token n-grams that end with the firing."""
    after: tuple[Gram, ...]
    """Those that begin with it."""
    positions: tuple[Stretch, ...]
    """By offset in the document, in powers of two."""


def surroundings(store: Store, feature: int, *, limit: int) -> Surroundings:
    """Counted over all firings of a feature; an n-gram that would cross the border of a document is not counted."""
    positions = store.postings.feature(feature).positions
    lists: list[list[Gram]] = [[], []]
    for before, after in SHAPES:
        lists[0 if before else 1] += _grams(store, positions, before=before, after=after, limit=limit)
    order = lambda grams: tuple(sorted(grams, key=lambda gram: (-gram.count, len(gram.tokens), gram.tokens)))  # noqa: E731  a local short form
    return Surroundings(
        index=store.name,
        feature=feature,
        label=store.labels()[feature],
        n=len(positions),
        before=order(lists[0]),
        after=order(lists[1]),
        positions=_stretches(store, feature),
    )


def _grams(store: Store, positions: Array, *, before: int, after: int, limit: int) -> list[Gram]:
    """The commonest n-grams of one shape, by firings; equal ones by their tokens."""
    corpus = store.corpus
    docs = corpus.doc_of(positions)
    whole = (positions - before >= corpus.doc_start[docs]) & (positions + after < corpus.doc_start[docs + 1])
    centres = positions[whole]
    if not len(centres):
        return []
    tokens, base = np.asarray(corpus.tokens), np.uint64(len(store.token_counts) + 1)
    keys = np.zeros(len(centres), np.uint64)
    for shift in range(-before, after + 1):
        keys = keys * base + tokens[centres + shift].astype(np.uint64)
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    best = np.argsort(-counts, kind="stable")[: max(0, limit)]
    made: list[Gram] = []
    for at in best.tolist():
        ids = tokens[centres[first[at]] - before : centres[first[at]] + after + 1].tolist()
        n = _occurrences(store, ids, centre=before)
        pieces = tuple(store.vocabulary.piece(token) for token in ids)
        count = int(counts[at])
        made.append(
            Gram(
                tokens=tuple(ids),
                pieces=pieces,
                centre=before,
                count=count,
                share=count / len(positions),
                occurrences=n,
                rate=count / n if n else 0.0,
            )
        )
    return made


def _occurrences(store: Store, ids: list[int], *, centre: int) -> int:
    """How often these tokens stand in a row within a document, with the one at `centre` kept."""
    corpus, tokens = store.corpus, np.asarray(store.corpus.tokens)
    at = store.places_of(ids[centre])
    docs = corpus.doc_of(at)
    at = at[(at - centre >= corpus.doc_start[docs]) & (at + len(ids) - centre <= corpus.doc_start[docs + 1])]
    for shift, token in enumerate(ids):
        at = at[tokens[at + shift - centre] == token]
    return len(at)


def _stretches(store: Store, feature: int) -> tuple[Stretch, ...]:
    edges: list[int] = store.facts["offset_edges"]
    counts: list[int] = store.rows.row(feature)["offset_counts"]
    density = float(store.rows.numbers["density"][feature])
    found: list[Stretch] = []
    for low, high, count, tokens in zip(edges[:-1], edges[1:], counts, store.offset_tokens.tolist(), strict=True):
        here = count / tokens if tokens else 0.0
        found.append(Stretch(low=low, high=high, count=count, tokens=tokens, density=here, lift=here / density if density else 0.0))
    return tuple(found)
