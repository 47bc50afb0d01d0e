"""The scaling law: what is planted is found, and nothing is recommended that the runs do not carry."""

import math
from itertools import product

import numpy as np
import pytest

from microtome.errors import ConfigError
from microtome.training.scaling import ScalingLaw, ScalingPoint, fit_scaling

LAW = ScalingLaw(irreducible=0.12, feature_term=0.2, alpha=0.55, features0=1000, token_term=0.1, beta=0.4, tokens0=1e6)
SIZES: list[tuple[int, int]] = list(product((250, 500, 1000, 2000, 4000), (250_000, 500_000, 1_000_000, 2_000_000)))


def points(law: ScalingLaw = LAW, *, noise: float = 0.0, sizes: list[tuple[int, int]] = SIZES) -> list[ScalingPoint]:
    generator = np.random.default_rng(0)
    return [ScalingPoint(features=n, tokens=t, loss=law(n, t) * math.exp(noise * generator.standard_normal())) for n, t in sizes]


def test_a_known_law_is_recovered_from_its_points() -> None:
    found = fit_scaling(points())
    assert found.law.irreducible == pytest.approx(0.12, rel=1e-3)
    assert (found.law.alpha, found.law.beta) == (pytest.approx(0.55, rel=1e-3), pytest.approx(0.4, rel=1e-3))
    assert found.rms < 1e-6
    for n, t in ((8000, 4_000_000), (100, 100_000)):
        assert found.law(n, t) == pytest.approx(LAW(n, t), rel=1e-4)


def test_with_noise_it_still_predicts_and_its_interval_holds_the_truth() -> None:
    found = fit_scaling(points(noise=0.005))
    assert 0.003 < found.rms < 0.006
    assert found.law(8000, 4_000_000) == pytest.approx(LAW(8000, 4_000_000), rel=0.03)
    assert found.recommended is not None
    assert found.recommended.low < LAW(found.recommended.features, found.recommended.tokens) < found.recommended.high


def test_the_recommended_size_is_the_best_one_at_its_cost() -> None:
    """At n t = C the best n solves alpha A (n/n0)^-alpha = beta B (t/t0)^-beta."""
    best = fit_scaling(points(), cost=4).recommended
    assert best is not None
    assert best.cost == pytest.approx(4, rel=1e-3)
    from_features = LAW.alpha * LAW.feature_term * (best.features / LAW.features0) ** -LAW.alpha
    from_tokens = LAW.beta * LAW.token_term * (best.tokens / LAW.tokens0) ** -LAW.beta
    assert from_features == pytest.approx(from_tokens, rel=0.01)
    assert best.loss < min(point.loss for point in points())


def test_one_axis_alone_has_one_term() -> None:
    found = fit_scaling(points(sizes=[(n, 1_000_000) for n in (250, 500, 1000, 2000, 4000)]), cost=2)
    assert found.law.token_term == 0
    assert found.law(1000, 5) == pytest.approx(LAW(1000, 1_000_000), rel=1e-4)
    assert found.recommended is not None
    assert (found.recommended.features, found.recommended.tokens) == (8000, 1_000_000)


def test_nothing_is_recommended_beyond_four_times_what_was_measured() -> None:
    found = fit_scaling(points(), cost=1000)
    assert found.recommended is None
    assert "more than 4 times" in found.refused


def test_nothing_is_recommended_from_runs_that_follow_no_law() -> None:
    generator = np.random.default_rng(1)
    wild = [ScalingPoint(features=n, tokens=t, loss=float(0.3 + 0.2 * generator.random())) for n, t in SIZES]
    found = fit_scaling(wild)
    assert found.recommended is None
    assert "misses the runs" in found.refused


def test_nothing_is_recommended_where_more_gains_nothing() -> None:
    flat = ScalingLaw(irreducible=0.3, feature_term=1e-5, alpha=0.5, features0=1000, token_term=1e-5, beta=0.5, tokens0=1e6)
    found = fit_scaling(points(flat))
    assert found.recommended is None
    assert "gain nothing" in found.refused


@pytest.mark.parametrize(
    "sizes",
    [
        [(250, 1000), (500, 1000)],
        [(250, 1000), (500, 1000), (1000, 1000), (250, 2000), (500, 2000), (1000, 2000)],
        [(250, 1000), (500, 2000), (1000, 4000)],
    ],
    ids=["two sizes", "two numbers of tokens", "no more runs than parameters"],
)
def test_points_that_cannot_carry_a_fit_are_refused(sizes: list[tuple[int, int]]) -> None:
    with pytest.raises(ConfigError):
        fit_scaling(points(sizes=sizes))


def test_a_loss_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="above 0"):
        fit_scaling([*points(), ScalingPoint(features=1, tokens=1, loss=math.nan)])
