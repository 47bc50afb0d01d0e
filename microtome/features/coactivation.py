"""What fires with a component, summed over the tokens where it fires: one walk over their rows, whatever the number of features.

Compiled (`join.c`) where it can be; else numpy computes the same, to the bit where all pairs fit in one piece.
"""

import ctypes
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from microtome.compiled import INTEGER, POINTER, Library, spread
from microtome.features.arrays import Array
from microtome.features.postings import ForwardRows, Postings

_PAIRS = 1 << 20
"""Pairs of a firing of the component and a firing of another feature at a time."""
_LINE = 64
JOIN = Library(
    "join",
    home=Path(__file__).parent,
    sources=("join.c",),
    arguments={"join": (POINTER, POINTER, POINTER, INTEGER, INTEGER, INTEGER, POINTER)},
    failures={"join": IndexError},
)


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
    forward = postings.forward(positions) if members else ()
    return sums_of(forward, weights, n_features=postings.d_dict, members=members, n_members=n_members, scaled=scaled)


def sums_of(parts: Iterable[tuple[Array, ForwardRows]], weights: Array, *, n_features: int, members: range, n_members: int, scaled: bool) -> Sums:
    """The same over rows that come in parts, each with the places of its weights."""
    added = _compiled if JOIN.available() else _plain
    found = _on_lines(n_features)
    for here, forward in parts:
        added(forward, weights[here].astype(np.float64), found=found, members=members, n_members=n_members, scaled=scaled)
    return Sums(product=found[:, 0], gate=found[:, 1], count=found[:, 2])


def _on_lines(n: int) -> Array:
    """Zeros [n, 4], no row over two cache lines."""
    raw = np.zeros(4 * n + _LINE // 8)
    skipped = -raw.ctypes.data % _LINE // 8
    return raw[skipped : skipped + 4 * n].reshape(n, 4)


class _Forward(ctypes.Structure):
    """As in join.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("indptr", "ids", "values", "bounds", "scales")),
        *((name, ctypes.c_int64) for name in ("n_members", "wide_ids", "wide_values", "wide_bounds", "nnz", "n_features")),
    )


def _compiled(forward: ForwardRows, weights: Array, *, found: Array, members: range, n_members: int, scaled: bool) -> None:
    """Each thread adds the features of some members, so that no two write to the same."""
    arrays, rows = forward.arrays, np.ascontiguousarray(forward.rows, np.int64)
    there = {name: name in arrays and (name != "scales" or scaled) for name in ("bounds", "scales")}
    view = _Forward(n_members=n_members, nnz=len(arrays["ids"]), n_features=len(found))
    for name in ("indptr", "ids", "values", *(name for name, is_there in there.items() if is_there)):
        setattr(view, name, arrays[name].ctypes.data)
    for name in ("ids", "values", *(["bounds"] if there["bounds"] else [])):
        setattr(view, f"wide_{name}", int(arrays[name].itemsize == 4))

    def part(first: int, last: int) -> None:
        JOIN.call("join", ctypes.byref(view), rows, weights, len(rows), members.start + first, members.start + last, found)

    spread(part, len(members), grain=1, parts_a_worker=1)


def _plain(forward: ForwardRows, weights: Array, *, found: Array, members: range, n_members: int, scaled: bool) -> None:
    ids, values = forward.arrays["ids"], forward.arrays["values"]
    first, last = forward.runs(members, n_members=n_members)
    scales = forward.scales(members) if scaled else None
    mass = weights[:, None]
    if scales is None:
        first, last = first[:, :1], last[:, -1:]
    else:
        mass = mass * scales
    lengths = last - first
    n = len(found)
    for low, high in _chunks(lengths.sum(1)):
        size = lengths[low:high].ravel()
        total = int(size.sum())
        ends = np.cumsum(size)
        at = np.repeat(first[low:high].ravel() - (ends - size), size) + np.arange(total)
        who = ids[at].astype(np.intp)
        weight = np.repeat(mass[low:high].ravel(), size)
        found[:, 0] += np.bincount(who, weights=weight * values[at].astype(np.float32), minlength=n)
        found[:, 1] += np.bincount(who, weights=weight, minlength=n)
        found[:, 2] += np.bincount(who, minlength=n)


def _chunks(lengths: Array) -> list[tuple[int, int]]:
    """Consecutive ranges of rows with about as many pairs as are taken at a time."""
    piece = np.cumsum(lengths) // _PAIRS
    cuts = [0, *(np.flatnonzero(np.diff(piece)) + 1).tolist(), len(lengths)]
    return [(low, high) for low, high in pairwise(cuts) if low < high]
