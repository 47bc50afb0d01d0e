"""The output side of features: what their directions do to the logits, and which directions are alike."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch

from microtome.dictionaries import Dictionary
from microtome.models import Model
from microtome.shapes import Bool, Float, Int, Tensor

_BLOCK, _LOGITS_BLOCK = 256, 64
"""Features a product: of all cosines, of all logits."""


class Ranked(NamedTuple):
    """Ids and scores, best first."""

    ids: Int[Tensor, "n m"]
    scores: Float[Tensor, "n m"]


class Block(NamedTuple):
    """Both ends of the direct logits of the features `first`, `first + 1`, …"""

    first: int
    top: Ranked
    bottom: Ranked


def output_directions(dictionary: Dictionary) -> Float[Tensor, "d_dict d_out"]:
    """What one unit of each feature adds to the residual stream in all, float32: the sum over the sites that a cross-layer dictionary writes.

    A crosscoder's parts lie side by side.
    """
    if len(dictionary.inputs) > 1 or len(dictionary.writes) == 1:
        return dictionary.directions().detach().float().cpu()
    return torch.stack([dictionary.directions(write=site).detach().float().cpu() for site in dictionary.writes]).sum(0)


def direct_logits(directions: Float[Tensor, "d_dict d_out"], model: Model, *, mask: Bool[Tensor, "vocab"], limit: int) -> Iterator[Block]:
    """Top and bottom vocabulary entries of each direction at unit length, the final norm's gain folded in, a block of features at a time.

    Entries outside `mask` (special tokens, unused rows) are left out. Direct path only: later layers are not asked (Elhage et al. 2021).
    """
    mask = mask.to(model.device)
    limit, unusable = min(limit, int(mask.sum())), torch.nonzero(~mask).squeeze(1)
    room = torch.empty(min(_LOGITS_BLOCK, len(directions)) if limit else 0, len(mask), device=model.device)  # one for all blocks
    for start in range(0, len(directions), _LOGITS_BLOCK):
        unit = torch.nn.functional.normalize(directions[start : start + _LOGITS_BLOCK], dim=1)
        if not limit:
            nothing = Ranked(torch.zeros(len(unit), 0, dtype=torch.int64), torch.zeros(len(unit), 0))
            yield Block(start, nothing, nothing)
            continue
        logits = model.direct_logits(unit, out=room[: len(unit)])
        high, top = logits.index_fill_(1, unusable, -math.inf).topk(limit, dim=1)
        low, bottom = logits.index_fill_(1, unusable, math.inf).topk(limit, dim=1, largest=False)
        yield Block(start, Ranked(top.cpu(), high.cpu()), Ranked(bottom.cpu(), low.cpu()))


def neighbours(directions: Float[Tensor, "d_dict d_model"], *, limit: int) -> Ranked:
    """The features whose directions have the largest cosine with each feature's, itself left out; a zero direction has cosine 0 to all."""
    unit = torch.nn.functional.normalize(directions, dim=1)
    limit = min(limit, len(unit) - 1)
    ids: list[Tensor] = []
    scores: list[Tensor] = []
    for start in range(0, len(unit), _BLOCK):
        cosines = unit[start : start + _BLOCK] @ unit.T
        own = torch.arange(len(cosines))
        cosines[own, own + start] = -2.0
        score, which = cosines.topk(limit, dim=1)
        ids.append(which)
        scores.append(score)
    return Ranked(torch.cat(ids), torch.cat(scores))
