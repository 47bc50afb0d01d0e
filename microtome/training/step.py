"""One step of anything that is trained: forward, losses, backward. Written once; what differs comes as a `Plan`.

loss = sum over targets of mean((z_hat - z)^2)  (the mean over prefixes, where there are several)  + penalties / rows
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from microtome.shapes import Float, Tensor
from microtome.training.backward import learn_gate, penalise, through_decoder, through_encoder
from microtome.training.forward import Batch, Forward, Parameters, Plan, reconstruct
from microtome.training.rules import Encoder


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """What one batch gives."""

    gradients: Parameters
    forward: Forward
    error: Float[Tensor, "n d_targets"]
    """z_hat - z, of the whole reconstruction."""
    loss: Float[Tensor, ""]
    """Squared error of the whole reconstruction: mean over rows, columns and targets."""
    penalty: Float[Tensor, ""]
    """All other losses, weighted; revival is not among them."""


def step(batch: Batch, weights: Parameters, *, plan: Plan, encoders: Sequence[Encoder], share: float = 1.0) -> Stepped:
    """Loss and gradients of one batch; `share` of their coefficients is what the penalties count."""
    own = plan.one_target and plan.layout.centred and batch.prefix_target is None and batch.inputs[0] is batch.target
    # A dictionary of what it reads: the encoder's input is the target less b_dec, which spares a pass over the batch.
    forward = reconstruct(batch.inputs, weights, plan=plan, encoders=encoders, bare=own)
    targets = [forward.x[0] if own else batch.target] * len(plan.prefixes)
    if batch.prefix_target is not None:
        targets[0] = batch.prefix_target
    errors = [made.sub_(wanted) for made, wanted in zip(forward.reconstructions, targets, strict=True)]
    unit = len(batch.target) * plan.width(batch.target)
    half = through_decoder(forward, errors, scale=2 / (unit * len(errors)), weights=weights, plan=plan)
    penalty = torch.zeros((), device=batch.target.device)
    if plan.rules[0].gate_learns:
        penalty = penalty + learn_gate(forward, batch.target, half=half, weights=weights, plan=plan)
    penalty = penalty + plan.group.over_features(penalise(forward, half=half, weights=weights, plan=plan, share=share / len(batch.target)))
    gradients = through_encoder(forward, half, weights=weights, plan=plan)
    loss = torch.linalg.vector_norm(errors[-1]).square() / (unit * len(plan.layout.targets))
    return Stepped(gradients=gradients, forward=forward, error=errors[-1], loss=loss, penalty=penalty)
