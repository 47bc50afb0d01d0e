"""A learner descends, keeps its decoder at norm 1, revives the dead, and continues exactly from its state."""

import pytest
import torch

from microtome.dictionaries.kernels import Weights, reference
from microtome.training import TrainConfig
from microtome.training.learner import Learner, learning_rate
from microtome.training.start import Start, start_from
from tests.training.planted import planted_rows, small_config


def learner_of(config: TrainConfig, *, start: Start | None = None, steps: int = 200) -> tuple[Learner, float]:
    begin = start_from(planted_rows(2000), config) if start is None else start
    return Learner(begin, config, peak_lr=4e-3, steps=steps, product="float32"), begin.input_scale


def learn(learner: Learner, scale: float, *, steps: int, first: int = 0) -> list[float]:
    return [learner.step(planted_rows(256, seed=seed) * scale).loss for seed in range(first, first + steps)]


def test_it_learns_and_decoder_rows_stay_at_norm_1() -> None:
    learner, scale = learner_of(small_config())
    losses = learn(learner, scale, steps=200)
    assert losses[-1] < 0.4 * losses[0]
    torch.testing.assert_close(learner.weights.W_dec.norm(dim=1), torch.ones(32))


def test_one_step_is_adam_on_the_gradient_of_the_dense_formula() -> None:
    config = small_config(decay_share=0.0, warmup_share=0.0)
    learner, scale = learner_of(config)
    z = planted_rows(256) * scale
    dense = Weights(*(weight.clone().requires_grad_() for weight in learner.weights))
    reference.loss(z, dense, k=config.k).backward()
    W_dec = dense.W_dec
    assert W_dec.grad is not None
    along = (W_dec.grad * W_dec).sum(1, keepdim=True) * W_dec
    W_dec.grad = (W_dec.grad - along).detach()
    torch.optim.Adam(list(dense), lr=4e-3).step()
    expected = dense._replace(W_dec=torch.nn.functional.normalize(W_dec, dim=1))

    learner.step(z)

    for mine, theirs in zip(learner.weights, expected, strict=True):
        torch.testing.assert_close(mine, theirs.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("plant", ["far bias", "vanished encoder rows"])
def test_planted_dead_features_come_back(plant: str) -> None:
    dead = torch.arange(8)

    def alive_after(aux_coefficient: float) -> int:
        config = small_config(aux_coefficient=aux_coefficient, dead_after_tokens=1000)
        start = start_from(planted_rows(2000), config)
        if plant == "far bias":
            start.weights.b_enc[dead] = -10.0
        else:
            start.weights.W_enc[dead] = 1e-3 * start.weights.W_enc[dead]
        learner, scale = learner_of(config, start=start, steps=250)
        learn(learner, scale, steps=250)
        return int(learner.alive[dead].sum())

    assert alive_after(0.0) == 0
    assert alive_after(1 / 32) >= 6


def test_a_restored_learner_continues_bit_for_bit() -> None:
    config = small_config(dead_after_tokens=300)
    learner, scale = learner_of(config)
    learn(learner, scale, steps=20)
    copy, _ = learner_of(config)
    copy.restore({name: tensor.clone() for name, tensor in learner.state().items()})
    assert learn(learner, scale, steps=20, first=20) == learn(copy, scale, steps=20, first=20)
    for name, tensor in learner.state().items():
        assert torch.equal(tensor, copy.state()[name]), name


def test_the_bf16_shadow_follows_the_weights() -> None:
    config = small_config()
    start = start_from(planted_rows(2000), config)
    exact = Learner(start, config, peak_lr=4e-3, steps=100, product="float32")
    quick = Learner(start, config, peak_lr=4e-3, steps=100, product="bfloat16")
    last_exact, last_quick = learn(exact, start.input_scale, steps=100)[-1], learn(quick, start.input_scale, steps=100)[-1]
    assert last_quick == pytest.approx(last_exact, rel=0.05)


def test_the_rate_rises_to_its_peak_and_falls_to_almost_nothing() -> None:
    config = small_config(warmup_share=0.1, decay_share=0.5)
    rates = [learning_rate(step, steps=100, peak=1.0, config=config) for step in range(100)]
    assert rates[:2] == pytest.approx([0.1, 0.2])
    assert rates[9:51] == [1.0] * 42
    assert rates[75] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.02)
