"""Fine-tuning in the model: its gradients are dense autograd's through the whole model, and the KL falls."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from microtome.dictionaries import ReLU
from microtome.errors import ConfigError
from microtome.models import Edit, Site
from microtome.training import KL, L1, train
from microtome.training.finetune import InModel, finetune
from microtome.training.layout import layouts
from microtome.training.learner import Learner
from microtome.training.splice import contexts_of
from microtome.training.start import start_from
from tests.training.planted import SITE, small_config
from tests.training.test_quality import Learnt, learnt

READS, WRITES = (Site("mlp_in", 0), Site("mlp_in", 1)), (Site("mlp_out", 0), Site("mlp_out", 1))


@pytest.fixture(scope="module")
def tiny_learnt(tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    return learnt(tmp_path_factory.mktemp("learnt"))


def cross_layer(width: int) -> Learner:
    changes: dict[str, object] = {"nonlinearity": ReLU(), "losses": (L1(),), "skip": True}
    config = small_config(kind="cross-layer", reads=READS, writes=WRITES, **changes)
    layout = layouts(config)
    rows = {site: torch.randn(300, width, generator=torch.Generator().manual_seed(number)) for number, site in enumerate((*READS, *WRITES))}
    start = start_from(rows, config, layouts=layout)
    return Learner(start, config, layout=layout[0], weights=start.weights[0], peak_lr=1e-2, steps=10, product="float32")


def test_gradients_through_the_model_are_those_of_dense_autograd(tiny_learnt: Learnt) -> None:
    """A cross-layer transcoder: layer 0's features reach the loss by both MLPs' outputs, and by what layer 1 then reads."""
    model, shards, corpus = tiny_learnt
    batch = next(iter(contexts_of(shards, corpus, split="train", tokens=100)))
    learner = cross_layer(model.d_model)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in learner.weights.named().items()}
    weights, starts, made = learner.weights.like(leaves), learner.start.sites, dict[int, torch.Tensor]()

    def read(layer: int) -> Edit:
        def edit(x: torch.Tensor) -> None:
            start, member = starts[READS[layer]], weights.members[layer]
            z = x[batch.keep] * start.scale - start.mean
            made[layer] = (z @ member["W_enc"].T + member["b_enc"]).relu() @ member["W_dec"]
            made[layer] = torch.cat([made[layer][:, : model.d_model] + z @ member["W_skip"].T, made[layer][:, model.d_model :]], 1)

        return edit

    def write(layer: int) -> Edit:
        def edit(x: torch.Tensor) -> torch.Tensor:
            width = model.d_model
            total = weights.b_dec[layer * width : (layer + 1) * width] + made[layer][:, :width]
            total = total + made[0][:, width:] if layer == 1 else total
            changed = x.clone()
            changed[batch.keep] = total / starts[WRITES[layer]].scale
            return changed

        return edit

    edits = {site: kind(layer) for kind, sites in ((read, READS), (write, WRITES)) for layer, site in enumerate(sites)}
    expected = F.log_softmax(model.logits(batch.tokens, mask=batch.real, edit=edits, gradients=True), -1)[..., 3].sum()
    expected.backward()  # pyright: ignore[reportUnknownMemberType]  # torch leaves it untyped

    placed = InModel([learner], batch)
    found = F.log_softmax(model.logits(batch.tokens, mask=batch.real, edit=placed.edits(), gradients=True), -1)[..., 3].sum()
    found.backward()  # pyright: ignore[reportUnknownMemberType]  # torch leaves it untyped

    torch.testing.assert_close(found, expected)
    for name, gradient in placed.gradients()[0].named().items():
        torch.testing.assert_close(gradient, leaves[name].grad, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_the_kl_falls(tiny_learnt: Learnt) -> None:
    model, shards, corpus = tiny_learnt
    learner = cross_layer(model.d_model)
    loss = KL(tokens=1000, lr_share=1.0)
    first = finetune([learner], model, shards, corpus=corpus, loss=loss)
    last = [finetune([learner], model, shards, corpus=corpus, loss=loss) for _ in range(10)][-1]
    assert sum(last) < 0.8 * sum(first)


def test_it_is_the_last_phase_of_training(tiny_learnt: Learnt, tmp_path: Path) -> None:
    model, shards, corpus = tiny_learnt
    config = small_config(reads=(SITE,), losses=(KL(tokens=500),))
    trained = train(shards, corpus, config=config, out=tmp_path / "d", model=model)
    assert trained.quality.ce_recovered is not None
    with pytest.raises(ConfigError, match="needs the model"):
        train(shards, corpus, config=config, out=tmp_path / "e")
