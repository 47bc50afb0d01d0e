"""Numbers of the features of a block from their firings: moments, histogram, breakdowns, token profile. All exact over the store."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from microtome.features.arrays import Array
from microtome.features.blocks import Block, Column, Ragged, places
from microtome.features.config import IndexConfig
from microtome.features.context import Context
from microtome.features.examples import drawn, slices, strongest

BINS = 64
"""Bins of the activation histogram."""
_FEW = 8
"""Up to so many activations are ranked by counting, more by sorting."""


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Kept tokens of the store, counted once, that the features' counts are held against."""

    kept: int
    tokens: Array
    """Kept occurrences of each token id."""
    parts: dict[str, Array]
    """Kept tokens by `role`, `corpus_label` and `split`, in the order of the context's names."""
    offset_edges: Array
    """Edges of the offset histogram: 0, 1, 2, 4, 8, …"""
    offset_bin: Array
    """Bin of each token's offset, int8 [n_tokens]."""


def totals_of(context: Context, *, n_vocab: int) -> Totals:
    """Count the kept tokens of the store in every way that features are counted."""
    keep = context.keep
    longest = int(context.offset.max(initial=0)) + 1
    edges = np.array([0, *(1 << power for power in range(longest.bit_length() + 1))], dtype=np.int64)
    edges = edges[: int(np.searchsorted(edges, longest)) + 1]
    parts = {name: np.bincount(codes[keep], minlength=len(names)) for name, (codes, names) in context.breakdowns.items()}
    return Totals(
        kept=int(keep.sum()),
        tokens=np.bincount(context.tokens[keep], minlength=n_vocab),
        parts=parts,
        offset_edges=edges,
        offset_bin=(np.searchsorted(edges, context.offset, side="right") - 1).astype(np.int8),
    )


def moments(block: Block, context: Context, *, kept: int) -> dict[str, Column]:
    """`count, density, documents, max, mean, second_moment`; the means are over the firings, 0 for a dead feature."""
    values, docs, alive = block.values.astype(np.float64), context.doc[block.positions], block.alive
    is_new = np.ones(len(docs), dtype=bool)
    is_new[1:] = (docs[1:] != docs[:-1]) | (block.group[1:] != block.group[:-1])
    found = {name: np.zeros(len(block)) for name in ("max", "mean", "second_moment")}
    found["max"][alive] = block.reduced(np.maximum, values)
    found["mean"][alive] = block.reduced(np.add, values) / block.counts[alive]
    found["second_moment"][alive] = block.reduced(np.add, np.square(values)) / block.counts[alive]
    documents = np.bincount(block.group[is_new], minlength=len(block))
    return {"count": block.counts, "density": block.counts / max(1, kept), "documents": documents, **found}


def histogram(block: Block) -> tuple[Ragged, Ragged]:
    """Edges and counts of 64 logarithmic bins from the weakest to the strongest firing of each feature (half of it, when all are equal)."""
    values, alive = block.values.astype(np.float64), block.alive
    low, high = block.reduced(np.minimum, values), block.reduced(np.maximum, values)
    edges = np.geomspace(np.where(low < high, low, high / 2), high, BINS + 1, axis=1)
    edges[:, 0], edges[:, -1] = np.minimum(edges[:, 0], low), high
    of = np.repeat(np.arange(len(alive)), block.counts[alive])
    first, last = np.log(edges[:, 0]), np.log(edges[:, -1])
    bins = np.clip((np.log(values) - first[of]) / (last - first)[of] * BINS, 0, BINS - 1).astype(np.int64)
    while True:  # rounding leaves a value a bin off at most; the edges decide
        step = ((values >= edges[of, bins + 1]) & (bins < BINS - 1)).astype(np.int64) - (values < edges[of, bins])
        if not step.any():
            break
        bins += step
    counts = np.bincount(of * BINS + bins, minlength=len(alive) * BINS)
    lengths = np.where(block.counts > 0, BINS, 0)
    return Ragged(edges.reshape(-1), lengths + (block.counts > 0)), Ragged(counts, lengths)


def percentile(activations: Array, *, values: Array) -> Array:
    """Share of a feature's firings that are weaker than each activation, exactly: #{v < a} / n over all `values`; 0 where it is not active.

    `values` are the positive activations of the feature as they are stored, in any order; the activations have been rounded as they were.
    """
    found = np.zeros(len(activations))
    active = activations > 0
    if len(values):
        found[active] = _below(activations[active], values, side="left") / len(values)
    return found


