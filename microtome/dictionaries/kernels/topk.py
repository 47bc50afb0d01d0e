"""Exact top-k of wide rows, faster than torch's own on a CPU."""

import torch

from microtome.shapes import Float, Int, Tensor

_GROUPS = 8


def top_k(pre: Float[Tensor, "n d_dict"], k: int) -> Int[Tensor, "n k_kept"]:
    """Columns of the `k` largest values of each row, in no order; all columns where there are fewer than `k`.

    Two stages: a row is cut into strided groups of eight, and only the k groups with the largest maxima can hold one of the k largest values.
    Which of several equal values is kept is not specified.
    """
    rows, width = pre.shape
    k = min(k, width)
    per_group, rest = divmod(width, _GROUPS)
    if rest or per_group < 2 * k or pre.device.type != "cpu":
        return pre.topk(k, dim=-1, sorted=False).indices
    best = pre.view(rows, _GROUPS, per_group).amax(1).topk(k, dim=-1, sorted=False).indices
    strides = torch.arange(_GROUPS, device=pre.device) * per_group
    candidates = (best[:, None, :] + strides[None, :, None]).reshape(rows, _GROUPS * k)
    return candidates.gather(1, pre.gather(1, candidates).topk(k, dim=-1, sorted=False).indices)
