"""On planted rows, what a threshold or a penalty thins is as good as TopK at as many active features, with the defaults."""

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch

from microtome.dictionaries import SAE, AbsTopK, BatchTopK, Gated, JumpReLU, Nonlinearity, ReLU, TopK
from microtome.dictionaries.kernels import Pairs
from microtome.models import Site
from microtome.training import L0, L1, AuxK, Build, Fit, Loss, Planted, PlantedConfig, TrainConfig, recovered
from microtome.training.learner import learning_rate
from microtome.training.rules import Active
from microtome.training.rules.batchtopk import BatchTopKRule
from microtome.training.support import Sparse

ACTIVE, BATCH, BATCHES, STEPS = 4.0, 256, 40, 200
DEFAULT = Build()


class Cycled:
    """The same batches, in order, for ever."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows, self.served = rows, 0

    def __next__(self) -> torch.Tensor:
        self.served += 1
        return self.rows[(self.served - 1) % BATCHES * BATCH :][:BATCH]

    def state(self) -> dict[str, Any]:
        return {"served": self.served}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.served = int(state["served"])


def fit_of(nonlinearity: Nonlinearity, *losses: Loss, planted: Planted, rows: torch.Tensor | None = None, steps: int = STEPS, **changes: Any) -> Fit:
    rows = planted.rows(BATCH * BATCHES) if rows is None else rows
    config = TrainConfig(
        reads=(Site("resid_post", 0),),
        d_dict=128,
        nonlinearity=nonlinearity,
        losses=losses,
        revival=AuxK(dead_after_tokens=10_000),
        tokens=steps * BATCH,
        batch_size=BATCH,
        lr=8e-3,
    )
    return Fit(Cycled(rows), replace(config, **changes), dev=planted.rows(4096, part=1))


@functools.cache
def trained(nonlinearity: Nonlinearity, *losses: Loss, d: int = 32, steps: int = STEPS, build: Build = DEFAULT) -> tuple[float, float, float]:
    """FVU and L0 on held-out rows, and the share of the true directions found."""
    planted = Planted(PlantedConfig(d=d, directions=64, active=ACTIVE))
    held = planted.rows(4096, part=1)
    made = fit_of(nonlinearity, *losses, planted=planted, steps=steps, build=build).run()
    assert isinstance(made, SAE)
    codes = made.encode(held)
    error = made.decode(codes) - held
    fvu = error.square().sum() / (held - held.mean(0)).square().sum()
    return float(fvu), float(codes.values.count_nonzero()) / len(held), recovered(made, planted).share


@pytest.mark.parametrize("d", [32, 64])
def test_jumprelu_reaches_its_target_and_is_as_good_as_topk_there(d: int) -> None:
    fvu, l0, found = trained(JumpReLU(), L0(target=ACTIVE), d=d)
    best, *_ = trained(TopK(k=4), d=d)
    assert l0 == pytest.approx(ACTIVE, rel=0.2)
    assert fvu < 1.15 * best
    assert found > 0.5


@pytest.mark.parametrize("target", [2.0, 4.0])
def test_a_short_run_reaches_the_target_also_where_thresholds_alone_feel_the_jump(target: float) -> None:
    _, wanted, _ = trained(JumpReLU(), L0(target=target), d=64, steps=60)
    _, l0, _ = trained(JumpReLU(), L0(target=target), d=64, steps=60, build=Build(jump_gradient="threshold"))
    assert wanted == pytest.approx(target, rel=0.2)
    assert l0 == pytest.approx(target, rel=0.3)


@pytest.mark.parametrize(("nonlinearity", "coefficient"), [(ReLU(), 0.2), (Gated(), 0.5)])
def test_relu_and_gated_find_the_directions_too(nonlinearity: Nonlinearity, coefficient: float) -> None:
    _, l0, found = trained(nonlinearity, L1(coefficient=coefficient), d=64)
    assert l0 < 3 * ACTIVE
    assert found > 0.5


def test_abstopk_finds_signed_directions_as_often_as_a_dense_trainer_does() -> None:
    planted = Planted(PlantedConfig(d=32, directions=64, active=ACTIVE, signed=True))
    fit = fit_of(AbsTopK(k=4), planted=planted, revival=AuxK(coefficient=0.0))
    reference = densely_trained(fit, planted.rows(BATCH * BATCHES), k=4)
    made = fit.run()
    assert isinstance(made, SAE)
    found = recovered(made, planted)
    wanted = (planted.directions @ reference.T).abs().amax(1)
    assert found.share == pytest.approx(float((wanted > 0.9).float().mean()), abs=0.05)
    assert found.mean_cosine == pytest.approx(float(wanted.mean()), abs=0.02)
    assert found.share > 0.7


@pytest.mark.parametrize(("learnt_by_heart", "steps"), [(300, 80), (BATCH * BATCHES, 5)])
def test_batchtopk_keeps_k_on_rows_it_has_not_seen_also_after_few_steps_or_rows(learnt_by_heart: int, steps: int) -> None:
    planted = Planted(PlantedConfig(d=64, directions=64, active=ACTIVE))
    few = planted.rows(learnt_by_heart).repeat(-(-BATCH * BATCHES // learnt_by_heart), 1)
    made = fit_of(BatchTopK(k=8), planted=planted, rows=few, steps=steps).run()
    assert isinstance(made, SAE)
    held = planted.rows(2048, part=2)
    assert float(made.encode(held).values.count_nonzero()) / len(held) == pytest.approx(8, rel=0.1)


def test_without_dev_rows_batchtopk_keeps_its_running_threshold() -> None:
    planted = Planted(PlantedConfig(d=32, directions=64, active=ACTIVE))
    fit = fit_of(BatchTopK(k=8), planted=planted, steps=3)
    fit.run()
    settled = fit.learners[0].plan.rules[0].running()["threshold_mean"].clone()
    fit.learners[0].settle({Site("resid_post", 0): torch.zeros(0, 32)})
    assert fit.learners[0].plan.rules[0].running()["threshold_mean"] == settled > 0


def test_the_running_threshold_follows_batches_that_change() -> None:
    rule = BatchTopKRule(k=1)
    for value in torch.linspace(2.0, 1.0, 6).tolist():
        rule.observe(_one_place(value))
    assert rule.threshold == pytest.approx(1.1, abs=0.1)
    running = rule.threshold
    rule.settle(_one_place(float("nan")))
    assert rule.threshold == running
    rule.settle(_one_place(0.5))
    assert rule.threshold == 0.5


def _one_place(value: float) -> Active:
    pairs, pre = Pairs.of_rows(torch.tensor([0]), torch.tensor([0]), rows=1, d_dict=1), torch.tensor([value])
    return Active(support=Sparse(pairs), pre=pre, values=pre, strength=pre)


def densely_trained(fit: Fit, rows: torch.Tensor, *, k: int) -> torch.Tensor:
    """The decoder rows that plain autograd and Adam make of the start of `fit` (AbsTopK, no revival)."""
    config = fit.config
    W_enc, b_enc, W_dec = (fit.learners[0].weights.members[0][name].clone().requires_grad_() for name in ("W_enc", "b_enc", "W_dec"))
    b_dec = fit.learners[0].weights.b_dec.clone().requires_grad_()
    adam = torch.optim.Adam([W_enc, b_enc, W_dec, b_dec])
    batches, scale = Cycled(rows), fit.start.sites[config.reads[0]].scale
    for number in range(config.steps):
        x = next(batches) * scale
        pre = (x - b_dec) @ W_enc.T + b_enc
        kept = torch.zeros_like(pre).scatter(1, pre.abs().topk(k, dim=1).indices, 1.0)
        adam.zero_grad()
        ((pre * kept) @ W_dec + b_dec - x).square().mean().backward()
        with torch.no_grad():
            assert W_dec.grad is not None
            W_dec.grad -= (W_dec.grad * W_dec).sum(1, keepdim=True) * W_dec
            adam.param_groups[0]["lr"] = learning_rate(number, steps=config.steps, peak=fit.lr, config=config)
            adam.step()
            W_dec /= W_dec.norm(dim=1, keepdim=True)
    return W_dec.detach()
