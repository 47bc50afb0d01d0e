"""Postings in both directions equal the dense activations."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from microtome.errors import ActivationsNotFinite
from microtome.features import FeatureIndex, postings
from microtome.features.arrays import open_arrays
from microtome.features.members import Members
from microtome.features.passes import Batch, Visited
from microtome.features.postings import INVERTED, Postings, forward_name, id_dtype, pack_inverted, write_forward, write_inverted
from tests.features.small_store import D_DICT, SITE, Made, random_sae


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
    rows = Given(start=100, x=torch.full((3, 32), 1e6), keep=np.ones(3, dtype=bool))
    with pytest.raises(ActivationsNotFinite, match=r"near token 100 does not fit float16"):
        rows.write(tmp_path / "f.safetensors", values="float16")
    rows.write(tmp_path / "f.safetensors", values="float32")


def test_a_shard_without_a_kept_token_has_empty_rows(tmp_path: Path) -> None:
    Given(start=0, x=torch.ones(3, 32), keep=np.zeros(3, dtype=bool)).write(tmp_path / "f.safetensors", values="float16")
    assert open_arrays(tmp_path / "f.safetensors")["indptr"].tolist() == [0, 0, 0, 0]


def test_tokens_that_turn_out_to_be_sinks_lose_their_rows(tmp_path: Path) -> None:
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    Given(start=0, x=x, keep=np.ones(3, dtype=bool)).write(tmp_path / "all.safetensors", values="float32")
    Given(start=0, x=x, keep=np.array([True, False, True])).write(tmp_path / "some.safetensors", values="float32")
    every, some = open_arrays(tmp_path / "all.safetensors"), open_arrays(tmp_path / "some.safetensors")
    first, second = (int(end) for end in every["indptr"][1:3])
    assert np.diff(some["indptr"]).tolist() == [first, 0, int(every["indptr"][3]) - second]
    np.testing.assert_array_equal(some["values"], np.concatenate([every["values"][:first], every["values"][second:]]))


@pytest.mark.parametrize("entries", [1, 7, 1000])
def test_the_transpose_does_not_depend_on_how_much_is_turned_around_at_a_time(
    index: FeatureIndex, tmp_path: Path, *, entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postings, "_ENTRIES", entries)
    files = [index.path / forward_name(0)]
    write_inverted(tmp_path / "pieces", files, d_dict=D_DICT, starts=[0])
    monkeypatch.undo()
    write_inverted(tmp_path / "whole", files, d_dict=D_DICT, starts=[0])
    assert (tmp_path / "pieces").read_bytes() == (tmp_path / "whole").read_bytes()


@dataclass(frozen=True)
class Given:
    """A pass over rows that are there already."""

    start: int
    x: torch.Tensor
    keep: npt.NDArray[np.bool_]

    @property
    def ranges(self) -> list[tuple[int, int]]:
        return [(self.start, self.start + len(self.x))]

    def visit(self, number: int, call: Callable[[Batch], Any]) -> Visited[Any]:
        return Visited(results=[call(Batch(np.arange(len(self.x)), {SITE: self.x}))], keep=self.keep)

    def write(self, path: Path, *, values: str) -> None:
        write_forward(path, self, 0, members=Members(random_sae(32)), scales=lambda batch: None, values=values)


def test_feature_numbers_take_two_bytes_up_to_65536_features() -> None:
    assert id_dtype(1 << 16) is np.uint16
    assert id_dtype((1 << 16) + 1) is np.uint32


@pytest.mark.parametrize("entries", [1, 40, 1 << 20])
def test_packed_postings_are_the_same(
    index: FeatureIndex, dense: npt.NDArray[np.float32], tmp_path: Path, *, entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over several shards, by whole features and by stretches; the bytes do not depend on how much is packed at a time."""
    monkeypatch.setattr(postings, "_ENTRIES", entries)
    raw = index.store.postings
    pack_inverted(index.path / INVERTED, tmp_path / "packed")
    packed = Postings([index.path / forward_name(shard) for shard in range(len(raw.ranges))], tmp_path / "packed", ranges=raw.ranges)
    for feature in range(D_DICT):
        ours, theirs, (where,) = packed.feature(feature), raw.feature(feature), np.nonzero(dense[:, feature])
        np.testing.assert_array_equal(ours.positions, where)
        np.testing.assert_array_equal(ours.values, dense[where, feature])
        np.testing.assert_array_equal(packed.values(feature), raw.values(feature))
        part = packed.within(feature, start=100, end=400)
        np.testing.assert_array_equal(part.positions, where[(where >= 100) & (where < 400)])
        np.testing.assert_array_equal(part.values, dense[part.positions, feature])
        assert theirs.values.dtype == ours.values.dtype
    assert (tmp_path / "packed").stat().st_size < (index.path / INVERTED).stat().st_size / 2
