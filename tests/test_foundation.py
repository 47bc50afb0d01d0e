"""Errors, registries, statistics, conversations, devices and progress: the one-noun files."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm, spearmanr

from microtome import devices
from microtome.conversation import from_messages
from microtome.errors import ConfigError, CorpusInvalid, MicrotomeError, NotRegistered, SiteNotFound, nearest
from microtome.progress import Throttled
from microtome.registry import REGISTRIES, Registry
from microtome.stats import auc_interval, bootstrap_rank_correlation, bootstrap_ratio, rank_correlation, shuffled_rank_correlations, wilson


def test_error_prints_its_four_parts_and_its_page() -> None:
    error = SiteNotFound('no site "L30.x".', got="L30.x", wanted="L0 to L11", do="Choose a layer.")
    assert str(error).splitlines() == [
        'no site "L30.x".',
        "  got:    L30.x",
        "  wanted: L0 to L11",
        "  do:     Choose a layer.  See docs/errors.md#site-not-found",
    ]
    assert error.to_json()["error"] == "SiteNotFound"
    assert isinstance(error, MicrotomeError)


def test_nearest_offers_a_close_name_or_the_list() -> None:
    assert nearest("L15.resid_pots", ["L15.resid_post", "L15.mlp_out"]) == 'Did you mean "L15.resid_post"?'
    assert nearest("zzz", ["alpha", "beta"]) == "Choose one of: alpha, beta."
    assert nearest("zzz", []) == "There is nothing to choose from yet."


def test_registry_finds_parts_and_names_the_nearest() -> None:
    shapes: Registry[str] = Registry("test-shape")
    try:
        shapes.register("circle")("O")
        assert shapes.get("circle") == "O"
        assert list(shapes) == ["circle"]
        with pytest.raises(NotRegistered, match="no test-shape is called"):
            shapes.get("cirle")
    finally:
        del REGISTRIES["test-shape"]


@pytest.mark.parametrize(("auc", "n"), [(0.5, 2), (0.76, 5), (0.9, 10), (0.2, 40)])
def test_the_ends_of_an_aucs_interval_solve_the_score_equation(auc: float, n: int) -> None:
    """Two sets of one size: the variance is Hanley and McNeil's (1982) as they write it, with Q1 and Q2."""

    def score(theta: float) -> float:
        q1, q2 = theta / (2 - theta), 2 * theta**2 / (1 + theta)
        variance = (theta * (1 - theta) + (n - 1) * (q1 - theta**2) + (n - 1) * (q2 - theta**2)) / (n * n)
        return abs(auc - theta) - 1.96 * math.sqrt(variance)

    found = auc_interval(auc, n_positive=n, n_negative=n)
    assert found.low == pytest.approx(brentq(score, 0, auc), abs=1e-9)
    assert found.high == pytest.approx(brentq(score, auc, 1), abs=1e-9)


@pytest.mark.parametrize(("n", "m"), [(5, 5), (10, 10), (3, 12), (12, 3), (4, 40), (40, 40)])
@pytest.mark.parametrize("truth", [0.5, 0.76, 0.9])
def test_the_interval_of_an_auc_covers_the_truth(n: int, m: int, truth: float) -> None:
    """Normal values whose true AUC is Phi(shift / sqrt 2): near 95 % of 1,000 intervals hold it, whichever set is the larger."""
    draw, shift = np.random.default_rng(n * m), math.sqrt(2) * float(norm.ppf(truth))
    values = (draw.normal(shift, 1, (1000, n, 1)) > draw.normal(0, 1, (1000, 1, m))).mean((1, 2))
    ends = {auc: auc_interval(auc, n_positive=n, n_negative=m) for auc in set(values.tolist())}
    assert 0.93 <= np.mean([ends[auc].low <= truth <= ends[auc].high for auc in values.tolist()]) <= 0.985


def test_the_interval_of_an_auc_has_width_where_nothing_is_on_the_wrong_side() -> None:
    at_one = [auc_interval(1.0, n_positive=n, n_negative=n) for n in (1, 2, 5, 10, 40)]
    assert [each.high for each in at_one] == [1.0] * 5
    lows = [each.low for each in at_one]
    assert lows == sorted(lows)
    assert lows[2] == pytest.approx(0.643, abs=1e-3), "five texts from five others tell little"
    halves = [auc_interval(0.5, n_positive=n, n_negative=n) for n in (2, 5, 10, 40)]
    widths = [each.high - each.low for each in halves]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 0.7
    for auc, n, m in ((0.8, 3, 12), (1.0, 5, 7), (0.31, 20, 4)):
        found, swapped = auc_interval(auc, n_positive=n, n_negative=m), auc_interval(1 - auc, n_positive=m, n_negative=n)
        assert (swapped.low, swapped.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-9)


