"""Which firings stand for a feature: the strongest ones, and a fair draw from slices of equal count."""

from dataclasses import dataclass

import numpy as np

from microtome.features.arrays import Array
from microtome.features.blocks import Block, Ragged, places
from microtome.features.context import Context, mix


@dataclass(frozen=True, kw_only=True)
class Picks:
    """Chosen firings of several features or slices, one after the other."""

    rows: Array
    """Their places among the firings."""
    group: Array
    """Of each, the feature or slice that it was chosen for, ascending."""
    duplicates: Array
    """Of each, how many other documents held a near-identical window."""


@dataclass(frozen=True, kw_only=True)
class Slices:
    """Every feature's firings cut by activation into slices of equal count (up to ties), weakest first, half-open: `edges[i] <= a < edges[i + 1]`.

    The last edge is the maximum and closes the last slice. Ties stay together, so a slice can be empty and is then left out.
    """

    edges: Ragged
    counts: Ragged
    of: Array
    """Of each firing its slice, counted through all features."""


def strongest(block: Block, context: Context, *, limit: int) -> Picks:
    """Of each feature, the strongest firing of each document, near-duplicate windows collapsed to the strongest, the best `limit` of them.

    Equal activations are ordered by position.
    """
    order = block.strongest_first
    return _one_a_document(block, context, order=order, group=block.group[order], limit=limit)


def drawn(block: Block, context: Context, *, rows: Array, group: Array, limit: int, seed: int) -> Picks:
    """At most `limit` of the firings `rows` of each group, drawn by a seeded hash of their position, one a document, strongest first."""
    keys = mix(mix(block.positions[rows].astype(np.uint64)) + np.uint64(seed))
    order = np.lexsort((keys, group))
    picks = _one_a_document(block, context, order=rows[order], group=group[order], limit=limit)
    order = np.lexsort((-block.values[picks.rows], picks.group))
    return Picks(rows=picks.rows[order], group=picks.group, duplicates=picks.duplicates[order])


def slices(block: Block, *, n: int) -> Slices:
    """Cut every feature's activations into at most `n` slices of equal count."""
    counts, starts = block.counts, block.starts
    weakest_first = (starts + counts - 1)[block.group] - np.arange(len(block.group)) + starts[block.group]
    order = block.strongest_first[weakest_first]
    values = block.values[order]
    is_first = np.ones(len(values), dtype=bool)
    is_first[1:] = (values[1:] != values[:-1]) | (block.group[1:] != block.group[:-1])
    first_of_equals = np.maximum.accumulate(np.where(is_first, np.arange(len(values)), 0))
    at = starts[block.alive, None] + (np.arange(n) * counts[block.alive, None]) // n
    begins = np.zeros(len(values), dtype=bool)
    begins[first_of_equals[at]] = True
    number = np.cumsum(begins) - 1
    of = np.empty(len(values), dtype=np.int64)
    of[order] = number
    firsts = np.flatnonzero(begins)
    n_slices = np.bincount(block.group[firsts], minlength=len(block))
    sizes = np.bincount(number, minlength=len(firsts))
    ends = np.insert(values[firsts], np.cumsum(n_slices)[block.alive], block.reduced(np.maximum, block.values))
    return Slices(edges=Ragged(ends, n_slices + (counts > 0)), counts=Ragged(sizes, n_slices), of=of)


def slice_of(values: Array, edges: Array) -> Array:
    """The slice of one feature that each activation falls in."""
    return np.searchsorted(edges[:-1], values, side="right") - 1


def _one_a_document(block: Block, context: Context, *, order: Array, group: Array, limit: int) -> Picks:
    """Go through `order`, group after group, keep the first of each document and of each near-duplicate window."""
    docs = context.doc[block.positions[order]]
    firsts = np.sort(np.unique(group * np.int64(context.n_docs) + docs, return_index=True)[1])
    rows, group = order[firsts], group[firsts]
    hashes = mix(context.surroundings[block.positions[rows]] ^ mix(group.astype(np.uint64)))
    _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    best = np.argsort(first)
    best = best[places(group[first[best]]) < limit]
    return Picks(rows=rows[first[best]], group=group[first[best]], duplicates=counts[best] - 1)
