"""Arrays written here are plain safetensors, and plain safetensors are read here."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from microtome.errors import ArtifactDamaged
from microtome.features.arrays import create_arrays, open_arrays, write_arrays

ARRAYS = {
    "a": np.arange(7, dtype=np.uint8),
    "b": np.linspace(0, 1, 6, dtype=np.float16).reshape(2, 3),
    "c": np.arange(3, dtype=np.int64),
    "empty": np.empty((0, 4), dtype=np.uint32),
    "truth": np.array([True, False]),
}


def test_the_safetensors_package_reads_what_is_written(tmp_path: Path) -> None:
    write_arrays(tmp_path / "x.safetensors", ARRAYS)
    for found in (load_file(tmp_path / "x.safetensors"), open_arrays(tmp_path / "x.safetensors")):
        assert found.keys() == ARRAYS.keys()
        for name, array in ARRAYS.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)


def test_what_the_safetensors_package_writes_is_read(tmp_path: Path) -> None:
    save_file(ARRAYS, tmp_path / "x.safetensors", metadata={"format": "np"})
    for name, array in open_arrays(tmp_path / "x.safetensors").items():
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_a_file_made_in_place_begins_as_zeros(tmp_path: Path) -> None:
    made = create_arrays(tmp_path / "x.safetensors", {"n": (np.uint32, (5,))})
    made["n"][2] = 9
    made["n"].flush()  # type: ignore[attr-defined]  # an array of a file that is not empty is a memory map
    assert load_file(tmp_path / "x.safetensors")["n"].tolist() == [0, 0, 9, 0, 0]


def test_a_file_that_is_no_safetensors_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nonsense" * 4)
    with pytest.raises(ArtifactDamaged, match=r"x\.safetensors is damaged"):
        open_arrays(tmp_path / "x.safetensors")
