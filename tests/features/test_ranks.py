"""Shares of a feature's maximum."""

import numpy as np

from microtome.features.ranks import share_of_max


def test_a_feature_that_never_fires_in_the_store_has_share_one_where_it_fires() -> None:
    assert share_of_max(np.array([0.0, 1.0, 3.0]), 2.0).tolist() == [0.0, 0.5, 1.5]
    assert share_of_max(np.array([0.0, 1.0, 3.0]), 0.0).tolist() == [0.0, 1.0, 1.0]
    assert share_of_max(np.array([1.0, 4.0]), np.array([0.0, 8.0], dtype=np.float32)).tolist() == [1.0, 0.5]
