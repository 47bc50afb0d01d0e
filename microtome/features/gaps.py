"""Ascending positions as the gaps between them, seven bits a byte, the lowest first; all but a gap's last byte have the eighth bit set (LEB128)."""

import numpy as np

from microtome.features.arrays import Array

_BITS, _MORE = 7, 128
_MOST = 5
"""Bytes of a gap below 2^35."""


def to_gaps(positions: Array, *, starts: Array) -> tuple[Array, Array]:
    """Several ascending runs, run i being positions[starts[i] : starts[i + 1]]: their bytes, and where those of each run begin.

    A run's first gap is its first position.
    """
    gaps = np.diff(positions.astype(np.int64), prepend=0)
    firsts = starts[:-1][np.diff(starts) > 0]
    gaps[firsts] = positions[firsts]
    sizes = np.ones(len(gaps), np.int64)
    for n in range(1, _MOST):
        sizes += gaps >= 1 << _BITS * n
    ends = np.concatenate([[0], np.cumsum(sizes)])
    packed = np.empty(int(ends[-1]), np.uint8)
    for n in range(_MOST):
        has = np.flatnonzero(sizes > n)
        packed[ends[has] + n] = gaps[has] >> _BITS * n & _MORE - 1 | np.where(sizes[has] > n + 1, _MORE, 0)
    return packed, ends[starts]


def to_positions(packed: Array) -> Array:
    """One run's positions, int64 ascending."""
    ends = np.flatnonzero(packed < _MORE) + 1
    if not len(ends):
        return np.empty(0, np.int64)
    firsts = np.concatenate([[0], ends[:-1]])
    places = np.arange(len(packed)) - np.repeat(firsts, ends - firsts)
    return np.cumsum(np.add.reduceat((packed & np.uint8(_MORE - 1)).astype(np.int64) << _BITS * places, firsts))
