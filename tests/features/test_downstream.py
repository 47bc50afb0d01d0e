"""ERA and TWERA against brute force over all pairs, and the identities that they keep."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from microtome.dictionaries import Transcoder
from microtome.errors import FeatureNotFound, QueryInvalid, ShapeMismatch
from microtome.features import FeatureIndex, coactivation
from microtome.features.downstream import asked, downstream_scores, upstream_scores
from microtome.features.links import Link
from microtome.models import Site, tiny
from tests.features.small_set import LAYERS, SCALED, D, MadeSet, make_set
from tests.features.small_store import Made

Matrix = npt.NDArray[np.float64]
F = LAYERS * D


def _scales(made: MadeSet) -> Matrix:
    """The norm's scale of every token before each layer's MLP, from the weights of the model: 1 / sqrt(mean r² + eps)."""
    blocks: Any = made.base.model.hf.model.layers
    columns: list[Matrix] = []
    for layer in range(LAYERS):
        r = made.rows(Site("resid_mid", layer)).astype(np.float64)
        columns.append(1 / np.sqrt((r**2).mean(1) + blocks[layer].post_attention_layernorm.variance_epsilon))
    return np.stack(columns, 1)


def _weights(made: MadeSet) -> Matrix:
    """V of all pairs, [source, target], term by term."""
    blocks: Any = made.base.model.hf.model.layers
    found = np.zeros((F, F))
    for low, source in enumerate(made.loaded.members):
        for high, target in enumerate(made.loaded.members):
            assert isinstance(source, Transcoder)
            assert isinstance(target, Transcoder)
            gain = blocks[high].post_attention_layernorm.weight.double()
            encoder = target.W_enc.double() * target.input_scale * gain
            for write in source.writes:
                if write.layer is not None and write.layer < high:
                    part = source.directions(write=write).double() @ encoder.T
                    found[low * D : (low + 1) * D, high * D : (high + 1) * D] += part.numpy()
    return found


def _twera(made: MadeSet, a: Matrix) -> Matrix:
    """sum_t a_j a_i s_j / sum_t a_j · V, [source, target]."""
    scaled = a * np.repeat(_scales(made), D, 1)
    total = a.sum(0)
    return np.divide(a.T @ scaled, total, out=np.zeros((F, F)), where=total > 0) * _weights(made)


def _era(made: MadeSet, a: Matrix, *, kept: int) -> Matrix:
    gate = (a > 0) * np.repeat(_scales(made), D, 1)
    return a.T @ gate / kept * _weights(made)


@pytest.mark.parametrize("kind", ["layers", "cross"])
def test_all_pairs_equal_brute_force(kind: str, request: pytest.FixtureRequest) -> None:
    made, index = request.getfixturevalue(kind), request.getfixturevalue(f"{kind}_index")
    keep = index.store.postings.keep()
    a = made.dense(keep).astype(np.float64)
    twera, era, together = _twera(made, a), _era(made, a, kept=int(keep.sum())), (a > 0).astype(float).T @ (a > 0)
    assert np.count_nonzero(twera) > F
    for feature in range(F):
        down = downstream_scores(index.store, asked(index.store, feature), feature)
        up = upstream_scores(index.store, asked(index.store, feature), feature)
        layer = feature // D
        assert (down.reached, up.reached) == (list(range(layer + 1, LAYERS)), list(range(layer)))
        np.testing.assert_allclose(down.twera, twera[feature], rtol=2e-3, atol=1e-5)
        np.testing.assert_allclose(down.era, era[feature], rtol=2e-3, atol=1e-6)
        np.testing.assert_allclose(up.twera, twera[:, feature], rtol=2e-3, atol=1e-5)
        np.testing.assert_allclose(up.era, era[:, feature], rtol=2e-3, atol=1e-6)
        np.testing.assert_array_equal(down.count[(layer + 1) * D :], together[feature, (layer + 1) * D :])
        np.testing.assert_array_equal(up.count[: layer * D], together[feature, : layer * D])


def test_twera_is_the_virtual_weight_times_the_activation_weighted_mean(layers: MadeSet, layers_index: FeatureIndex) -> None:
    keep = layers_index.store.postings.keep()
    a, scale = layers.dense(keep).astype(np.float64), _scales(layers)
    links = layers_index.downstream(2, limit=1000)
    for link in (*links.promotes, *links.suppresses):
        mean = np.average(a[:, 2] * scale[:, link.feature // D], weights=a[:, link.feature])
        assert link.twera == pytest.approx(link.weight * mean, rel=1e-3)


def test_lists_are_ordered_and_hold_every_pair_once(layers_index: FeatureIndex) -> None:
    links = layers_index.downstream(2, limit=1000)
    raised, lowered = [link.twera for link in links.promotes], [link.twera for link in links.suppresses]
    assert raised == sorted(raised, reverse=True)
    assert lowered == sorted(lowered)
    assert min(raised) > 0 > max(lowered)
    scores = downstream_scores(layers_index.store, asked(layers_index.store, 2), 2)
    assert len(raised) + len(lowered) == np.count_nonzero(scores.twera)
    short = layers_index.downstream(2, limit=3)
    assert short.promotes == links.promotes[:3]
    assert short.suppresses == links.suppresses[:3]
    assert (links.way, links.scale, links.n_reached, links.n_tokens) == ("downstream", "measured", 2 * D, len(layers_index.store.postings.feature(2)))


def test_up_and_down_tell_the_same_of_a_pair(layers_index: FeatureIndex) -> None:
    down = layers_index.downstream(3, limit=1000)
    assert down.promotes
    for link in down.promotes:
        back = [each for each in layers_index.upstream(link.feature, limit=1000).promotes if each.feature == 3]
        assert [(each.twera, each.era, each.count) for each in back] == [
            (pytest.approx(link.twera, rel=1e-4), pytest.approx(link.era, rel=1e-4), link.count)
        ]


def test_ranking_by_era_orders_by_era(layers_index: FeatureIndex) -> None:
    values = [link.era for link in layers_index.downstream(2, rank="era", limit=1000).promotes]
    assert values == sorted(values, reverse=True)


def test_rescaling_a_source_changes_nothing_and_a_target_its_unit_alone(made: Made, free_index: FeatureIndex) -> None:
    """a → 3 a with the decoder / 3: the same feature in another unit."""
    stretched = make_set(made, relu=True, stretch=3.0).build("stretched")
    for layer in range(LAYERS):
        feature = layer * D + SCALED
        for way in ("downstream", "upstream"):
            plain, other = (_by_feature(getattr(index, way)(feature, limit=1000)) for index in (free_index, stretched))
            assert plain.keys() == other.keys()
            for near in plain:
                target = near if way == "downstream" else feature
                unit = 3.0 if target % D == SCALED else 1.0
                assert other[near].twera == pytest.approx(unit * plain[near].twera, rel=1e-3)


def _by_feature(links: Any) -> dict[int, Link]:
    return {link.feature: link for link in (*links.promotes, *links.suppresses)}


@pytest.mark.parametrize("pairs", [1, 13, 500])
def test_streaming_equals_all_at_once(layers_index: FeatureIndex, *, pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = downstream_scores(layers_index.store, asked(layers_index.store, 7), 7)
    monkeypatch.setattr(coactivation, "_PAIRS", pairs)
    pieces = downstream_scores(layers_index.store, asked(layers_index.store, 7), 7)
    np.testing.assert_allclose(pieces.twera, whole.twera, rtol=1e-12)
    np.testing.assert_array_equal(pieces.count, whole.count)


def test_where_the_weights_are_equal_only_firing_together_tells(made: Made) -> None:
    """Two sources write the same vector, so that V is the same to every target; one fires with the target, the other elsewhere."""
    twins = make_set(made, relu=True, stretch=1.5)
    first, second = twins.loaded.members[:2]
    assert isinstance(first, Transcoder)
    assert isinstance(second, Transcoder)
    with torch.no_grad():
        first.W_dec[1] = first.W_dec[0]
        first.W_enc[1] = -first.W_enc[0]
        first.b_enc[:2] = -12.0
        second.b_enc[:-1] = -15.0
    index = _saved(twins, "twins")
    one, other = (downstream_scores(index.store, asked(index.store, feature), feature) for feature in (0, 1))
    np.testing.assert_array_equal(one.weight, other.weight)
    assert len(index.store.postings.feature(1)) > 0
    target = int(np.flatnonzero((one.count > 0) & (other.count == 0) & (one.weight > 0))[0])
    assert 0 in {link.feature for link in index.upstream(target, limit=1000).promotes}
    assert 1 not in {link.feature for link in index.upstream(target, limit=1000).promotes}


def _saved(made: MadeSet, name: str) -> FeatureIndex:
    from microtome.artifacts import Draft
    from microtome.dictionaries import save

    place = made.base.workspace.place("dictionary", name)
    with Draft.open(place, "dictionary", config={"name": name}, inputs={"corpus": made.base.corpus.id}) as draft:
        save(made.loaded, draft)
        draft.finish()
    return MadeSet(base=made.base, loaded=made.loaded, dictionary=place, shards=made.shards).build(name)


@pytest.mark.parametrize("signed", [False, True])
def test_a_direction_is_a_source_like_any_feature(layers: MadeSet, layers_index: FeatureIndex, *, signed: bool) -> None:
    vector = torch.randn(layers.base.model.d_model, generator=torch.Generator().manual_seed(1))
    site, keep = Site("resid_mid", 1), layers_index.store.postings.keep()
    found = layers_index.component(site, vector, source=layers.shards, signed=signed, name="probe")
    unit = (vector / vector.norm()).double().numpy()
    a = np.where(keep, layers.rows(site) @ unit, 0)
    a = a if signed else np.maximum(a, 0)
    np.testing.assert_array_equal(found.positions, np.flatnonzero(a))
    np.testing.assert_allclose(found.values, a[found.positions], rtol=1e-3, atol=1e-5)

    blocks: Any = layers.base.model.hf.model.layers
    dense, scale = layers.dense(keep).astype(np.float64), _scales(layers)
    links = layers_index.downstream(found, limit=1000)
    assert (links.name, links.feature) == ("probe", None)
    assert links.n_reached == 2 * D, "the MLPs of layers 1 and 2 read behind L1.resid_mid or what came of it"
    for link in (*links.promotes, *links.suppresses):
        layer, number = divmod(link.feature, D)
        target = layers.loaded.members[layer]
        encoder = target.encoder_directions()[number].double() * blocks[layer].post_attention_layernorm.weight.double()
        weight = float(encoder @ torch.from_numpy(unit))
        j = dense[:, link.feature]
        assert link.weight == pytest.approx(weight, rel=1e-3, abs=1e-5)
        assert link.twera == pytest.approx(weight * (j * a * scale[:, layer]).sum() / j.sum(), rel=2e-3, abs=1e-5)


def test_a_direction_is_a_target_too(layers: MadeSet, layers_index: FeatureIndex) -> None:
    """What feeds a probe of the last residual: the features of all layers, with no norm between."""
    vector = torch.randn(layers.base.model.d_model, generator=torch.Generator().manual_seed(2))
    site, keep = Site("resid_post", LAYERS - 1), layers_index.store.postings.keep()
    found = layers_index.component(site, vector, source=layers.base.model)
    links = layers_index.upstream(found, limit=1000)
    assert (links.way, links.scale, links.n_reached) == ("upstream", "none", F)
    dense = layers.dense(keep).astype(np.float64)
    a = np.zeros(len(dense))
    a[found.positions] = found.values
    for link in (*links.promotes, *links.suppresses):
        layer, number = divmod(link.feature, D)
        weight = float(layers.loaded.members[layer].direction(number) @ (vector / vector.norm()))
        assert link.twera == pytest.approx(weight * (a * dense[:, link.feature]).sum() / a.sum(), rel=2e-3, abs=1e-5)
    with pytest.raises(QueryInvalid, match="no target"):
        layers_index.upstream(layers_index.component(site, vector, source=layers.base.model, signed=True))


def test_what_would_have_fired_is_found_by_taking_the_source_away(free: MadeSet, free_index: FeatureIndex) -> None:
    """ReLU features in closed form: relu(pre − a_i s V) − relu(pre), averaged over all tokens on which the source fires."""
    feature = 4
    links = free_index.downstream(feature, limit=1000, model=free.base.model, sample=10**6)
    keep = free_index.store.postings.keep()
    dense, scale, weights = free.dense(keep).astype(np.float64), _scales(free), _weights(free)
    fires = np.flatnonzero(dense[:, feature])
    assert links.sample == len(fires)
    wanted: dict[int, tuple[float, int]] = {}
    for layer in range(1, LAYERS):
        target = free.loaded.members[layer]
        assert isinstance(target, Transcoder)
        pre = (
            free.rows(Site("mlp_in", layer))[fires].astype(np.float64) @ target.encoder_directions().double().numpy().T
            + target.b_enc.double().numpy()
        )
        taken = (dense[fires, feature] * scale[fires, layer])[:, None] * weights[feature, layer * D : (layer + 1) * D]
        rise = np.maximum(np.maximum(pre - taken, 0) - np.maximum(pre, 0), 0)
        for number in np.flatnonzero(rise.sum(0) > 0).tolist():
            wanted[layer * D + number] = (float(rise[:, number].mean()), int(((pre[:, number] <= 0) & (rise[:, number] > 0)).sum()))
    assert wanted.keys() == {each.feature for each in links.would_suppress}
    assert any(count for _, count in wanted.values()), "some features are kept silent altogether"
    for each in links.would_suppress:
        assert each.weight < 0
        assert each.released == pytest.approx(wanted[each.feature][0], rel=1e-2, abs=1e-5)
        assert each.count == wanted[each.feature][1]
    values = [each.released for each in links.would_suppress]
    assert values == sorted(values, reverse=True)


def test_an_index_of_one_dictionary_has_links_to_directions_alone(made: Made, index: FeatureIndex) -> None:
    links = index.downstream(3)
    assert (links.promotes, links.suppresses, links.n_reached) == ((), (), 0)
    vector = torch.randn(made.model.d_model, generator=torch.Generator().manual_seed(3))
    later = index.component("L2.resid_post", vector, source=made.model)
    assert index.upstream(later).n_reached == index.n_features


def test_unfit_questions_are_refused(layers: MadeSet, layers_index: FeatureIndex) -> None:
    with pytest.raises(FeatureNotFound):
        layers_index.downstream(F)
    with pytest.raises(QueryInvalid, match="twera, era"):
        layers_index.downstream(0, rank="tvera")
    with pytest.raises(QueryInvalid, match="no length"):
        layers_index.component("L1.resid_mid", torch.zeros(32), source=layers.shards)
    with pytest.raises(ShapeMismatch, match="does not fit"):
        layers_index.component("L1.resid_mid", torch.ones(31), source=layers.shards)
    with pytest.raises(ShapeMismatch, match="another model"):
        layers_index.downstream(0, model=tiny("gpt2"))
    with pytest.raises(QueryInvalid, match="sample is empty"):
        layers_index.downstream(0, model=layers.base.model, sample=0)
