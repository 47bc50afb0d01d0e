"""The solver against the conditions of an optimum, and against a general optimiser."""

from typing import Literal

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from microtome.directions.recipes import auc, bag_of_words, cross_validated, fit_logistic, folds_of
from microtome.errors import ConfigError, NotEnoughTokens
from microtome.shapes import Tensor


def sample(n: int = 60, width: int = 7, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(n, width, generator=random) * torch.tensor([1.0, 5, 0.2, 1, 1, 30, 1])[:width] + 3
    return x, (x[:, 0] + 0.3 * x[:, 1] + torch.randn(n, generator=random)) > x[:, 0].mean() + 0.3 * x[:, 1].mean()


def standard(x: Tensor) -> Tensor:
    return (x.double() - x.double().mean(0)) / x.double().std(0, correction=0)


@pytest.mark.parametrize("penalty", ["l1", "l2"])
@pytest.mark.parametrize("strength", [0.003, 0.05])
def test_the_result_is_the_optimum(penalty: Literal["l1", "l2"], strength: float):
    x, y = sample()
    fitted = fit_logistic(x, y, penalty=penalty, strength=strength)
    w = fitted.weights.double() * x.double().std(0, correction=0)
    z, sides = standard(x), y.double() * 2 - 1
    slope = -(z * (sides * torch.sigmoid(-sides * fitted.scores(x)))[:, None]).mean(0)
    assert abs(float((sides * torch.sigmoid(-sides * fitted.scores(x))).mean())) < 1e-6  # the bias is free
    if penalty == "l2":
        torch.testing.assert_close(slope, -strength * w, atol=1e-6, rtol=1e-5)
    else:
        chosen = w != 0
        torch.testing.assert_close(slope[chosen], -strength * w[chosen].sign(), atol=1e-5, rtol=1e-4)
        assert bool((slope[~chosen].abs() <= strength + 1e-6).all())
        assert strength == 0.003 or not bool(chosen.all())  # a penalty that is strong enough leaves columns out


def test_a_general_optimiser_finds_the_same():
    x, y = sample(n=40, width=4)
    z, sides = standard(x).numpy(), (y.double() * 2 - 1).numpy()

    def value(theta: np.ndarray) -> float:
        return float(np.logaddexp(0, -sides * (z @ theta[:-1] + theta[-1])).mean() + 0.05 * (theta[:-1] ** 2).sum() / 2)

    found = minimize(value, np.zeros(5), method="BFGS", options={"gtol": 1e-9}).x
    fitted = fit_logistic(x, y, strength=0.05)
    w = (fitted.weights.double() * x.double().std(0, correction=0)).numpy()
    np.testing.assert_allclose(w, found[:-1], atol=1e-4)


def test_more_columns_than_rows_and_columns_that_never_change():
    random = torch.Generator().manual_seed(1)
    x = torch.cat([torch.randn(20, 200, generator=random), torch.full((20, 3), 7.0)], dim=1)
    fitted = fit_logistic(x, x[:, 0] > 0, strength=0.1)
    assert bool(fitted.weights.isfinite().all())
    assert not bool(fitted.weights[-3:].any())
    assert auc(fitted.scores(x), x[:, 0] > 0) == 1


def test_what_cannot_be_fitted_is_refused():
    x, y = sample()
    with pytest.raises(NotEnoughTokens):
        fit_logistic(x, torch.ones(len(x), dtype=torch.bool))
    for strength in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError):
            fit_logistic(x, y, strength=strength)


def test_auc_is_the_share_of_ordered_pairs():
    scores = torch.tensor([3.0, 1, 2, 0, 2])
    labels = torch.tensor([True, True, False, False, False])
    pairs = [(3, 2), (3, 0), (3, 2), (1, 2), (1, 0), (1, 2)]
    assert auc(scores, labels) == pytest.approx(sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs))
    folds = torch.tensor([0, 1, 0, 1, 1])
    assert auc(scores, labels, folds=folds) == pytest.approx((1 + 0 + 1) / 3)  # pairs of one fold: (3, 2), (1, 0), (1, 2)


def test_folds_hold_both_classes_and_keep_groups_together():
    labels = torch.arange(23) < 7
    folds = folds_of(labels)
    for fold in range(5):
        assert 0 < int(labels[folds == fold].sum()) < int((folds == fold).sum())
    groups = [f"g{i % 6}" for i in range(23)]
    kept = folds_of(labels, groups=groups)
    assert all(len({int(kept[i]) for i in range(23) if groups[i] == group}) == 1 for group in groups)
    with pytest.raises(NotEnoughTokens, match="groups"):
        folds_of(labels, groups=["high" if label else "low" for label in labels.tolist()])


def test_a_row_is_scored_by_a_probe_that_never_saw_it():
    """Labels that only memory could give: held out, a probe is at chance."""
    random = torch.Generator().manual_seed(2)
    x, y = torch.randn(60, 100, generator=random), torch.rand(60, generator=random) > 0.5
    assert auc(fit_logistic(x, y, strength=0.01).scores(x), y) == 1
    folds = folds_of(y)
    assert abs(auc(cross_validated(x, y, folds=folds, fit=lambda a, b: fit_logistic(a, b, strength=0.01)), y, folds=folds) - 0.5) < 0.2


def test_a_bag_counts_the_words_that_texts_share():
    table = bag_of_words(["The cat, the dog", "a dog", "THE end"])
    assert table.shape == (3, 2)  # dog, the
    torch.testing.assert_close(table.expm1(), torch.tensor([[1.0, 2], [1, 0], [0, 1]]))
