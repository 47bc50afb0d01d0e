"""A learner descends, keeps its decoder at norm 1, revives the dead, and continues exactly from its state."""

from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F

from microtome.dictionaries.kernels import reference
from microtome.dictionaries.kernels.weights import Weights
from microtome.training import TrainConfig
from microtome.training.layout import layouts
from microtome.training.learner import Learner, learning_rate
from microtome.training.start import Start, start_from
from tests.training.planted import SITE, planted_rows, small_config


def started(config: TrainConfig) -> Start:
    return start_from({SITE: planted_rows(2000)}, config, layouts=layouts(config))


def learner_of(config: TrainConfig, *, start: Start | None = None, steps: int = 200, product: str = "float32") -> Learner:
    begin = start or started(config)
    whole = {"layout": layouts(config)[0], "weights": begin.weights[0], "peak_lr": 4e-3, "steps": steps, "product": product}
    return Learner(begin, config, **whole)  # type: ignore[arg-type]  # arguments by name


def learn(learner: Learner, *, steps: int, first: int = 0) -> list[float]:
    return [learner.step(learner.start.scaled({SITE: planted_rows(256, seed=seed)})).loss for seed in range(first, first + steps)]


def test_it_learns_and_decoder_rows_stay_at_norm_1() -> None:
    learner = learner_of(small_config())
    losses = learn(learner, steps=200)
    assert losses[-1] < 0.4 * losses[0]
    torch.testing.assert_close(learner.weights.members[0]["W_dec"].norm(dim=1), torch.ones(32))


def test_one_step_is_adam_on_the_gradient_of_the_dense_formula() -> None:
    config = small_config(decay_share=0.0, warmup_share=0.0)
    learner = learner_of(config)
    scaled = learner.start.scaled({SITE: planted_rows(256)})
    start: Mapping[str, torch.Tensor] = {**learner.weights.members[0], "b_dec": learner.weights.b_dec}
    dense = Weights(**{name: start[name].clone().requires_grad_() for name in Weights._fields})
    reference.loss(scaled[SITE], dense, k=3).backward()
    W_dec = dense.W_dec
    assert W_dec.grad is not None
    along = (W_dec.grad * W_dec).sum(1, keepdim=True) * W_dec
    W_dec.grad = (W_dec.grad - along).detach()
    torch.optim.Adam(list(dense), lr=4e-3).step()
    expected = dense._replace(W_dec=F.normalize(W_dec, dim=1))

    learner.step(scaled)

    for name, theirs in expected._asdict().items():
        torch.testing.assert_close(start[name], theirs.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("decoder_norm", ["unit", "free"])
def test_a_frozen_decoder_does_not_move(decoder_norm: str) -> None:
    learner = learner_of(small_config(frozen_decoder=True, decoder_norm=decoder_norm))
    before = learner.weights.members[0]["W_dec"].clone()
    losses = learn(learner, steps=50)
    assert torch.equal(learner.weights.members[0]["W_dec"], before)
    assert losses[-1] < losses[0]


def test_a_restored_learner_continues_bit_for_bit() -> None:
    config = small_config(dead_after_tokens=300)
    learner, copy = learner_of(config), learner_of(config)
    learn(learner, steps=20)
    copy.restore({name: tensor.clone() for name, tensor in learner.state().items()})
    assert learn(learner, steps=20, first=20) == learn(copy, steps=20, first=20)
    for name, tensor in learner.state().items():
        assert torch.equal(tensor, copy.state()[name]), name


def test_the_bf16_shadow_follows_the_weights() -> None:
    exact, quick = learner_of(small_config()), learner_of(small_config(), product="bfloat16")
    assert learn(quick, steps=100)[-1] == pytest.approx(learn(exact, steps=100)[-1], rel=0.05)


def test_the_rate_rises_to_its_peak_and_falls_to_almost_nothing() -> None:
    config = small_config(warmup_share=0.1, decay_share=0.5)
    rates = [learning_rate(step, steps=100, peak=1.0, config=config) for step in range(100)]
    assert rates[:2] == pytest.approx([0.1, 0.2])
    assert rates[9:51] == [1.0] * 42
    assert rates[75] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.02)
