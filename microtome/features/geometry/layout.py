"""Where the features lie: decoder directions in two dimensions, and how much of their neighbourhoods is left there.

t-SNE (van der Maaten and Hinton 2008) in openTSNE's interpolation (Linderman et al. 2019), from the exact nearest neighbours by cosine.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from microtome.errors import DependencyMissing
from microtome.features.arrays import Array
from microtome.features.geometry.config import MapConfig
from microtome.features.output import output_directions
from microtome.features.store import Store
from microtome.shapes import Float, Tensor

NEIGHBOURS = 15
_JUDGED = 1000
_BLOCK = 1024
_EARLY = 250
"""Iterations in which neighbours attract each other twelvefold."""
_STEP = 50
_MANY = 5000
"""From so many points on the interpolation is faster than the tree."""

Tell = Callable[[float, float], None]
"""Hears how far the layout is: done, of all."""


class Near(NamedTuple):
    """The nearest rows of each row, itself left out."""

    ids: Array
    """int64 [n, k]."""
    distances: Array
    """Euclidean between the unit rows, float64 [n, k], ascending."""


def directions(store: Store, features: Array) -> Float[Tensor, "n d_model"]:
    """What one unit of each feature adds to the residual stream in all, at length 1, so that distance says cosine."""
    found = torch.cat([output_directions(each) for each in store.members.dictionaries])
    return torch.nn.functional.normalize(found[torch.from_numpy(features)], dim=1)


def laid_out(rows: Float[Tensor, "n d_model"], config: MapConfig, *, tell: Tell = lambda done, total: None) -> Array:
    """Two coordinates a row, float32, the middle at 0 and the farthest at distance 1 along an axis. Raises `DependencyMissing`."""
    start = _projected(rows, seed=config.seed)
    found = start if config.layout == "pca" or len(rows) < 5 else _tsne(rows, start, config, tell=tell)
    found = found - (found.max(0) + found.min(0)) / 2
    return (found / max(float(np.abs(found).max()), 1e-12)).astype(np.float32)


def _projected(rows: Float[Tensor, "n d_model"], *, seed: int) -> Array:
    """The first two principal components, float64."""
    few = min(2, *rows.shape)
    found = _packages().PCA(n_components=few, random_state=seed).fit_transform(rows.double().numpy())
    return np.pad(found, ((0, 0), (0, 2 - few)))


def _tsne(rows: Float[Tensor, "n d_model"], start: Array, config: MapConfig, *, tell: Tell) -> Array:
    packages = _packages()
    perplexity = min(config.perplexity, (len(rows) - 1) / 3)
    total = _EARLY + config.iterations
    near = nearest(rows, k=max(1, min(len(rows) - 1, int(3 * perplexity))))
    known = packages.PrecomputedNeighbors(near.ids, near.distances)
    pull = packages.PerplexityBasedNN(knn_index=known, perplexity=perplexity, n_jobs=1)
    spread = start / max(float(start[:, 0].std()), 1e-12) * 1e-4

    method = "fft" if len(rows) > _MANY else "bh"
    made = packages.TSNEEmbedding(spread, pull, negative_gradient_method=method, n_jobs=1, random_state=config.seed)
    for done in range(0, total, _STEP):
        early = done < _EARLY
        made = made.optimize(min(_STEP, total - done), exaggeration=12 if early else None, momentum=0.5 if early else 0.8)
        tell(min(done + _STEP, total), total)
    return np.asarray(made, dtype=np.float64)


def nearest(rows: Float[Tensor, "n d_model"], *, k: int) -> Near:
    """The `k` rows with the largest cosine to each row, exactly."""
    ids: list[Tensor] = []
    distances: list[Tensor] = []
    for start in range(0, len(rows), _BLOCK):
        cosines = rows[start : start + _BLOCK] @ rows.T
        own = torch.arange(len(cosines))
        cosines[own, own + start] = -torch.inf
        value, which = cosines.topk(k, 1)
        ids.append(which)
        distances.append((2 - 2 * value.double()).clamp_min(0).sqrt())
    return Near(torch.cat(ids).numpy(), torch.cat(distances).numpy())


def clustered(places: Array, config: MapConfig) -> Array:
    """The cluster of each point by HDBSCAN on the map, int32, the largest cluster 0, −1 for none. Raises `DependencyMissing`.

    None holds more than half of the map: where a few small groups lie aside, all the rest would otherwise be one cluster, which says nothing.
    """
    least = config.min_cluster or max(8, len(places) // 1000)
    if len(places) <= max(least, config.min_samples):
        return np.full(len(places), -1, np.int32)
    settings = {"min_cluster_size": max(2, least), "max_cluster_size": max(2, least, len(places) // 2), "min_samples": config.min_samples}
    found = _packages().HDBSCAN(**settings, copy=True).fit_predict(places.astype(np.float64))
    sizes = np.bincount(found[found >= 0], minlength=found.max(initial=-1) + 1)
    rank = np.empty(len(sizes) + 1, np.int32)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes), dtype=np.int32)
    rank[-1] = -1
    return rank[found]


def neighbours_kept(rows: Float[Tensor, "n d_model"], places: Array, *, seed: int) -> float:
    """Of the 15 rows with the largest cosine, the share that is among the 15 nearest places; mean over at most 1,000 rows."""
    k = min(NEIGHBOURS, len(rows) - 1)
    if k < 1:
        return 0.0
    judged = torch.from_numpy(np.random.default_rng(seed).permutation(len(rows))[:_JUDGED])
    flat = torch.from_numpy(places)
    kept = 0
    for some in judged.split(256):
        own = torch.arange(len(some)), some
        cosines = rows[some] @ rows.T
        cosines[own] = -torch.inf
        distances = torch.cdist(flat[some], flat)
        distances[own] = torch.inf
        near, close = cosines.topk(k, 1).indices, distances.topk(k, 1, largest=False).indices
        kept += int((near[:, :, None] == close[:, None, :]).any(2).sum())
    return kept / (k * len(judged))


class _Packages(NamedTuple):
    HDBSCAN: Any
    PCA: Any
    PerplexityBasedNN: Any
    PrecomputedNeighbors: Any
    TSNEEmbedding: Any


def _packages() -> _Packages:
    try:
        from openTSNE import TSNEEmbedding
        from openTSNE.affinity import PerplexityBasedNN
        from openTSNE.nearest_neighbors import PrecomputedNeighbors
        from sklearn.cluster import HDBSCAN
        from sklearn.decomposition import PCA
    except ImportError as error:
        what, do = "maps need scikit-learn and openTSNE.", "Install them: pip install 'microtome[map]'."
        raise DependencyMissing(what, got=str(error), wanted="scikit-learn >= 1.6, openTSNE >= 1.0", do=do) from error
    return _Packages(HDBSCAN, PCA, PerplexityBasedNN, PrecomputedNeighbors, TSNEEmbedding)
