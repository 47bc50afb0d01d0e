"""From what was learnt in scaled and centred units to the dictionary that stands for it, which gives the same outputs on raw rows.

An encoder that learnt on z - c reads z in the dictionary: W_enc (z - c) + b = W_enc z + (b - W_enc c), and so for every bias that meets W_enc.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from microtome.dictionaries import SAE, BatchTopK, Crosscoder, Dictionary, DictionarySet, Nonlinearity, Transcoder
from microtome.shapes import Float, Tensor
from microtome.training.config import TrainConfig
from microtome.training.forward import Tensors
from microtome.training.learner import Learner
from microtome.training.rules.batchtopk import BatchTopKRule

Made = Dictionary | DictionarySet


@torch.no_grad()
def dictionary_of(learners: Sequence[Learner], config: TrainConfig) -> Made:
    """The dictionary that the learners stand for now: of `layers` one learner a layer, else one in all."""
    if config.kind == "layers":
        singles = [_single(learner, config=learner.config) for learner in learners]
        return DictionarySet(tuple(singles), kind="layers")
    if config.kind == "cross-layer":
        learner = learners[0]
        members = tuple(_transcoder(learner, number, config=config) for number in range(len(learner.layout.members)))
        return DictionarySet(members, kind="cross-layer")
    return _single(learners[0], config=config)


def _single(learner: Learner, *, config: TrainConfig) -> Dictionary:
    if config.kind == "transcoder":
        return _transcoder(learner, 0, config=config)
    weights, nonlinearity = _copied(learner, 0), _nonlinearity(learner, 0)
    scales = tuple(learner.start.sites[site].scale for site in config.reads)
    if config.kind == "sae":
        weights["b_dec"] = learner.weights.b_dec.clone()
        return SAE(site=config.reads[0], nonlinearity=nonlinearity, weights=weights, input_scale=scales[0], pooling=config.pooling)
    weights = _folded(weights, learner.start.centre(learner.layout.members[0]))
    weights["b_dec"] = learner.weights.b_dec.clone()
    widths = tuple(len(learner.start.sites[site].mean) for site in config.reads)
    return Crosscoder(reads=config.reads, widths=widths, nonlinearity=nonlinearity, weights=weights, input_scales=scales, pooling=config.pooling)


def _transcoder(learner: Learner, number: int, *, config: TrainConfig) -> Transcoder:
    """One member; its decoders are brought from each target's scale to that of the first, which alone has the target's bias."""
    member = learner.layout.members[number]
    writes = config.targets[member.first : member.last]
    scales = [learner.start.sites[site].scale for site in writes]
    centre = learner.start.centre(member)
    weights = _folded(_copied(learner, number), centre)
    biases = learner.weights.b_dec.unflatten(0, (len(config.targets), -1))[member.first : member.last].clone()
    if "W_skip" in weights:
        biases[0] -= weights["W_skip"] @ centre
    shared = torch.tensor([scales[0] / scale for scale in scales], device=biases.device)
    if len(writes) > 1:
        rows = weights["W_dec"]
        apart = rows[:, None].expand(-1, len(writes), -1) if learner.layout.tied else rows.unflatten(1, (len(writes), -1))
        weights["W_dec"] = (apart * shared[:, None]).contiguous()
    weights["b_dec"] = biases * shared[:, None] if config.kind == "transcoder" and len(writes) > 1 else biases[0]
    return Transcoder(
        reads=member.reads[0],
        writes=writes,
        nonlinearity=_nonlinearity(learner, number),
        weights=weights,
        input_scale=learner.start.sites[member.reads[0]].scale,
        output_scale=scales[0],
        pooling=config.pooling,
    )


def _copied(learner: Learner, number: int) -> Tensors:
    """A member's weights; where a group shares the features, all of them on its first process, and on the others their own."""
    members = learner.weights.members[number].items()
    return {name: weight.clone() if name == "W_skip" else learner.group.gathered(weight).to(weight.device, copy=True) for name, weight in members}


def _folded(weights: Tensors, centre: Float[Tensor, "d_in"]) -> Tensors:
    """The weights of an encoder that reads rows from which the centre was not taken."""
    moved = weights["W_enc"] @ centre
    folded = {**weights, "b_enc": weights["b_enc"] - moved}
    if "b_mag" in weights:
        folded["b_mag"] = weights["b_mag"] - weights["r_mag"].exp() * moved
    return folded


def _nonlinearity(learner: Learner, number: int) -> Nonlinearity:
    """With the running threshold, where it has one."""
    rule, nonlinearity = learner.plan.rules[number], learner.config.nonlinearity
    if isinstance(rule, BatchTopKRule) and isinstance(nonlinearity, BatchTopK):
        return replace(nonlinearity, threshold=rule.threshold)
    return nonlinearity
