"""Planted dead features come back, in every kind and with every nonlinearity; the revival's gradient is dense autograd's."""

import pytest
import torch

from microtome.dictionaries import AbsTopK, BatchTopK, Gated, JumpReLU, ReLU
from microtome.models import Site
from microtome.training import L0, L1, TrainConfig
from microtome.training.layout import layouts
from microtome.training.learner import Learner
from microtome.training.revival import revive
from microtome.training.start import start_from
from tests.training.planted import planted_rows, small_config

READS, WRITES = (Site("mlp_in", 0), Site("mlp_in", 1)), (Site("mlp_out", 0), Site("mlp_out", 1))
CASES: dict[str, dict[str, object]] = {
    "sae topk": {"reads": WRITES[:1]},
    "sae abstopk": {"reads": WRITES[:1], "nonlinearity": AbsTopK(k=3)},
    "sae batchtopk": {"reads": WRITES[:1], "nonlinearity": BatchTopK(k=3)},
    "sae relu": {"reads": WRITES[:1], "nonlinearity": ReLU(), "losses": (L1(coefficient=0.5),)},
    "sae jumprelu": {"reads": WRITES[:1], "nonlinearity": JumpReLU(), "losses": (L0(target=3.0),)},
    "sae gated": {"reads": WRITES[:1], "nonlinearity": Gated(), "losses": (L1(coefficient=0.5),)},
    "transcoder": {"kind": "transcoder", "reads": READS[:1], "writes": WRITES[:1]},
    "layers": {"kind": "layers", "reads": READS, "writes": WRITES},
    "cross-layer": {"kind": "cross-layer", "reads": READS, "writes": WRITES},
    "tied cross-layer": {"kind": "cross-layer", "reads": READS, "writes": WRITES, "tied_decoder": True},
    "crosscoder": {"kind": "crosscoder", "reads": WRITES},
}
PLANTED = torch.arange(8)


def rows(seed: int, *, n: int = 256) -> dict[Site, torch.Tensor]:
    """Each site is the same planted rows turned its own way."""
    x = planted_rows(n, seed=seed)
    turned = [torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(number))).Q for number in range(4)]
    return {site: x @ turn for site, turn in zip((*READS, *WRITES), turned, strict=True)}


def learners(config: TrainConfig, *, plant: str) -> list[Learner]:
    layout = layouts(config)
    start = start_from(rows(10_000, n=2000), config, layouts=layout)
    configs = [config.of_layer(index) for index in range(len(layout))] if config.kind == "layers" else [config]
    made = zip(layout, start.weights, configs, strict=True)
    found = [Learner(start, own, layout=each, weights=weights, peak_lr=4e-3, steps=200, product="float32") for each, weights, own in made]
    for learner in found:
        for member in learner.weights.members:
            if plant == "far bias":
                for name in {"b_enc", "b_mag"} & set(member):
                    member[name][PLANTED] = -10.0
            else:
                member["W_enc"][PLANTED] *= 1e-3
                member["b_enc"][PLANTED] = -0.5
        learner.restore(learner.state())
    return found


def alive_after(case: str, coefficient: float, *, plant: str) -> int:
    """Of the planted dead features, how many are alive in the worst member."""
    made = learners(small_config(**CASES[case], coefficient=coefficient, dead_after_tokens=1000), plant=plant)
    for seed in range(200):
        scaled = made[0].start.scaled(rows(seed))
        for learner in made:
            learner.step(scaled)
    return min(int(alive[PLANTED].sum()) for learner in made for alive in learner.alive)


@pytest.mark.parametrize("case", CASES)
def test_planted_dead_features_come_back(case: str) -> None:
    assert alive_after(case, 1 / 32, plant="far bias") >= 6


def test_without_revival_they_stay_dead() -> None:
    assert alive_after("sae topk", 0.0, plant="far bias") == 0
    assert alive_after("sae topk", 0.0, plant="vanished encoder rows") == 0


def test_features_whose_encoder_vanished_come_back_too() -> None:
    assert alive_after("sae topk", 1 / 32, plant="vanished encoder rows") >= 6


@pytest.mark.parametrize("k_aux", [3, 20])
def test_its_gradients_are_those_of_the_dense_formula(k_aux: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, error = (torch.randn(30, width, generator=generator, dtype=torch.float64) for width in (6, 9))
    W_enc, W_dec = (torch.randn(12, width, generator=generator, dtype=torch.float64).requires_grad_() for width in (6, 9))
    pre = x @ W_enc.T
    kept = torch.zeros_like(pre).scatter(1, pre.topk(min(k_aux, 12), dim=1).indices, 1.0)
    loss = ((pre * kept) @ W_dec + error).square().mean()
    loss.backward()
    found = revive(x, error, W_enc=W_enc.detach(), W_dec=W_dec.detach(), k_aux=k_aux)
    torch.testing.assert_close(found.loss, loss.detach())
    torch.testing.assert_close(found.W_enc, W_enc.grad)
    torch.testing.assert_close(found.W_dec, W_dec.grad)
