"""What fires with a component, summed over the tokens where it fires: one walk over their rows, whatever the number of features."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from microtome.features.arrays import Array
from microtome.features.postings import Postings

_PAIRS = 1 << 20
"""Pairs of a firing of the component and a firing of another feature at a time."""


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Sums over the tokens t where a component c fires, for every feature f; w_t is what the tokens were weighted with. float64 [features]."""

    product: Array
    """sum w_t a_f(t)."""
    gate: Array
    """sum w_t 1(a_f(t) > 0)."""
    count: Array
    """Tokens on which both fire."""


def sums(postings: Postings, positions: Array, weights: Array, *, members: range, n_members: int, scaled: bool) -> Sums:
    """Walk over the rows of ascending `positions`, as far as they hold features of consecutive members.

    `scaled` multiplies the weight of a token by the norm's scale before the member at hand, for what those members read.
    """
    n = postings.d_dict
    product, gate, count = np.zeros(n), np.zeros(n), np.zeros(n)
    for here, forward in postings.forward(positions) if members else ():
        ids, values = forward.arrays["ids"], forward.arrays["values"]
        first, last = forward.runs(members, n_members=n_members)
        scales = forward.scales(members) if scaled else None
        if scales is None:
            first, last = first[:, :1], last[:, -1:]
            mass = weights[here].astype(np.float64)[:, None]
        else:
            mass = weights[here].astype(np.float64)[:, None] * scales
        lengths = last - first
        for low, high in _chunks(lengths.sum(1)):
            size = lengths[low:high].ravel()
            total = int(size.sum())
            ends = np.cumsum(size)
            at = np.repeat(first[low:high].ravel() - (ends - size), size) + np.arange(total)
            who = ids[at].astype(np.intp)
            weight = np.repeat(mass[low:high].ravel(), size)
            product += np.bincount(who, weights=weight * values[at].astype(np.float32), minlength=n)
            gate += np.bincount(who, weights=weight, minlength=n)
            count += np.bincount(who, minlength=n)
    return Sums(product=product, gate=gate, count=count)


def _chunks(lengths: Array) -> list[tuple[int, int]]:
    """Consecutive ranges of rows with about as many pairs as are taken at a time."""
    piece = np.cumsum(lengths) // _PAIRS
    cuts = [0, *(np.flatnonzero(np.diff(piece)) + 1).tolist(), len(lengths)]
    return [(low, high) for low, high in pairwise(cuts) if low < high]
