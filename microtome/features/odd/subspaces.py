"""Subspaces that decoder vectors span: a basis, the angles between two of them, and whether two dictionaries have the same dense one.

Sun et al. 2025 ("Dense SAE latents are features, not bugs"): trained from another seed a dictionary has other dense features, but they span the same
subspace. Principal angles (Björck and Golub 1973): cos θ_k = the k-th singular value of QᵃᵀQᵇ, with orthonormal bases Qᵃ and Qᵇ. The share of the
smaller subspace in the larger, Σ cos² θ / min(p, q), is max(p, q) / d for random subspaces of p and q dimensions among d.
"""

from collections.abc import Sequence

import numpy as np
import torch

from microtome.errors import QueryInvalid, ShapeMismatch
from microtome.features.arrays import Array
from microtome.features.index import FeatureIndex
from microtome.features.odd.records import Overlap, Stability
from microtome.features.store import Store
from microtome.features.tables import DENSE
from microtome.models import Site
from microtome.shapes import Float, Tensor

_NEGLIGIBLE = 1e-4
"""A singular value below this share of the largest adds no dimension."""


def side_by_side(store: Store, features: Sequence[int]) -> Float[Tensor, "n width"]:
    """The decoder vectors of some features, those of all sites that the index writes side by side, 0 where a feature does not write."""
    columns = site_columns(store)
    rows = torch.zeros(len(features), max((each.stop for each in columns.values()), default=0))
    for row, feature in enumerate(features):
        for site, vector in store.wiring.writes(feature).items():
            rows[row, columns[site]] = vector
    return rows


def site_columns(store: Store) -> dict[Site, slice]:
    """Where each site that the dictionaries of an index write stands among such columns, in the order of a forward."""
    widths = {site: each.directions(write=site).shape[1] for each in store.members.dictionaries for site in each.writes}
    ends = np.cumsum([widths[site] for site in sorted(widths)]).tolist()
    return {site: slice(end - widths[site], end) for site, end in zip(sorted(widths), ends, strict=True)}


def basis(vectors: Float[Tensor, "n width"]) -> Float[Tensor, "width rank"]:
    """An orthonormal basis of the span of some vectors, each taken at length 1, float64."""
    unit = torch.nn.functional.normalize(vectors.double(), dim=1)
    _, sizes, right = torch.linalg.svd(unit, full_matrices=False)
    return right[: int((sizes > _NEGLIGIBLE * sizes.max().clamp_min(1e-12)).sum())].T.contiguous() if len(sizes) else unit.T[:, :0]


def angles(a: Float[Tensor, "width p"], b: Float[Tensor, "width q"]) -> Array:
    """Cosines of the principal angles between two subspaces given by orthonormal bases, largest first."""
    return torch.linalg.svdvals(a.T @ b).clamp(0, 1).numpy()


def dense_features(store: Store, *, density: float) -> Array:
    """The features of a higher density, ascending."""
    return np.flatnonzero(store.rows.numbers["density"] > density)


def stability(index: FeatureIndex, other: FeatureIndex, *, density: float = DENSE, draws: int = 20, seed: int = 0) -> Stability:
    """Whether two indexes of one model, trained from different seeds say, have the same dense subspace: principal angles between the two.

    Both dictionaries must write the same sites. Controls draw `draws` times: as many features that fire but are not dense, and random subspaces of
    the same dimensions. Raises `ShapeMismatch` (another model, other sites), `QueryInvalid` (the index itself).
    """
    one, two = index.store, other.store
    _check(one, two)
    dense = [dense_features(store, density=density) for store in (one, two)]
    spans = [basis(side_by_side(store, features.tolist())) for store, features in zip((one, two), dense, strict=True)]
    found: Overlap | None = None
    controls: list[Overlap] = []
    if all(map(len, dense)):
        found = _overlap("dense features", [angles(*spans)], single=_single(two, side_by_side(one, dense[0].tolist())))
        pools = [np.flatnonzero((store.rows.numbers["count"] > 0) & (store.rows.numbers["density"] <= density)) for store in (one, two)]
        controls = _controls((one, two), pools, dense, draws=draws, seed=seed)
    return Stability(
        index=one.name,
        other=two.name,
        n_dense=len(dense[0]),
        other_dense=len(dense[1]),
        rank=spans[0].shape[1],
        other_rank=spans[1].shape[1],
        width=len(spans[0]),
        dense=found,
        controls=tuple(controls),
    )


def _controls(stores: tuple[Store, Store], pools: Sequence[Array], dense: Sequence[Array], *, draws: int, seed: int) -> list[Overlap]:
    """As many features of each pool, and random subspaces of as many dimensions."""
    draw, gauss = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    made: list[Overlap] = []
    if all(map(len, pools)):
        sizes = [min(len(pool), len(features)) for pool, features in zip(pools, dense, strict=True)]
        rows = [
            [side_by_side(store, draw.choice(pool, size, replace=False).tolist()) for store, pool, size in zip(stores, pools, sizes, strict=True)]
            for _ in range(draws)
        ]
        others = [angles(*map(basis, pair)) for pair in rows]
        made.append(_overlap("other features", others, single=_single(stores[1], torch.cat([pair[0] for pair in rows]))))
    width = site_columns(stores[0]).popitem()[1].stop
    drawn = [[torch.randn(len(features), width, generator=gauss) for features in dense] for _ in range(draws)]
    randoms = [angles(*map(basis, pair)) for pair in drawn]
    made.append(_overlap("random directions", randoms, single=_single(stores[1], torch.cat([pair[0] for pair in drawn]))))
    return made


def _overlap(name: str, draws: Sequence[Array], *, single: float) -> Overlap:
    least = min(map(len, draws))
    shared = [float((each**2).mean()) for each in draws]
    return Overlap(
        name=name,
        draws=len(draws),
        dimension=least,
        cosines=tuple(np.mean([each[:least] for each in draws], 0).tolist()),
        shared=float(np.mean(shared)),
        low=min(shared),
        high=max(shared),
        single=single,
    )


def _single(store: Store, rows: Float[Tensor, "n width"]) -> float:
    """Mean over the rows of the largest cosine with the decoder vectors of any one feature of an index."""
    unit, columns = torch.nn.functional.normalize(rows, dim=1), site_columns(store)
    best = torch.full((len(rows),), -1.0)
    for dictionary in store.members.dictionaries:
        dots, squares = torch.zeros(len(rows), dictionary.d_dict), torch.zeros(dictionary.d_dict)
        for site in dictionary.writes:
            vectors = dictionary.directions(write=site).detach().float().cpu()
            dots += unit[:, columns[site]] @ vectors.T
            squares += vectors.square().sum(1)
        best = torch.maximum(best, (dots / squares.sqrt().clamp_min(1e-12)).amax(1))
    return float(best.double().mean())


def _check(one: Store, two: Store) -> None:
    if one.id == two.id:
        do = "Name the index of another dictionary, trained from another seed say."
        raise QueryInvalid("an index is as stable as can be beside itself.", got=two.name, wanted="another index", do=do)
    if one.inputs["model"] != two.inputs["model"]:
        do = "Index both dictionaries with the same model."
        raise ShapeMismatch("the two indexes are of different models.", got=two.inputs["model"], wanted=one.inputs["model"], do=do)
    if site_columns(one) != site_columns(two):
        got, wanted = (", ".join(map(str, site_columns(each))) for each in (two, one))
        raise ShapeMismatch("the two dictionaries write different sites.", got=got, wanted=wanted, do="Compare dictionaries of the same sites.")
