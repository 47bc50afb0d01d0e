"""Gaps of positions: the bytes of the definition, and back."""

import numpy as np
import pytest

from microtome.features.gaps import to_gaps, to_positions


def test_bytes_are_those_of_the_definition() -> None:
    """5, then 127 further, 128 further (two bytes: 0 and more, then 1), and 2^21 further (four)."""
    packed, starts = to_gaps(np.array([5, 132, 260, 260 + (1 << 21)]), starts=np.array([0, 4]))
    assert packed.tolist() == [5, 127, 128, 1, 128, 128, 128, 1]
    assert starts.tolist() == [0, 8]


@pytest.mark.parametrize("most", [50, 1 << 20, (1 << 32) - 1])
def test_every_run_comes_back(most: int) -> None:
    draw = np.random.default_rng(0)
    runs = [
        np.sort(draw.choice(most, size, replace=False) if most < 100 else np.unique(draw.integers(0, most, size))) for size in (0, 3, 40, 0, 1, 33)
    ]
    ends = np.concatenate([[0], np.cumsum([len(run) for run in runs])])
    packed, starts = to_gaps(np.concatenate(runs).astype(np.uint32), starts=ends)
    for number, run in enumerate(runs):
        np.testing.assert_array_equal(to_positions(packed[starts[number] : starts[number + 1]]), run)


def test_neighbours_take_a_byte_each() -> None:
    packed, _ = to_gaps(np.arange(1000, dtype=np.uint32), starts=np.array([0, 1000]))
    assert len(packed) == 1000
