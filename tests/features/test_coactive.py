"""Features that fire together, counted by brute force over all pairs."""

import numpy as np
import pytest

from microtome.errors import QueryInvalid
from microtome.features import FeatureIndex
from tests.features.small_set import MadeSet


@pytest.mark.parametrize("rank", ["jaccard", "pmi", "count"])
def test_all_pairs_equal_brute_force(layers: MadeSet, layers_index: FeatureIndex, rank: str) -> None:
    keep = layers_index.store.postings.keep()
    fires = layers.dense(keep) > 0
    n, total = fires.sum(0), int(keep.sum())
    for feature in (0, 5, 30, 71):
        found = layers_index.coactive(feature, rank=rank, at_least=2, limit=1000)
        both = (fires & fires[:, [feature]]).sum(0)
        assert {each.feature for each in found} == set(np.flatnonzero(both >= 2).tolist()) - {feature}
        values = [getattr(each, rank) for each in found]
        assert values == sorted(values, reverse=True)
        for each in found:
            j = each.feature
            assert each.count == both[j]
            assert each.jaccard == pytest.approx(both[j] / (fires[:, feature] | fires[:, j]).sum())
            assert each.pmi == pytest.approx(np.log2(both[j] / total / (n[feature] / total * n[j] / total)))
            assert each.share == pytest.approx(both[j] / n[feature])


def test_a_dead_feature_fires_with_none_and_an_unknown_rank_is_refused(layers_index: FeatureIndex) -> None:
    assert layers_index.coactive(23) == ()
    with pytest.raises(QueryInvalid, match="jaccard, pmi, count"):
        layers_index.coactive(0, rank="lift")
