"""The output side of features: what their directions do to the logits, and which directions are alike."""

import math
from typing import NamedTuple

import torch

from microtome.dictionaries import Dictionary
from microtome.models import Model
from microtome.shapes import Bool, Float, Int, Tensor

_BLOCK = 256
"""Features a product."""


class Ranked(NamedTuple):
    """Ids and scores, best first."""

    ids: Int[Tensor, "n m"]
    scores: Float[Tensor, "n m"]


class Ends(NamedTuple):
    """Both ends of the direct logits of some features."""

    top: Ranked
    bottom: Ranked


def output_directions(dictionary: Dictionary) -> Float[Tensor, "d_dict d_out"]:
    """What one unit of each feature adds to the residual stream in all, float32: the sum over the sites that a cross-layer dictionary writes.

    A crosscoder's parts lie side by side.
    """
    if len(dictionary.inputs) > 1 or len(dictionary.writes) == 1:
        return dictionary.directions().detach().float().cpu()
    return torch.stack([dictionary.directions(write=site).detach().float().cpu() for site in dictionary.writes]).sum(0)


def direct_logits(
    directions: Float[Tensor, "n d_model"], model: Model, *, mask: Bool[Tensor, "vocab"], limit: int, room: Float[Tensor, "n vocab"] | None = None
) -> Ends:
    """Top and bottom vocabulary entries of each direction at unit length, the final norm's gain folded in; `room` is overwritten if given.

    Entries outside `mask` (special tokens, unused rows) are left out. Direct path only: later layers are not asked (Elhage et al. 2021).
    """
    limit, unusable = min(limit, int(mask.sum())), torch.nonzero(~mask).squeeze(1).to(model.device)
    if not limit:
        nothing = Ranked(torch.zeros(len(directions), 0, dtype=torch.int64), torch.zeros(len(directions), 0))
        return Ends(nothing, nothing)
    logits = model.direct_logits(torch.nn.functional.normalize(directions, dim=1), out=room)
    found: list[Ranked] = []
    for out_of_sight in (-math.inf, math.inf):
        scores, ids = logits.index_fill_(1, unusable, out_of_sight).topk(limit, dim=1, largest=out_of_sight < 0)
        found.append(Ranked(ids.cpu(), scores.cpu()))
    return Ends(*found)


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
