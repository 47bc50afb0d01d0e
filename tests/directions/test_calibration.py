import numpy as np
import pytest
import torch

from microtome.directions import Calibration
from microtome.errors import ConfigError, NotEnoughTokens


def test_percentiles_are_those_of_numpy():
    values = torch.randn(997, generator=torch.Generator().manual_seed(0))
    made = Calibration.of(values, source="wiki")
    wanted = np.percentile(values.double().numpy(), np.arange(101))
    np.testing.assert_allclose(made.percentiles, wanted, atol=1e-12)
    assert made.at(25) == made.percentiles[25]
    assert made.at(25.5) == pytest.approx((wanted[25] + wanted[26]) / 2)
    assert made.maximum == float(values.double().max())


def test_the_opposite_direction_has_the_opposite_percentiles():
    values = torch.randn(300, generator=torch.Generator().manual_seed(1))
    np.testing.assert_allclose(Calibration.of(values, source="").negated().percentiles, Calibration.of(-values, source="").percentiles, atol=1e-12)


def test_there_is_no_percentile_beyond_a_hundred():
    with pytest.raises(ConfigError):
        Calibration.of(torch.arange(3.0), source="").at(101)


def test_nothing_cannot_be_calibrated_on():
    with pytest.raises(NotEnoughTokens):
        Calibration.of(torch.empty(0), source="")


def test_percentiles_that_do_not_ascend_are_refused():
    with pytest.raises(ConfigError):
        Calibration(source="", n=1, percentiles=tuple(float(-i) for i in range(101)))
