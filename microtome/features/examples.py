"""Which firings stand for a feature: the strongest ones, and a fair draw from slices of equal count."""

from dataclasses import dataclass

import numpy as np

from microtome.features.arrays import Array
from microtome.features.context import Context, mix
from microtome.features.postings import Firings


@dataclass(frozen=True, kw_only=True)
class Picks:
    """Chosen firings, by index into the feature's firings."""

    rows: Array
    duplicates: Array
    """For each, how many other documents held a near-identical window."""


@dataclass(frozen=True, kw_only=True)
class Slices:
    """A feature's firings cut by activation into slices of equal count (up to ties), weakest first, half-open: `edges[i] <= a < edges[i + 1]`.

    The last edge is the maximum and closes the last slice. Ties stay together, so a slice can be empty and is then left out.
    """

    edges: Array
    counts: Array


def strongest(firings: Firings, context: Context, *, limit: int) -> Picks:
    """The strongest firing of each document, near-duplicate windows collapsed to the strongest, the best `limit` of them.

    Equal activations are ordered by position.
    """
    return _one_a_document(firings, context, order=np.argsort(-firings.values, kind="stable"), limit=limit)


def drawn(firings: Firings, context: Context, *, rows: Array, limit: int, seed: int) -> Picks:
    """At most `limit` of the firings `rows`, drawn by a seeded hash of their position, one a document, strongest first."""
    keys = mix(mix(firings.positions[rows].astype(np.uint64)) + np.uint64(seed))
    picks = _one_a_document(firings, context, order=rows[np.argsort(keys, kind="stable")], limit=limit)
    order = np.argsort(-firings.values[picks.rows], kind="stable")
    return Picks(rows=picks.rows[order], duplicates=picks.duplicates[order])


def slices(values: Array, *, n: int) -> Slices:
    """Cut activations into at most `n` slices of equal count."""
    if not len(values):
        return Slices(edges=np.zeros(0, np.float32), counts=np.zeros(0, np.int64))
    ordered = np.sort(values)
    edges = np.unique(ordered[(np.arange(n) * len(ordered)) // n])
    counts = np.diff(np.concatenate([np.searchsorted(ordered, edges), [len(ordered)]]))
    return Slices(edges=np.append(edges, ordered[-1]), counts=counts)


def slice_of(values: Array, edges: Array) -> Array:
    """The slice that each activation falls in."""
    return np.searchsorted(edges[:-1], values, side="right") - 1


def _one_a_document(firings: Firings, context: Context, *, order: Array, limit: int) -> Picks:
    """Go through `order`, keep the first of each document and of each near-duplicate window."""
    docs = context.doc[firings.positions[order]]
    firsts = np.sort(np.unique(docs, return_index=True)[1])
    rows = order[firsts]
    hashes = context.surroundings[firings.positions[rows]]
    _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    best = np.argsort(first, kind="stable")[:limit]
    return Picks(rows=rows[first[best]], duplicates=counts[best] - 1)
