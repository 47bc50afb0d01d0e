"""How well batches are mixed, for bench/buffer.py and its peer. Needs torch."""

from collections.abc import Sequence

import torch


def mixing(batches: Sequence[torch.Tensor], rows: int) -> float:
    """Mean distance in the file between rows that follow each other in a batch, as a share of the file: 1/3 when drawn at random, 0 in order.

    Each batch is given as the numbers of its rows.
    """
    return float(torch.stack([batch.double().diff().abs().mean() for batch in batches]).mean()) / rows
