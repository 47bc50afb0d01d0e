"""Pareto fronts of activation against cross-entropy."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Point:
    """A prompt that was tried."""

    tokens: tuple[int, ...]
    share: float
    """Activation over the largest in the store."""
    cross_entropy: float
    """Mean, in nats a token."""
    iteration: int


def front(points: Iterable[Point]) -> tuple[Point, ...]:
    """Those that no other beats: share above 0, and every one before it (stronger) is less fluent. Strongest first; of equal ones the earliest."""
    ordered = sorted((point for point in points if point.share > 0), key=lambda p: (-p.share, p.cross_entropy, p.iteration, p.tokens))
    kept: list[Point] = []
    for point in ordered:
        if not kept or point.cross_entropy < kept[-1].cross_entropy:
            kept.append(point)
    return tuple(kept)


def hypervolume(points: Iterable[Point], *, worst: float) -> float:
    """Area that a front dominates between share 0 and its best, cross-entropy `worst` and its best (Zitzler and Thiele 1998)."""
    area, before = 0.0, worst
    for point in front(points):  # each adds the strip of cross-entropies that no stronger one reaches
        if point.cross_entropy < before:
            area += point.share * (before - point.cross_entropy)
            before = point.cross_entropy
    return area


def best_within(points: Iterable[Point], *, cross_entropy: float) -> float | None:
    """The largest share among points of at most this cross-entropy; None where there is none."""
    return max((point.share for point in points if point.cross_entropy <= cross_entropy), default=None)
