"""Backward: from the slope of the reconstruction to a gradient for every weight, with work proportional to the active places.

First the decoder's half gives each member's `Into`, the gradient for its entries; losses on the activity itself add to it; the encoder's half
takes it from there. Both halves equal dense autograd (tests/training/test_step.py).
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from microtome.shapes import Float, Tensor
from microtome.training.forward import Forward, Parameters, Plan, Tensors
from microtome.training.losses import Push, Seen
from microtome.training.rules import Gradient


@dataclass(kw_only=True)
class Into:
    """The gradient for one member's entries, while it is gathered."""

    values: Tensor
    strength: Tensor | None = None
    jump: Tensor | None = None
    pre: Tensor | None = None
    everywhere: Tensor | None = None
    """For every pre-activation of a feature on all rows alike, [d_dict]."""
    threshold: Tensor | None = None
    """[d_dict]"""


@dataclass(frozen=True, kw_only=True)
class Halfway:
    """The decoder's half done."""

    into: list[Into]
    gradients: Parameters


def through_decoder(forward: Forward, slopes: Sequence[Tensor], *, weights: Parameters, plan: Plan, scale: float = 1.0) -> Halfway:
    """From each prefix's slope [n, d_targets] to decoders, skips, b_dec and entries. A prefix's places are in it and in all longer ones.

    All slopes are to be multiplied by `scale`; that is done where there are few numbers.
    """
    arriving = list(slopes)
    for shorter in range(len(arriving) - 2, -1, -1):
        arriving[shorter] = arriving[shorter] + arriving[shorter + 1]
    intos: list[Into] = []
    members: list[Tensors] = []
    for number, (member, active) in enumerate(zip(weights.members, forward.active, strict=True)):
        into = Into(values=torch.zeros_like(active.values))
        scaled, sums = active.values * scale, list[Tensor]()
        for (low, high), slope in zip(pairwise((0, *plan.prefixes)), arriving, strict=True):
            rows, part = plan.written(slope, number), active.support.part(low, high)
            into.values[part.place] = part.support.dots(rows, member["W_dec"])
            if not plan.frozen_decoder:
                sums.append(part.support.sums(scaled[part.place], rows))
        into.values.mul_(scale)
        gradients = {"W_dec": functools.reduce(Tensor.add_, sums) if sums else torch.zeros_like(member["W_dec"])}
        if "W_skip" in member:
            gradients["W_skip"] = (plan.own(arriving[0], number).T @ forward.x[number]).mul_(scale)
        intos.append(into)
        members.append(gradients)
    total = arriving[0].new_ones(len(arriving[0])) @ arriving[0]  # as a product, in half the time of a sum
    return Halfway(into=intos, gradients=Parameters(members=members, b_dec=total.mul_(scale)))


def through_encoder(forward: Forward, half: Halfway, *, weights: Parameters, plan: Plan) -> Parameters:
    """The rest of the way; the gradients of `half` are completed and returned."""
    gradients = half.gradients
    for number, (member, active, into) in enumerate(zip(weights.members, forward.active, half.into, strict=True)):
        mine, x, support = gradients.members[number], forward.x[number], active.support
        back = plan.rules[number].backward(active, Gradient(into.values, into.strength, into.jump), weights=member)
        product, bias = back.product, back.product if back.bias is None else back.bias
        if into.pre is not None:
            product, bias = product + into.pre, bias + into.pre
        mine["W_enc"], mine["b_enc"] = support.sums(product, x), support.total(bias)
        mine.update(back.tensors)
        everywhere = torch.zeros_like(member["b_enc"]) if into.everywhere is None else into.everywhere
        if into.everywhere is not None:
            mine["W_enc"].addr_(everywhere, x.sum(0))
            mine["b_enc"].add_(everywhere, alpha=len(x))
        if into.threshold is not None and "threshold" in member:
            mine["threshold"] = mine["threshold"] + into.threshold
        if plan.layout.centred:
            total = mine["b_enc"] if back.bias is None else support.total(product).add_(everywhere, alpha=len(x))
            gradients.b_dec.sub_(plan.group.over_features(total @ member["W_enc"]))
    return gradients


def through_input(forward: Forward, half: Halfway, *, weights: Parameters, plan: Plan) -> list[Tensor]:
    """The gradient for what each member reads, by way of its features."""
    found: list[Tensor] = []
    for rule, member, active, into in zip(plan.rules, weights.members, forward.active, half.into, strict=True):
        back = rule.backward(active, Gradient(into.values, into.strength, into.jump), weights=member)
        found.append(active.support.decode(back.product, member["W_enc"]))
    return found


def learn_gate(forward: Forward, target: Float[Tensor, "n d_targets"], *, half: Halfway, weights: Parameters, plan: Plan) -> Float[Tensor, ""]:
    """The auxiliary loss of gated dictionaries: the strengths reconstruct through the decoder as it is; its gradient reaches the entries alone."""
    error = weights.b_dec - target
    for number, (member, active) in enumerate(zip(weights.members, forward.active, strict=True)):
        plan.write(error, number, rows=plan.group.over_features(active.support.decode(active.strength, member["W_dec"])))
        if "W_skip" in member:
            plan.own(error, number).add_(forward.x[number] @ member["W_skip"].T)
    unit = len(target) * plan.width(target)
    for number, (member, active, into) in enumerate(zip(weights.members, forward.active, half.into, strict=True)):
        dots = active.support.dots(plan.written(error, number), member["W_dec"]).mul_(2 / unit)
        into.strength = dots if into.strength is None else into.strength + dots
    return error.square().sum() / unit


def penalise(forward: Forward, *, half: Halfway, weights: Parameters, plan: Plan, share: float) -> Float[Tensor, ""]:
    """Every penalty on every member, times `share` of its coefficient."""
    total, width = torch.zeros((), device=weights.b_dec.device), len(weights.b_dec) // len(plan.layout.targets)
    for number, (member, active, into) in enumerate(zip(weights.members, forward.active, half.into, strict=True)):
        norms = plan.norms(member["W_dec"], number) / width**0.5 if plan.penalties else member["b_enc"]
        seen = Seen(active.support, active.pre, active.strength, member, norms, forward.x[number])
        for penalty in plan.penalties:
            push, weight = penalty.push(seen), penalty.coefficient * share
            total = total + weight * push.loss
            _add(into, push, weight=weight)
            if push.norms is not None and not plan.frozen_decoder:
                outward = push.norms * plan.copies(number) / (norms * width) * weight
                half.gradients.members[number]["W_dec"].addcmul_(outward[:, None], member["W_dec"])
    return total


def _add(into: Into, push: Push, *, weight: float) -> None:
    for name in ("strength", "jump", "pre", "everywhere", "threshold"):
        more, there = getattr(push, name), getattr(into, name)
        if more is not None:
            setattr(into, name, more * weight if there is None else there + more * weight)
