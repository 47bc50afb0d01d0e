"""Planted rows have the rates and directions they claim; what counts as found is checked on dictionaries made by hand."""

import pytest
import torch
import torch.nn.functional as F

from microtome.dictionaries import SAE, AbsTopK, Nonlinearity, TopK
from microtome.errors import ConfigError, ShapeMismatch
from microtome.models import Site
from microtome.training import Planted, PlantedConfig, recovered

CONFIG = PlantedConfig(d=24, directions=40, active=3.0, noise=0.0)


def dictionary_of(directions: torch.Tensor, *, nonlinearity: Nonlinearity | None = None) -> SAE:
    d_dict, d = directions.shape
    weights = {"W_enc": directions, "W_dec": directions, "b_enc": torch.zeros(d_dict), "b_dec": torch.zeros(d)}
    return SAE(site=Site("resid_post", 0), nonlinearity=nonlinearity or TopK(k=1), weights=weights, input_scale=2.0)


def test_rows_are_sums_of_the_directions_at_their_rates() -> None:
    planted = Planted(CONFIG)
    rows = planted.rows(20_000)
    assert planted.rates.sum() == pytest.approx(3.0, rel=1e-3)
    quiet = Planted(PlantedConfig(d=24, directions=10, active=1.0, noise=0.0))
    centred = quiet.rows(20_000) - quiet.rows(20_000).median(0).values
    sizes = torch.linalg.lstsq(quiet.directions.T, centred.T).solution  # ten directions in 24 columns: the codes are unique
    assert torch.allclose((sizes.abs() > 0.2).float().mean(1), quiet.rates, atol=0.02)
    assert torch.equal(rows, planted.rows(20_000))
    assert torch.equal(rows[:5000], planted.rows(5000))
    assert not torch.equal(rows, planted.rows(20_000, part=1))


def test_the_truth_is_found_whole_and_random_directions_find_nothing() -> None:
    planted = Planted(CONFIG)
    assert recovered(dictionary_of(planted.directions * 3), planted).share == 1.0
    half = recovered(dictionary_of(planted.directions[:20]), planted)
    assert half.share == 0.5
    assert half.weighted == pytest.approx(float(planted.rates[:20].sum() / planted.rates.sum()))
    doubled = recovered(dictionary_of(planted.directions[:20].repeat(2, 1)), planted)
    assert doubled.share == 0.5
    strangers = F.normalize(torch.randn(400, 24, generator=torch.Generator().manual_seed(5)), dim=1)
    assert recovered(dictionary_of(strangers), planted).share < 0.1
    assert recovered(dictionary_of(-planted.directions), planted).share == 0.0


def test_an_opposite_direction_is_found_where_activations_have_signs() -> None:
    planted, opposite = Planted(CONFIG), -Planted(CONFIG).directions
    assert recovered(dictionary_of(opposite, nonlinearity=AbsTopK(k=1)), planted).share == 1.0
    both_ways = Planted(PlantedConfig(d=24, directions=40, active=3.0, noise=0.0, signed=True))
    assert recovered(dictionary_of(opposite), both_ways).share == 1.0
    rows = both_ways.rows(20_000)
    assert float(rows.mean(0).norm()) < 0.2 * float(planted.rows(20_000).mean(0).norm()) + 0.05 * 24**0.5, "the signs cancel, the offset stays"
    assert torch.allclose(rows.var(0, correction=0).sum(), rows.square().sum(1).mean(), rtol=0.1)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="planted"):
        PlantedConfig(directions=4, active=3)
    with pytest.raises(ShapeMismatch):
        recovered(dictionary_of(torch.eye(8)), Planted(CONFIG))