def test_wilson_matches_the_worked_example() -> None:
    """Agresti & Coull 1998 give (0.0, 0.2775) for 0 of 10; the interval is symmetric under swapping successes and failures."""
    interval = wilson(0, 10)
    assert interval.low == 0.0
    assert math.isclose(interval.high, 0.2775, abs_tol=1e-4)
    other = wilson(10, 10)
    assert math.isclose(1 - other.low, interval.high)
    assert wilson(0, 0).high == 1.0


def test_rank_correlation_is_that_of_scipy_ties_included() -> None:
    rng = np.random.default_rng(0)
    for levels in (3, 50):
        left, right = rng.integers(0, levels, size=40), rng.integers(0, levels, size=40)
        wanted = np.asarray(spearmanr(left, right))[0]
        assert math.isclose(rank_correlation(left, right), wanted, abs_tol=1e-12)
    assert rank_correlation([1, 2, 3], [-9, 0, 100]) == 1.0
    assert math.isnan(rank_correlation([1, 1], [1, 2]))
    assert math.isnan(rank_correlation([], []))


def test_rank_correlation_interval_covers_independence_at_its_nominal_rate() -> None:
    """Of 150 samples without any relation, about 95 % of the intervals hold 0; one of equal ranks holds nothing but 1."""
    rng = np.random.default_rng(1)
    intervals = [bootstrap_rank_correlation(rng.normal(size=40), rng.normal(size=40), draws=200) for _ in range(150)]
    assert 130 <= sum(interval.low <= 0 <= interval.high for interval in intervals) <= 149
    same = bootstrap_rank_correlation(range(30), range(30))
    assert same.low == same.high == 1.0
    unknown = bootstrap_rank_correlation([1, 1], [1, 2])
    assert (unknown.low, unknown.high) == (-1.0, 1.0)


def test_draws_of_rank_correlations_are_those_of_one_draw_after_the_other() -> None:
    left = np.random.default_rng(2).integers(0, 6, size=25)
    right = left + np.random.default_rng(3).integers(0, 6, size=25)
    picks = np.random.default_rng(7).integers(0, 25, size=(1000, 25))
    low, high = np.quantile([rank_correlation(left[some], right[some]) for some in picks], [0.025, 0.975])
    found = bootstrap_rank_correlation(left, right, seed=7)
    assert (found.low, found.high) == (low, high)
    draw = np.random.default_rng(7)
    assert np.allclose(
        shuffled_rank_correlations(left, right, seed=7, draws=30), [rank_correlation(draw.permutation(left), right) for _ in range(30)]
    )


def test_bootstrap_interval_covers_the_ratio_at_its_nominal_rate() -> None:
    """Of 200 samples with true ratio 0.5, about 95 % of the intervals hold it (binomial 99.9 % band: 88 % to 99 %)."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        sizes = rng.integers(5, 20, size=60).astype(float)
        interval = bootstrap_ratio(0.5 * sizes + rng.normal(0, 1, size=60), sizes, draws=300)
        hits += interval.low <= 0.5 <= interval.high
    assert 176 <= hits <= 198


def test_conversation_reads_both_common_forms() -> None:
    ours = from_messages([{"role": "user", "content": "hi"}, {"role": "assistant", "content": [{"type": "text", "text": "yo"}]}])
    theirs = from_messages([{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}])
    assert ours == theirs
    assert ours.to_messages()[1] == {"role": "assistant", "content": "yo"}


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ("hello", "not a list of turns"),
        ([], "not a list of turns"),
        ([3], r"messages\[0\] is not a turn"),
        ([{"content": "hi"}], r"messages\[0\] has no role"),
        ([{"role": "user", "content": "hi"}, {"role": "usr", "content": "hi"}], r'messages\[1\] has the role "usr"'),
        ([{"role": "user", "content": 3}], r"messages\[0\] has no text"),
    ],
)
def test_conversation_names_the_bad_turn(messages: object, said: str) -> None:
    with pytest.raises(CorpusInvalid, match=said):
        from_messages(messages)


def test_devices_and_dtypes_are_checked_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert devices.pick_device("cpu") == torch.device("cpu")
    assert devices.pick_dtype("bfloat16") is torch.bfloat16
    with pytest.raises(ConfigError, match="no device"):
        devices.pick_device("gpu0")
    with pytest.raises(ConfigError, match="Did you mean"):
        devices.pick_dtype("bfloat")
    assert devices.peak_memory_bytes() > 10_000_000
    monkeypatch.setenv("MICROTOME_CACHE", str(tmp_path))
    assert devices.cache_dir() == tmp_path


def test_throttled_progress_keeps_the_first_and_the_last_call() -> None:
    calls: list[tuple[str, float]] = []

    def note(step: str, done: float, total: float, *, unit: str = "", note: str = "") -> None:
        calls.append((step, done))

    report = Throttled(note, interval_s=1000)
    for done in range(11):
        report("harvest", done, 10)
    assert calls == [("harvest", 0), ("harvest", 10)]
    Throttled(None)("harvest", 1, 2)
