"""One dictionary learning at one learning rate: weights, Adam, and which features are alive."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from microtome.dictionaries.kernels import Product, Proposer, Weights, revive, step
from microtome.shapes import Bool, Float, Int, Tensor
from microtome.training.config import TrainConfig
from microtome.training.start import Start

AUX_ROWS = 1024
"""Rows of each batch that the revival loss is taken on: an unbiased sample, since batches are shuffled."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one step gave."""

    lr: float
    loss: float
    l0: float
    dead: int
    aux_loss: float


def learning_rate(step: int, *, steps: int, peak: float, config: TrainConfig) -> float:
    """The rate of step `step` (from 0): a linear rise over `warmup_share` of the steps, and a linear fall to 0 over the last `decay_share`."""
    rise = min(1.0, (step + 1) / max(1.0, config.warmup_share * steps))
    fall = min(1.0, (steps - step) / max(1.0, config.decay_share * steps))
    return peak * min(rise, fall)


class Learner:
    """Adam on the sparse step, with unit decoder rows and revival of dead features."""

    def __init__(self, start: Start, config: TrainConfig, *, peak_lr: float, steps: int, product: Product) -> None:
        self.peak_lr = peak_lr
        self.steps = steps
        self.done = 0
        self._config = config
        self._parameters = [torch.nn.Parameter(weight.clone(), requires_grad=False) for weight in start.weights]
        self.weights = Weights(*(parameter.data for parameter in self._parameters))
        self._adam = torch.optim.Adam(self._parameters, lr=peak_lr, fused=True)
        self._state = _begin(self._adam, self._parameters)
        self._proposer = Proposer(self.weights.W_enc, product)
        self._idle = torch.zeros(config.d_dict, dtype=torch.int64, device=self.weights.b_enc.device)
        """Tokens since each feature was last active."""

    @torch.no_grad()
    def step(self, z: Float[Tensor, "n d_in"]) -> Outcome:
        """Learn from one batch in scaled units."""
        weights, config = self.weights, self._config
        found = step(z, weights, k=config.k, proposer=self._proposer)
        dead = (self._idle >= config.dead_after_tokens).nonzero().flatten()
        aux_loss = self._revive(z, found.error, gradients=found.gradients, dead=dead)
        rate = learning_rate(self.done, steps=self.steps, peak=self.peak_lr, config=config)
        self._update(found.gradients, rate)
        self._idle.add_(len(z)).mul_(found.counts == 0)
        self.done += 1
        return Outcome(lr=rate, loss=float(found.loss), l0=int(found.counts.sum()) / len(z), dead=len(dead), aux_loss=aux_loss)

    @property
    def alive(self) -> Bool[Tensor, "d_dict"]:
        """Features active within the last `dead_after_tokens`."""
        return self._idle < self._config.dead_after_tokens

    @property
    def is_finite(self) -> bool:
        """Whether all weights are numbers: the last step's are seen by no loss."""
        return all(bool(weight.isfinite().all()) for weight in self.weights)

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on."""
        return {**self._tensors(), "done": torch.tensor(self.done)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state()` of a learner with the same settings."""
        for name, tensor in self._tensors().items():
            tensor.copy_(state[name])
        self.done = int(state["done"])
        self._proposer.refresh(self.weights.W_enc)

    def _tensors(self) -> dict[str, Tensor]:
        named = {"idle": self._idle, **self.weights._asdict()}
        for name, state in zip(Weights._fields, self._state, strict=True):
            named |= {f"{name}.{part}": tensor for part, tensor in state.items()}
        return named

    def _revive(self, z: Float[Tensor, "n d_in"], error: Float[Tensor, "n d_in"], *, gradients: Weights, dead: Int[Tensor, "m"]) -> float:
        """Add the gradient of the revival loss to `gradients` (dead features have no other one), and set the bias of the dead to 0."""
        if len(dead) == 0 or self._config.aux_coefficient == 0:
            return 0.0
        self.weights.b_enc[dead] = 0.0
        centred = z[:AUX_ROWS] - self.weights.b_dec
        found = revive(centred, error[:AUX_ROWS], self.weights, dead=dead, k_aux=z.shape[1] // 2)
        gradients.W_enc.index_add_(0, dead, found.W_enc, alpha=self._config.aux_coefficient)
        gradients.W_dec.index_add_(0, dead, found.W_dec, alpha=self._config.aux_coefficient)
        return float(found.loss)

    def _update(self, gradients: Weights, rate: float) -> None:
        """Adam, with decoder rows kept at norm 1 and the part of their gradient along them, which would only change the norm, removed."""
        W_dec = self.weights.W_dec
        gradients.W_dec.addcmul_(torch.linalg.vecdot(gradients.W_dec, W_dec).unsqueeze(1), W_dec, value=-1)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.step()
        W_dec.div_(torch.linalg.vector_norm(W_dec, dim=1, keepdim=True))
        self._proposer.refresh(self.weights.W_enc)


def _begin(adam: torch.optim.Adam, parameters: list[torch.nn.Parameter]) -> list[dict[str, Tensor]]:
    """Adam's moments, made now instead of at the first step so that they can be stored and restored."""
    for parameter in parameters:
        zero = {"exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
        adam.state[parameter] = {"step": torch.zeros((), dtype=torch.float32, device=parameter.device), **zero}
    return [adam.state[parameter] for parameter in parameters]


def is_finite(outcome: Outcome) -> bool:
    """Whether the losses of a step are numbers."""
    return math.isfinite(outcome.loss) and math.isfinite(outcome.aux_loss)
