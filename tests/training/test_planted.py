"""On planted rows, what a threshold or a penalty thins is as good as TopK at as many active features, with the defaults."""

import functools
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from microtome.dictionaries import SAE, Gated, JumpReLU, Nonlinearity, ReLU, TopK
from microtome.models import Site
from microtome.training import L0, L1, AuxK, Fit, Loss, Planted, PlantedConfig, TrainConfig, recovered

ACTIVE, BATCH, BATCHES, STEPS = 4.0, 512, 40, 300


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


@functools.cache
def trained(nonlinearity: Nonlinearity, *losses: Loss, d: int = 32) -> tuple[float, float, float]:
    """FVU and L0 on held-out rows, and the share of the true directions found."""
    planted = Planted(PlantedConfig(d=d, directions=64, active=ACTIVE))
    rows, held = planted.rows(BATCH * BATCHES), planted.rows(4096, part=1)
    config = TrainConfig(
        reads=(Site("resid_post", 0),),
        d_dict=128,
        nonlinearity=nonlinearity,
        losses=losses,
        revival=AuxK(dead_after_tokens=10_000),
        tokens=STEPS * BATCH,
        batch_size=BATCH,
        lr=8e-3,
    )
    made = Fit(Cycled(rows), config, dev=held).run()
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


@pytest.mark.parametrize(("nonlinearity", "coefficient"), [(ReLU(), 0.2), (Gated(), 0.5)])
def test_relu_and_gated_find_the_directions_too(nonlinearity: Nonlinearity, coefficient: float) -> None:
    _, l0, found = trained(nonlinearity, L1(coefficient=coefficient), d=64)
    assert l0 < 3 * ACTIVE
    assert found > 0.5
