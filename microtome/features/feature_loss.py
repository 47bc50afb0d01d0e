"""How surprised the model is where a feature fires: a feature's share of the losses of the corpus."""

import math
from dataclasses import dataclass

import numpy as np

from microtome.features.arrays import Array
from microtome.features.examples import slice_of
from microtome.features.losses import Losses
from microtome.features.store import Store


@dataclass(frozen=True, kw_only=True)
class MeanLoss:
    """A mean cross-entropy in nats with its 95 % interval, clustered by document."""

    mean: float
    low: float
    high: float
    n: int
    """Tokens."""


@dataclass(frozen=True, kw_only=True)
class SliceLoss:
    """The same for one slice of the firings, by activation."""

    low: float
    """Activations in this slice are ≥ low …"""
    high: float
    """… and < high."""
    here: MeanLoss | None
    after: MeanLoss | None


@dataclass(frozen=True, kw_only=True)
class FeatureLoss:
    """How well the model predicts where a feature fires."""

    index: str
    feature: int
    here: MeanLoss | None
    """−log p of the tokens that it fires on: was the token itself a surprise? None where none can be predicted."""
    after: MeanLoss | None
    """−log p of the tokens that follow: does the model know what comes next?"""
    store_here: float
    """The same over all kept tokens of the store …"""
    store_after: float
    """… and over what follows them."""
    slices: tuple[SliceLoss, ...]
    """Strongest slice first."""


def feature_loss(store: Store, losses: Losses, feature: int) -> FeatureLoss:
    """Means over all firings of a feature, and by slice."""
    firings = store.postings.feature(feature)
    edges = np.array(store.rows.row(feature)["stratum_edges"], np.float32)
    which = slice_of(firings.values, edges) if len(firings) else np.zeros(0, np.int64)
    docs = store.corpus.doc_of(firings.positions)

    def both(rows: Array) -> tuple[MeanLoss | None, MeanLoss | None]:
        at = firings.positions[rows]
        return _mean(losses.here[at], docs[rows]), _mean(losses.after[at], docs[rows])

    here, after = both(np.arange(len(firings)))
    slices: list[SliceLoss] = []
    for i in reversed(range(max(0, len(edges) - 1))):
        own, following = both(np.flatnonzero(which == i))
        slices.append(SliceLoss(low=float(edges[i]), high=float(edges[i + 1]), here=own, after=following))
    means = store.mean_losses
    return FeatureLoss(index=store.name, feature=feature, here=here, after=after, store_here=means[0], store_after=means[1], slices=tuple(slices))


def _mean(values: Array, docs: Array) -> MeanLoss | None:
    """The mean of what is known, with the normal interval of a ratio over documents (Cochran 1977, ratio estimator)."""
    known = np.isfinite(values)
    n = int(known.sum())
    if not n:
        return None
    each, clusters = values[known].astype(np.float64), docs[known]
    mean = float(each.mean())
    _, which = np.unique(clusters, return_inverse=True)
    rest = np.bincount(which, weights=each - mean)
    m = len(rest)
    half = 1.96 * math.sqrt(float(np.square(rest).sum()) * m / max(1, m - 1)) / n if m > 1 else math.inf
    return MeanLoss(mean=mean, low=max(0.0, mean - half) if m > 1 else 0.0, high=mean + half if m > 1 else float(each.max()), n=n)
