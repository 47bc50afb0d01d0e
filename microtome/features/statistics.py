"""Numbers of one feature from its firings: moments, histogram, breakdowns, token profile. All exact over the store."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from microtome.features.arrays import Array
from microtome.features.config import IndexConfig
from microtome.features.context import Context
from microtome.features.examples import drawn, slice_of, slices, strongest
from microtome.features.postings import Firings

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


def moments(firings: Firings, context: Context, *, kept: int) -> dict[str, Any]:
    """`count, density, documents, max, mean, second_moment`; the means are over the firings, 0 for a dead feature."""
    values = firings.values.astype(np.float64)
    docs = context.doc[firings.positions]
    dead = not len(values)
    return {
        "count": len(values),
        "density": len(values) / max(1, kept),
        "documents": 0 if dead else int(np.count_nonzero(np.diff(docs))) + 1,
        "max": 0.0 if dead else float(values.max()),
        "mean": 0.0 if dead else float(values.mean()),
        "second_moment": 0.0 if dead else float(np.square(values).mean()),
    }


def histogram(values: Array) -> tuple[Array, Array]:
    """Edges and counts of 64 logarithmic bins from the weakest to the strongest firing (half of it, when all are equal)."""
    if not len(values):
        return np.zeros(0), np.zeros(0, np.int64)
    low, high = float(values.min()), float(values.max())
    edges = np.geomspace(low if low < high else high / 2, high, BINS + 1)
    edges[0], edges[-1] = min(edges[0], low), high
    return edges, np.histogram(values.astype(np.float64), bins=edges)[0]


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


def token_profile(firings: Firings, context: Context, *, totals: Totals, limit: int) -> dict[str, Any]:
    """Entropy in bits over token ids, and the `limit` tokens with the most total activation (equal ones by id)."""
    ids, inverse, counts = np.unique(context.tokens[firings.positions], return_inverse=True, return_counts=True)
    sums = np.bincount(inverse, weights=firings.values, minlength=len(ids))
    shares = counts / max(1, counts.sum())
    best = np.argsort(-sums, kind="stable")[:limit]
    return {
        "entropy": float(-(shares * np.log2(shares)).sum()) + 0.0 if len(ids) else 0.0,
        "distinct": len(ids),
        "token_ids": ids[best].tolist(),
        "token_counts": counts[best].tolist(),
        "token_means": (sums[best] / counts[best]).tolist(),
        "token_rates": (counts[best] / totals.tokens[ids[best]]).tolist(),
    }


def breakdown_counts(firings: Firings, context: Context, *, totals: Totals) -> dict[str, Any]:
    """Firings by role, corpus label, split and offset, and the corpus label with the highest lift among those with 5 firings or more."""
    counts = {name: np.bincount(codes[firings.positions], minlength=len(names)) for name, (codes, names) in context.breakdowns.items()}
    found: dict[str, Any] = {f"{name}_counts": part.tolist() for name, part in counts.items()}
    found["offset_counts"] = np.bincount(totals.offset_bin[firings.positions], minlength=len(totals.offset_edges) - 1).tolist()
    density = len(firings) / max(1, totals.kept)
    tokens = totals.parts["corpus_label"]
    named = np.array([bool(name) for name in context.labels]) & (counts["corpus_label"] >= min(5, max(1, len(firings))))
    lifts = np.where(named & (tokens > 0), counts["corpus_label"] / np.maximum(tokens, 1) / max(density, 1e-300), 0.0)
    best = int(lifts.argmax()) if lifts.size else 0
    has = bool(lifts.size) and lifts[best] > 0
    return found | {"corpus_label": context.labels[best] if has else "", "lift": float(lifts[best]) if has else 0.0}


def example_columns(firings: Firings, context: Context, *, config: IndexConfig) -> dict[str, Any]:
    """Positions of the top examples and of the draw from each slice, over all firings: a slice that holds one has an example."""
    top = strongest(firings, context, limit=config.top_examples)
    cut = slices(firings.values, n=config.strata)
    where = slice_of(firings.values, cut.edges) if len(firings) else np.zeros(0, np.int64)
    draws = [
        drawn(firings, context, rows=np.flatnonzero(where == i), limit=config.stratum_examples, seed=config.seed) for i in range(len(cut.counts))
    ]
    return {
        "top_positions": firings.positions[top.rows].tolist(),
        "top_duplicates": top.duplicates.tolist(),
        "stratum_edges": cut.edges.tolist(),
        "stratum_counts": cut.counts.tolist(),
        "stratum_sizes": [len(draw.rows) for draw in draws],
        "stratum_positions": [int(position) for draw in draws for position in firings.positions[draw.rows]],
        "stratum_duplicates": [int(n) for draw in draws for n in draw.duplicates],
    }
