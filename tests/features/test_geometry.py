"""The map: planted groups of directions come out as clusters with the names of what they share, and chance is told from it."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from microtome.errors import ConfigError
from microtome.features import FeatureIndex
from microtome.features.geometry import MapConfig, make_map, map_of
from microtome.features.geometry.layout import clustered, laid_out, neighbours_kept
from microtome.features.geometry.naming import named, terms_of
from microtome.features.text import quote
from microtome.shapes import Float, Tensor
from tests.features.planted import planted
from tests.features.small_store import Made

GROUPS, EACH = 4, 20
SMALL = MapConfig(min_cluster=8, perplexity=10, iterations=250)


def grouped(d: int) -> Float[Tensor, "n d"]:
    """Directions around four others that are at right angles, shuffled into the order 0, 1, 2, 3, 0, 1, …"""
    draw = torch.Generator().manual_seed(0)
    centres = torch.linalg.qr(torch.randn(d, GROUPS, generator=draw)).Q.T
    rows = centres.repeat(EACH, 1) + 0.05 * torch.randn(GROUPS * EACH, d, generator=draw)
    return torch.nn.functional.normalize(rows, dim=1)


def test_groups_of_directions_are_clusters_and_neighbours_stay_near() -> None:
    rows = grouped(32)
    places = laid_out(rows, SMALL)
    assert np.abs(places).max() == pytest.approx(1)
    found = clustered(places, SMALL)
    assert sorted(set(found.tolist()) - {-1}) == [0, 1, 2, 3]
    group = np.arange(GROUPS * EACH) % GROUPS
    assert all(len(set(group[found == number].tolist())) == 1 for number in range(4))
    assert (found >= 0).mean() > 0.8
    assert neighbours_kept(rows, places, seed=0) > 0.6
    shuffled = places[np.random.default_rng(0).permutation(len(places))]
    assert neighbours_kept(rows, shuffled, seed=0) == pytest.approx(15 / 79, abs=0.06), "what chance keeps"


def test_small_groups_aside_do_not_make_one_cluster_of_all_the_rest() -> None:
    draw = np.random.default_rng(0)
    mass = draw.normal(0, 1, (600, 2)) + np.repeat(3 * np.stack(np.meshgrid(np.arange(6), np.arange(5)), -1).reshape(-1, 2), 20, 0)
    aside = np.concatenate([draw.normal(0, 0.01, (10, 2)) + np.array([-60, 30 * i]) for i in range(3)])
    found = clustered(np.concatenate([mass, aside]), MapConfig())
    sizes = np.bincount(found[found >= 0])
    assert sizes.max() <= 315
    assert len(sizes) > 10


def test_neighbours_kept_is_one_where_the_map_is_exact() -> None:
    angle = torch.linspace(0, 1.5, 40)
    rows = torch.stack([angle.cos(), angle.sin()], 1)
    assert neighbours_kept(rows, angle[:, None].numpy().repeat(2, 1), seed=0) > 0.97
    assert np.array_equal(laid_out(rows, MapConfig(layout="pca")).shape, (40, 2))


@pytest.fixture(scope="module")
def tokens_of_groups(made: Made, index: FeatureIndex) -> FeatureIndex:
    """Each group's features fire on one token alone, and write alike; two features never fire."""
    ids = np.asarray(made.corpus.tokens)
    keep = index.store.postings.keep()
    often = np.argsort(-np.bincount(ids[keep]), kind="stable").tolist()
    common = [token for token in often if index.store.vocabulary.piece(token).strip()][:GROUPS]
    n = GROUPS * EACH + 2
    dense = np.zeros((len(keep), n), np.float32)
    draw = np.random.default_rng(0)
    for feature in range(GROUPS * EACH):
        dense[:, feature] = (ids == common[feature % GROUPS]) * (1 + draw.random(len(ids)))
    rows = torch.cat([grouped(made.model.d_model), torch.eye(2, made.model.d_model)])
    return planted(made, index, dense, encoders=rows, decoders=rows, name="groups")


def test_a_cluster_is_named_by_the_token_its_features_share(tokens_of_groups: FeatureIndex, made: Made) -> None:
    drawn = make_map(tokens_of_groups, config=SMALL)
    store = tokens_of_groups.store
    assert len(drawn.points.features) == GROUPS * EACH, "what never fires is not on it"
    assert len(drawn.clusters) == GROUPS
    for cluster in drawn.clusters:
        mine = drawn.points.features[drawn.points.cluster == cluster.number]
        tokens = {store.rows.texts["token"][int(each)] for each in mine}
        assert len(tokens) == 1
        assert not cluster.is_weak
        assert quote(tokens.pop().strip().casefold()) in cluster.label
        best = cluster.terms[0]
        assert best.share == pytest.approx(1)
        assert best.score == pytest.approx(best.share * np.log2(best.share / best.overall))
        assert cluster.size == len(mine)
    again = map_of(store)
    assert again is not None
    assert again.id == drawn.id == make_map(tokens_of_groups, config=SMALL).id
    column = store.clusters()
    assert column is not None
    assert (column[-2:] == -1).all()
    number = int(column[0])
    assert tokens_of_groups.select(filter=f"cluster = {number}") == tuple(np.flatnonzero(column == number).tolist())
    view = drawn.view(tokens_of_groups)
    assert len({len(each) for each in (view.x, view.y, view.features, view.cluster, view.density, view.kind, view.site)}) == 1
    assert view.density[0] == pytest.approx(float(store.rows.numbers["density"][view.features[0]]), rel=0.01)


def test_features_put_together_at_random_have_no_name(tokens_of_groups: FeatureIndex) -> None:
    features = np.arange(GROUPS * EACH)
    terms = terms_of(tokens_of_groups.store, features)
    at_random: npt.NDArray[np.int32] = (features // EACH).astype(np.int32)
    places = np.zeros((len(features), 2), np.float32)
    assert all(each.is_weak and each.label == "no common rule" for each in named(terms, places, at_random, seed=3))


def test_a_map_needs_sizes_that_can_be_drawn() -> None:
    with pytest.raises(ConfigError, match="cannot be drawn"):
        MapConfig(perplexity=0)
