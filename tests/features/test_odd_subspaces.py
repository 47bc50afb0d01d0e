"""Dense subspaces: what is planted in two dictionaries is found in both, and taking a subspace out does what the formula says."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.linalg import subspace_angles

from microtome.config import to_dict
from microtome.errors import QueryInvalid, ShapeMismatch
from microtome.features import FeatureIndex
from microtome.features.odd import AblationConfig, dense_ablation, odd_report, stability
from microtome.features.odd.ablation import _Remover
from microtome.features.odd.subspaces import angles, basis, side_by_side, site_columns
from microtome.models import Site
from microtome.shapes import Float, Tensor
from tests.features.planted import planted
from tests.features.small_set import LAYERS, MadeSet
from tests.features.small_store import SITE, Made

N, DENSE_ONES = 40, 3
FEW = AblationConfig(contexts=4, length=24)


def plant(made: Made, index: FeatureIndex, dense: Float[Tensor, "n d"], *, name: str, seed: int) -> FeatureIndex:
    """`N` features, the first of which fire on half of the tokens and write `dense`; the others are rare and write at random."""
    draw, gauss = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    decoders = torch.randn(N, dense.shape[1], generator=gauss)
    decoders[: len(dense)] = dense
    share = np.where(np.arange(N) < len(dense), 0.5, 0.04)
    fires = draw.random((len(index.store.postings.keep()), N)) < share
    encoders = torch.randn(N, dense.shape[1], generator=gauss)
    return planted(made, index, (fires * 1.5).astype(np.float32), encoders=encoders, decoders=decoders, name=name)


def mixed(span: Float[Tensor, "n d"], *, seed: int) -> Float[Tensor, "n d"]:
    """Other vectors of the same span."""
    gauss = torch.Generator().manual_seed(seed)
    return torch.randn(len(span), len(span), generator=gauss) @ span


@pytest.fixture(scope="module")
def shared(made: Made) -> Float[Tensor, "n d"]:
    return torch.randn(DENSE_ONES, made.model.d_model, generator=torch.Generator().manual_seed(7))


@pytest.fixture(scope="module")
def one(made: Made, index: FeatureIndex, shared: Tensor) -> FeatureIndex:
    return plant(made, index, shared, name="seed-a", seed=1)


def test_angles_are_those_of_scipy() -> None:
    gauss = torch.Generator().manual_seed(0)
    a, b = torch.randn(4, 12, generator=gauss), torch.randn(6, 12, generator=gauss)
    a[3] = a[0] - 2 * a[1]
    qa, qb = basis(a), basis(b)
    assert (qa.shape, qb.shape) == ((12, 3), (12, 6))
    assert torch.allclose(qa @ (qa.T @ a.double().T), a.double().T, atol=1e-6)
    wanted = np.cos(subspace_angles(a[:3].double().T.numpy(), b.double().T.numpy()))
    assert angles(qa, qb) == pytest.approx(np.sort(wanted)[::-1])


def test_one_subspace_in_two_dictionaries_is_found_though_no_feature_is_the_same(
    made: Made, *, index: FeatureIndex, one: FeatureIndex, shared: Tensor
) -> None:
    other = plant(made, index, mixed(shared, seed=3), name="seed-b", seed=2)
    found = stability(one, other)
    assert (found.n_dense, found.other_dense, found.rank, found.other_rank) == (3, 3, 3, 3)
    assert found.dense is not None
    assert found.dense.cosines == pytest.approx((1, 1, 1), abs=1e-5)
    assert found.dense.shared == pytest.approx(1, abs=1e-5)
    assert found.dense.single < 0.97
    others, random = found.controls
    assert (others.name, random.name) == ("other features", "random directions")
    assert max(others.high, random.high) < 0.6
    assert random.shared == pytest.approx(DENSE_ONES / made.model.d_model, rel=0.3), "max(p, q) / d"
    assert to_dict(found)


def test_dense_features_at_right_angles_share_nothing(made: Made, *, index: FeatureIndex, one: FeatureIndex, shared: Tensor) -> None:
    outside = torch.linalg.svd(shared, full_matrices=True).Vh[DENSE_ONES : DENSE_ONES + 2]
    found = stability(one, plant(made, index, outside, name="seed-c", seed=4)).dense
    assert found is not None
    assert found.dimension == 2
    assert found.shared == pytest.approx(0, abs=1e-6)


def test_a_comparison_needs_another_index_of_the_same_sites(one: FeatureIndex, layers_index: FeatureIndex) -> None:
    with pytest.raises(QueryInvalid, match="beside itself"):
        stability(one, one)
    with pytest.raises(ShapeMismatch, match=r"different (sites|models)"):
        stability(one, layers_index)


def test_decoders_of_a_cross_layer_set_stand_side_by_side(cross: MadeSet, cross_index: FeatureIndex) -> None:
    store, d = cross_index.store, cross.base.model.d_model
    assert list(site_columns(store)) == [Site("mlp_out", layer) for layer in range(LAYERS)]
    chosen = [0, 30, 70]
    rows = np.zeros((3, LAYERS * d))
    for row, feature in enumerate(chosen):
        place = cross_index.place(feature)
        for site in cross.loaded.members[place.member].writes:
            assert site.layer is not None
            rows[row, site.layer * d : (site.layer + 1) * d] = cross.loaded.members[place.member].direction(place.number, write=site).numpy()
    assert side_by_side(store, chosen).numpy() == pytest.approx(rows)
    report = odd_report(cross_index)
    dense = [each.feature for each in report.dense][:12]
    unit = torch.nn.functional.normalize(side_by_side(store, dense).double(), dim=1)
    assert np.array(report.cosines) == pytest.approx((unit @ unit.T).numpy())
    assert np.diag(report.cosines) == pytest.approx(1)


def test_what_is_removed_is_the_projection_at_the_kept_tokens_alone() -> None:
    gauss = torch.Generator().manual_seed(0)
    x, keep = torch.randn(2, 5, 6, generator=gauss), torch.tensor([False, True, True, False, True])
    q = basis(torch.randn(2, 6, generator=gauss)).float()
    out = _Remover([q], keep)(x)
    assert torch.equal(out[0], x[0])
    assert torch.equal(out[1, ~keep], x[1, ~keep])
    assert (out[1, keep] @ q).abs().max() < 1e-5
    assert torch.allclose(out[1, keep] + (x[1, keep] @ q) @ q.T, x[1, keep], atol=1e-5)


def moments_of(made: Made, index: FeatureIndex) -> npt.NDArray[np.float64]:
    """Eigenvectors of the covariance at the site on all kept tokens, least variance first."""
    rows = torch.cat([made.shards.block(number, SITE).x.double() for number in range(len(made.shards.ranges))])
    return np.linalg.eigh(np.cov(rows[torch.from_numpy(index.store.postings.keep())].numpy().T))[1]


def test_principal_components_planted_as_dense_features_cost_what_they_do(made: Made, index: FeatureIndex) -> None:
    axes = torch.from_numpy(moments_of(made, index)).float()
    heavy = plant(made, index, mixed(axes[:, -DENSE_ONES:].T.contiguous(), seed=5), name="heavy", seed=6)
    light = plant(made, index, mixed(axes[:, :DENSE_ONES].T.contiguous(), seed=5), name="light", seed=6)
    found = {name: dense_ablation(each, made.model, config=replace(FEW, contexts=60)) for name, each in (("heavy", heavy), ("light", light))}
    parts = {name: {each.name: each for each in one.removed} for name, one in found.items() if one is not None}
    dense, leading = parts["heavy"]["dense features"], parts["heavy"]["principal components"]
    assert dense.kl == pytest.approx(leading.kl, rel=0.1)
    assert dense.variance == pytest.approx(leading.variance, rel=0.02)
    assert dense.kl > 2 * parts["light"]["dense features"].kl
    assert parts["light"]["dense features"].variance < parts["light"]["random directions"].variance < leading.variance
    again = dense_ablation(heavy, config=replace(FEW, contexts=60))
    assert again == found["heavy"], "as the catalogue has it"
    assert dense_ablation(heavy, config=replace(FEW, contexts=3)) is None


def test_without_the_whole_space_every_subspace_is_the_same(made: Made, index: FeatureIndex) -> None:
    """The identity: a span of all dimensions leaves nothing, whoever spans it; brute force says what that costs."""
    d = made.model.d_model
    store = index.store
    dense = torch.eye(d)[torch.randperm(d, generator=torch.Generator().manual_seed(1))]
    whole = plant_all(made, index, dense)
    found = dense_ablation(whole, made.model, config=FEW)
    assert found is not None
    assert found.dimensions == {str(SITE): d}
    assert [each.name for each in found.removed] == ["dense features", "random directions", "principal components"]
    assert [each.norm for each in found.removed] == pytest.approx([1.0] * 3)
    assert [each.kl for each in found.removed] == pytest.approx([found.removed[0].kl] * 3, rel=1e-3)
    keep, total, n = store.postings.keep(), 0.0, 0
    starts = [int(s) for s in made.corpus.context_start]
    usable = [(s, min(e, s + FEW.length)) for s, e in pairwise(starts) if keep[s : min(e, s + FEW.length) - 1].any()]
    for start, end in [usable[at] for at in np.unique(np.linspace(0, len(usable) - 1, FEW.contexts).astype(int))]:
        tokens = torch.from_numpy(made.corpus.tokens[start:end].astype(np.int64))[None]
        mask = torch.from_numpy(keep[start:end].copy())
        emptied = made.model.logits(tokens, edit={SITE: lambda x, mask=mask: x * ~mask[None, :, None]})
        plain, changed = (made.model.logits(tokens)[0, :-1][mask[:-1]].log_softmax(-1), emptied[0, :-1][mask[:-1]].log_softmax(-1))
        total += float((changed.exp() * (changed - plain)).sum())
        n += len(plain)
    assert found.tokens == n
    assert found.removed[0].kl == pytest.approx(total / n, rel=1e-3)


def plant_all(made: Made, index: FeatureIndex, dense: Float[Tensor, "n d"]) -> FeatureIndex:
    """An index of nothing but dense features."""
    fires = np.random.default_rng(0).random((len(index.store.postings.keep()), len(dense))) < 0.5
    return planted(made, index, (fires * 1.0).astype(np.float32), encoders=dense.clone(), decoders=dense, name="whole")


def test_an_index_without_dense_features_says_so(made: Made, index: FeatureIndex) -> None:
    with pytest.raises(QueryInvalid, match="is dense"):
        dense_ablation(index, made.model, config=replace(FEW, density=0.999))
