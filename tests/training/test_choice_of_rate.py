"""A search chooses the rate by what training makes small: with a penalty, not by the squared error alone."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from microtome.activations import ActivationStream, FromMatrix
from microtome.dictionaries import SAE, ReLU
from microtome.training import L1, Fit, TrainConfig
from tests.training.planted import SITE, planted_rows, planted_shards, small_config

RATES = (1e-3, 4e-3)
COEFFICIENT = 0.4
SEARCHED = 30 * 128


def fitted(made: FromMatrix, config: TrainConfig, dev: torch.Tensor) -> Fit:
    fit = Fit(ActivationStream(made.shards, made.corpus, site=SITE, batch_size=config.batch_size, seed=0), config, dev={SITE: dev})
    fit.run()
    return fit


def by_hand(fit: Fit, dev: torch.Tensor) -> float:
    """Squared error in units of the variance at the start, and sum f |W| in units of the root mean square distance from the mean."""
    made, scale = fit.run(), fit.start.sites[SITE].scale
    assert isinstance(made, SAE)
    codes, norms = made.encode(dev), made.directions().norm(dim=1)
    error = (scale * (made.reconstruct(dev) - dev)).square().mean()
    size = scale * (codes.values * norms[codes.indices]).sum(1).mean()
    return float(error + COEFFICIENT * size / dev.shape[1] ** 0.5)


def test_a_search_with_a_penalty_chooses_by_the_whole_objective(tmp_path: Path) -> None:
    """The rate with the lowest squared error is the least sparse one, and it is not chosen."""
    made, dev = planted_shards(tmp_path), planted_rows(700, seed=7)
    config = small_config(nonlinearity=ReLU(), losses=(L1(coefficient=COEFFICIENT),), lr=None, lr_search=RATES, lr_search_tokens=SEARCHED)
    fit = fitted(made, config, dev)
    for trial in fit.trials:
        alone = fitted(made, replace(config, lr=trial.lr, tokens=SEARCHED), dev)
        assert trial.dev_objective == pytest.approx(by_hand(alone, dev), rel=1e-2), "its scale is that of fewer rows"
    errors, objectives = ([getattr(trial, name) for trial in fit.trials] for name in ("dev_fvu", "dev_objective"))
    assert RATES[errors.index(min(errors))] != RATES[objectives.index(min(objectives))]
    assert fit.lr == RATES[objectives.index(min(objectives))]


def test_without_a_penalty_it_is_the_fraction_of_variance_unexplained(tmp_path: Path) -> None:
    made, dev = planted_shards(tmp_path), planted_rows(700, seed=7)
    fit = fitted(made, small_config(lr=None, lr_search=RATES, lr_search_tokens=SEARCHED), dev)
    assert all(trial.dev_objective == trial.dev_fvu for trial in fit.trials)
    assert fit.lr == min(fit.trials, key=lambda trial: trial.dev_fvu or 0.0).lr