def standing(activations: Array, *, values: Array) -> Array:
    """Place of each activation among a feature's firings: 1 + #{v > a}, 1 above or equal to all; 0 where it is not active. As `percentile`."""
    found = np.zeros(len(activations), np.int64)
    active = activations > 0
    found[active] = 1 + len(values) - _below(activations[active], values, side="right")
    return found


def _below(asked: Array, values: Array, *, side: Literal["left", "right"]) -> Array:
    """How many of `values` are below each activation, with `side="right"` below or equal; all are positive."""
    bits = f"u{values.dtype.itemsize}"  # positive floats are ordered as their bits, which are faster to compare and to sort
    held, wanted = values.view(bits), asked.astype(values.dtype).view(bits)
    if len(wanted) > _FEW:
        return np.searchsorted(np.sort(held), wanted, side=side)
    below = np.less if side == "left" else np.less_equal
    return np.array([np.count_nonzero(below(held, one)) for one in wanted], dtype=np.int64)


def token_profile(block: Block, context: Context, *, totals: Totals, limit: int) -> dict[str, Column]:
    """Entropy in bits over token ids, and the `limit` tokens with the most total activation (equal ones by id)."""
    n_vocab = len(totals.tokens)
    keys, inverse, counts = np.unique(block.group * n_vocab + context.tokens[block.positions], return_inverse=True, return_counts=True)
    of, ids = np.divmod(keys, n_vocab)
    sums = np.bincount(inverse, weights=block.values, minlength=len(keys))
    shares = counts / block.counts[of]
    distinct = np.bincount(of, minlength=len(block))
    best = np.lexsort((-sums, of))
    best = best[places(of[best]) < limit]
    each = np.minimum(distinct, limit)
    columns = {"ids": ids, "counts": counts, "means": sums / counts, "rates": counts / np.maximum(totals.tokens[ids], 1)}
    return {
        "entropy": np.bincount(of, weights=-(shares * np.log2(shares)), minlength=len(block)) + 0.0,
        "distinct": distinct,
        **{f"token_{name}": Ragged(values[best], each) for name, values in columns.items()},
    }


def breakdown_counts(block: Block, context: Context, *, totals: Totals) -> dict[str, Column]:
    """Firings by role, corpus label, split and offset, and the corpus label with the highest lift among those with 5 firings or more."""
    codes = {name: (codes, len(names)) for name, (codes, names) in context.breakdowns.items()}
    codes["offset"] = totals.offset_bin, len(totals.offset_edges) - 1
    counts = {
        name: np.bincount(block.group * n + each[block.positions], minlength=len(block) * n).reshape(len(block), n)
        for name, (each, n) in codes.items()
    }
    density, tokens = block.counts / max(1, totals.kept), totals.parts["corpus_label"]
    named = np.array([bool(name) for name in context.labels]) & (counts["corpus_label"] >= np.clip(block.counts, 1, 5)[:, None])
    lifts = counts["corpus_label"] / np.maximum(tokens, 1) / np.maximum(density, 1e-300)[:, None]
    lifts = np.where(named & (tokens > 0), lifts, 0.0)
    best = lifts.argmax(1) if lifts.shape[1] else np.zeros(len(block), np.int64)
    highest = lifts.max(1, initial=0.0)
    return {
        **{f"{name}_counts": Ragged.even(table) for name, table in counts.items()},
        "corpus_label": [context.labels[label] if lift > 0 else "" for label, lift in zip(best.tolist(), highest.tolist(), strict=True)],
        "lift": highest,
    }


def example_columns(block: Block, context: Context, *, config: IndexConfig) -> dict[str, Column]:
    """Positions of the top examples and of the draw from each slice, over all firings: a slice that holds one has an example."""
    top, cut = strongest(block, context, limit=config.top_examples), slices(block, n=config.strata)
    n_slices = len(cut.counts.values)
    draws = drawn(block, context, rows=np.arange(len(block.positions)), group=cut.of, limit=config.stratum_examples, seed=config.seed)
    sizes = np.bincount(draws.group, minlength=n_slices)
    n_top = np.bincount(top.group, minlength=len(block))
    n_drawn = np.bincount(np.repeat(np.arange(len(block)), cut.counts.counts), weights=sizes, minlength=len(block)).astype(np.int64)
    return {
        "top_positions": Ragged(block.positions[top.rows], n_top),
        "top_duplicates": Ragged(top.duplicates, n_top),
        "stratum_edges": cut.edges,
        "stratum_counts": cut.counts,
        "stratum_sizes": Ragged(sizes, cut.counts.counts),
        "stratum_positions": Ragged(block.positions[draws.rows], n_drawn),
        "stratum_duplicates": Ragged(draws.duplicates, n_drawn),
    }
