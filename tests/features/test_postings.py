"""Postings in both directions equal the dense activations."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from microtome.activations import ShardBlock
from microtome.errors import ActivationsNotFinite
from microtome.features import FeatureIndex
from microtome.features.postings import id_dtype, write_forward
from tests.features.small_store import D_DICT, Made, random_sae


def test_forward_rows_equal_the_dense_activations(index: FeatureIndex, dense: npt.NDArray[np.float32]) -> None:
    rows = index.store.postings.rows(start=0, end=len(dense))
    found = np.zeros_like(dense)
    found[np.repeat(np.arange(len(dense)), np.diff(rows.indptr)), rows.ids] = rows.values
    np.testing.assert_array_equal(found, dense)


def test_a_stretch_over_a_shard_border_is_a_slice_of_the_whole(index: FeatureIndex, dense: npt.NDArray[np.float32], made: Made) -> None:
    border = made.shards.ranges[0][1]
    rows = index.store.postings.rows(start=border - 5, end=border + 5)
    found = np.zeros((10, D_DICT), dtype=np.float32)
    found[np.repeat(np.arange(10), np.diff(rows.indptr)), rows.ids] = rows.values
    np.testing.assert_array_equal(found, dense[border - 5 : border + 5])
    np.testing.assert_array_equal(rows.keep, made.shards.keep[border - 5 : border + 5])


def test_inverted_is_the_transpose_of_forward(index: FeatureIndex, dense: npt.NDArray[np.float32]) -> None:
    assert len(index.store.postings.ranges) > 2, "the store has several shards"
    for feature in range(D_DICT):
        firings = index.store.postings.feature(feature)
        np.testing.assert_array_equal(firings.positions, np.flatnonzero(dense[:, feature]))
        np.testing.assert_array_equal(firings.values, dense[firings.positions, feature])
    assert index.store.postings.nnz == np.count_nonzero(dense)


def test_an_activation_too_large_for_the_store_is_named(tmp_path: Path) -> None:
    block = ShardBlock(start=100, x=torch.full((3, 32), 1e6), keep=torch.ones(3, dtype=torch.bool))
    with pytest.raises(ActivationsNotFinite, match=r"near token 100 does not fit float16"):
        write_forward(tmp_path / "f.safetensors", block, dictionary=random_sae(32), values="float16")
    write_forward(tmp_path / "f.safetensors", block, dictionary=random_sae(32), values="float32")


def test_a_shard_without_a_kept_token_has_empty_rows(tmp_path: Path) -> None:
    block = ShardBlock(start=0, x=torch.ones(3, 32), keep=torch.zeros(3, dtype=torch.bool))
    write_forward(tmp_path / "f.safetensors", block, dictionary=random_sae(32), values="float16")


def test_feature_numbers_take_two_bytes_up_to_65536_features() -> None:
    assert id_dtype(1 << 16) is np.uint16
    assert id_dtype((1 << 16) + 1) is np.uint32
