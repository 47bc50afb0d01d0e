"""The compiled sums against numpy's, to the bit, over every storage type; both against a loop over all pairs."""

from typing import Any

import numpy as np
import pytest
import torch

from microtome.features.coactivation import JOIN, _compiled, _plain
from microtome.features.postings import ForwardRows

COMPILED = pytest.mark.skipif(not JOIN.available(), reason=f"no compiled kernels here: {JOIN.why_not()}")
TOKENS, MEMBERS, EACH = 300, 5, 40
ALL = range(MEMBERS)


def _forward(*, ids: str = "uint16", values: str = "float16", bounds: str | None = "uint16", scales: bool = True) -> ForwardRows:
    """Rows of many lengths, some empty, of a set of 5 × 40 features; a third of them is asked for."""
    draw = np.random.default_rng(0)
    runs = [[np.sort(draw.choice(EACH, draw.integers(0, 21), replace=False)) + member * EACH for member in ALL] for _ in range(TOKENS)]
    runs[7] = [np.empty(0, np.int64)] * MEMBERS
    lengths = np.array([[len(run) for run in row] for row in runs])
    indptr = np.concatenate([[0], np.cumsum(lengths.sum(1))])
    arrays: dict[str, Any] = {
        "indptr": indptr.astype(np.int64),
        "ids": np.concatenate([run for row in runs for run in row]).astype(ids),
        "values": (draw.exponential(1, int(indptr[-1])) + 0.01).astype(values),
    }
    if bounds is not None:
        arrays["bounds"] = (np.cumsum(lengths, 1) - lengths).astype(bounds)
    if scales:
        arrays["scales"] = draw.uniform(0.5, 2, (TOKENS, MEMBERS if bounds is not None else 1)).astype(np.float32)
    return ForwardRows(rows=np.sort(draw.choice(TOKENS, TOKENS // 3, replace=False)), arrays=arrays)


def _sums(added: Any, forward: ForwardRows, *, members: range = ALL, n_members: int = MEMBERS, scaled: bool = True) -> Any:
    found = np.zeros((MEMBERS * EACH, 4))
    weights = np.random.default_rng(1).exponential(1, len(forward.rows))
    added(forward, weights, found=found, members=members, n_members=n_members, scaled=scaled)
    return found


STORED = [
    {},
    {"ids": "uint32", "values": "float32"},
    {"bounds": "uint32", "values": "float32"},
    {"scales": False},
]


@COMPILED
@pytest.mark.parametrize("stored", STORED, ids=str)
@pytest.mark.parametrize("members", [ALL, range(2, 4), range(4, 5)], ids=str)
def test_compiled_equals_numpy_to_the_bit(stored: dict[str, Any], members: range) -> None:
    forward = _forward(**stored)
    for scaled in (True, False):
        np.testing.assert_array_equal(
            _sums(_compiled, forward, members=members, scaled=scaled), _sums(_plain, forward, members=members, scaled=scaled)
        )


@COMPILED
def test_rows_of_one_dictionary_have_no_bounds() -> None:
    forward = _forward(bounds=None)
    both = [_sums(added, forward, members=range(1), n_members=1) for added in (_compiled, _plain)]
    np.testing.assert_array_equal(*both)


@pytest.mark.parametrize("added", [pytest.param(_compiled, marks=COMPILED), _plain])
def test_the_sums_are_those_of_a_loop_over_all_pairs(added: Any) -> None:
    forward = _forward(values="float32")
    wanted = np.zeros((MEMBERS * EACH, 4))
    weights, arrays = np.random.default_rng(1).exponential(1, len(forward.rows)), forward.arrays
    for row, weight in zip(forward.rows.tolist(), weights.tolist(), strict=True):
        for at in range(int(arrays["indptr"][row]), int(arrays["indptr"][row + 1])):
            feature = int(arrays["ids"][at])
            scaled = weight * float(arrays["scales"][row, feature // EACH])
            wanted[feature, :3] += (scaled * float(arrays["values"][at]), scaled, 1)
    np.testing.assert_allclose(_sums(added, forward), wanted, rtol=1e-12)


@COMPILED
def test_sums_do_not_depend_on_the_number_of_threads() -> None:
    before, forward = torch.get_num_threads(), _forward()
    try:
        found: list[Any] = []
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            found.append(_sums(_compiled, forward))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@COMPILED
@pytest.mark.parametrize("damaged", ["ids", "indptr", "bounds"])
def test_a_damaged_file_is_an_error_and_not_memory_of_others(damaged: str) -> None:
    forward = _forward()
    forward.arrays[damaged][forward.rows[-1]] = {"ids": 0, "indptr": 1 << 40, "bounds": 60_000}[damaged]
    if damaged == "ids":
        forward.arrays["ids"][forward.arrays["indptr"][forward.rows[-1]]] = 60_000
    with pytest.raises(IndexError, match="join"):
        _sums(_compiled, forward)


def test_without_a_compiler_numpy_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROTOME_NATIVE", "0")
    assert not JOIN.available()
    assert JOIN.why_not() == "MICROTOME_NATIVE is 0"
