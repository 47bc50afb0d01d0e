"""Charts put values where their axes say."""

import math

import pytest

from microtome.web.charts import Axis, Series, curves, histogram, spark, strip


def test_an_axis_is_linear_or_logarithmic_and_keeps_values_inside() -> None:
    linear = Axis(low=0, high=10, start=100, end=200)
    assert [linear.at(value) for value in (0, 5, 10, 99)] == [100, 150, 200, 200]
    log = Axis(low=0.01, high=100, start=0, end=40, log=True)
    assert [round(log.at(value), 9) for value in (0.01, 0.1, 1, 100, 0)] == [0, 10, 20, 40, 0]


def test_ticks_are_round() -> None:
    assert Axis(low=0, high=47, start=0, end=1).ticks() == [0, 10, 20, 30, 40]
    assert Axis(low=1e-5, high=1, start=0, end=1, log=True).ticks() == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1])
    assert Axis(low=8e-4, high=5e-3, start=0, end=1, log=True).ticks() == pytest.approx([1e-3, 2e-3, 5e-3])


def test_a_histogram_has_a_bar_for_every_bin_that_is_not_empty() -> None:
    assert histogram([1, 10, 100, 1000], [5, 0, 2], log=True, x_label="x", y_label="y").count("<rect") == 2
    assert "nothing to draw" in histogram([0, 1], [0], log=False, x_label="x", y_label="y")


def test_a_curve_leaves_out_what_is_not_finite() -> None:
    drawn = curves([Series(name="s", x=[1, 2, 3], y=[1.0, math.nan, 2.0])], x_label="x", y_label="y", dots=True)
    assert drawn.count("<circle") == 2
    assert "nan" not in drawn


def test_a_strip_has_its_figure_its_interval_and_its_controls() -> None:
    drawn = strip(0.4, low=0.3, high=0.5, controls={"random": 0.9, "mean": 1.0})
    assert drawn.count("<circle") == 3
    assert 'class="whisker"' in drawn


def test_a_spark_of_nothing_is_empty() -> None:
    assert "<rect" not in spark([])
