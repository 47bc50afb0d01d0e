"""Relations against brute force, and against planted features: a split pair, an absorbed one, the same dictionary permuted."""

import numpy as np
import numpy.typing as npt
import pytest

from microtome.artifacts import Draft
from microtome.dictionaries import SAE, save
from microtome.errors import ShapeMismatch
from microtome.features import FeatureIndex, build_index
from microtome.features import matches as matching
from microtome.models import tiny
from tests.features.small_set import LAYERS, D, MadeSet
from tests.features.small_store import CONFIG, D_DICT, SITE, Made, random_sae

Matrix = npt.NDArray[np.float64]
SHUFFLE = np.random.default_rng(3).permutation(D_DICT)


def test_both_lists_of_neighbours_equal_all_cosines(index: FeatureIndex, dense: Matrix) -> None:
    sae = random_sae(index.store.members.dictionaries[0].d_in)
    encoder, decoder = (_cosines(rows.double().numpy()) for rows in (sae.encoder_directions(), sae.directions()))
    together = (dense > 0).astype(float).T @ (dense > 0)
    for feature in (0, 7, 62):
        found = index.alike(feature, limit=D_DICT)
        for name, values in (("encoder", encoder), ("decoder", decoder)):
            listed = getattr(found, name)
            assert sorted(each.feature for each in listed) == [i for i in range(D_DICT) if i != feature]
            assert [each.feature for each in listed[:5]] == [i for i in np.argsort(-values[feature]) if i != feature][:5]
            for each in listed:
                assert (each.encoder, each.decoder) == (
                    pytest.approx(encoder[feature, each.feature], abs=1e-5),
                    pytest.approx(decoder[feature, each.feature], abs=1e-5),
                )
                assert each.together == together[feature, each.feature]


def _cosines(rows: Matrix) -> Matrix:
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit @ unit.T


def test_correlations_across_layers_equal_brute_force(layers: MadeSet, layers_index: FeatureIndex) -> None:
    keep = layers_index.store.postings.keep()
    a = layers.dense(keep)[keep].astype(np.float64)
    with np.errstate(invalid="ignore"):
        r: Matrix = np.nan_to_num(np.asarray(np.corrcoef(a.T)))
    for feature in (0, 30, 71):
        found = layers_index.across(feature, limit=LAYERS * D)
        others = [i for i in range(LAYERS * D) if i // D != feature // D]
        wanted = {i: r[feature, i] for i in others if r[feature, i] > 1e-9}
        assert {each.feature: each.correlation for each in found.by_correlation} == pytest.approx(wanted, abs=1e-5)
        assert all(each.feature // D != feature // D for each in found.by_cosine)
        values = [each.correlation or 0.0 for each in found.by_correlation]
        assert values == sorted(values, reverse=True)
        assert found.n_tokens == keep.sum()


@pytest.fixture(scope="module")
def permuted(made: Made) -> FeatureIndex:
    """The same dictionary with its features in another order."""
    sae = random_sae(made.model.width(SITE))
    weights = {"W_enc": sae.W_enc[SHUFFLE], "W_dec": sae.W_dec[SHUFFLE], "b_enc": sae.b_enc[SHUFFLE], "b_dec": sae.b_dec}
    place = made.workspace.place("dictionary", "permuted")
    with Draft.open(place, "dictionary", config={}, inputs={"shards": made.shards.id}) as draft:
        save(SAE(site=sae.reads, nonlinearity=sae.nonlinearity, weights=weights, input_scale=sae.input_scale), draft)
        draft.finish()
    out = made.workspace.place("index", "permuted")
    return build_index(place, made.shards, corpus=made.corpus, model=made.model, out=out, config=CONFIG)


def test_every_feature_is_found_again_in_a_permuted_dictionary_and_moved_along_it_is_not(index: FeatureIndex, permuted: FeatureIndex) -> None:
    back = np.argsort(SHUFFLE)
    alive = np.flatnonzero(index.store.rows.numbers["count"] >= 20)
    assert len(alive) > 10
    for feature in alive.tolist():
        found = index.match(feature, permuted, limit=3)
        best, nearest = found.by_correlation[0], found.by_cosine[0]
        assert (best.feature, nearest.feature) == (back[feature], back[feature])
        assert (best.correlation, best.cosine) == (pytest.approx(1.0, abs=1e-3), pytest.approx(1.0, abs=1e-5))
        assert found.is_mutual is True
        assert found.null is not None
        assert found.null < 0.9


def test_tokens_that_only_one_store_keeps_take_no_part(index: FeatureIndex, permuted: FeatureIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """Correlations over the shared tokens alone, where the two masks differ."""
    keep = permuted.store.postings.keep()
    less = keep.copy()
    less[np.flatnonzero(keep)[::3]] = False
    feature = int(index.store.rows.numbers["count"].argmax())
    monkeypatch.setattr(index.store.postings, "keep", lambda: less)
    shared = matching._shared(index.store, permuted.store)  # pyright: ignore[reportPrivateUsage]  # the part under test
    dense = np.zeros((len(keep), D_DICT))
    for each in range(D_DICT):
        firings = permuted.store.postings.feature(each)
        dense[firings.positions, each] = firings.values
    np.testing.assert_allclose(shared.total, dense[less].sum(0), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(shared.square, (dense[less] ** 2).sum(0), rtol=1e-5, atol=1e-4)
    mine = np.zeros(len(keep))
    firings = index.store.postings.feature(feature)
    mine[firings.positions] = firings.values
    best = index.match(feature, permuted, limit=1).by_correlation[0]
    assert best.correlation == pytest.approx(np.corrcoef(mine[less], dense[less][:, best.feature])[0, 1], abs=1e-5)


def test_a_dead_feature_matches_nothing_and_another_model_is_refused(
    index: FeatureIndex, permuted: FeatureIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = index.match(63, permuted)
    assert (found.by_correlation, found.is_mutual) == ((), None)
    assert found.by_cosine[0].feature == np.argsort(SHUFFLE)[63]
    foreign = permuted.store.inputs | {"model": tiny("llama", seed=4).fingerprint}
    ours = dict(index.store.inputs)
    monkeypatch.setattr(type(index.store), "inputs", property(lambda store: foreign if store.id == permuted.id else ours))
    with pytest.raises(ShapeMismatch, match="different models"):
        index.match(0, permuted)
