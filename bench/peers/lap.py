"""What every trainer of bench/training.py shares: the same rows in the same order, a clock at every batch, one FVU. Needs torch and numpy."""

import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

BATCH, K, LR, HELD = 4096, 32, 1e-3, 8192
WARM = 3
"""Steps not counted."""


@dataclass(frozen=True)
class Run:
    """One trainer's task, from its command line: `rows.npy d_dict steps architecture [k=32] [lr=0.001] [save=weights.npz]`."""

    train: torch.Tensor
    held: torch.Tensor
    d_dict: int
    steps: int
    architecture: str
    """`topk` or `batchtopk`."""
    k: int
    lr: float
    save: str | None
    """Where the four tensors go, a feature a row of both matrices."""

    @classmethod
    def from_argv(cls, argv: list[str]) -> "Run":
        torch.set_num_threads(2)
        rows = torch.from_numpy(np.load(argv[1]))
        named = dict(word.split("=", 1) for word in argv[5:] if "=" in word)
        settings = (int(named.get("k", K)), float(named.get("lr", LR)), named.get("save"))
        return cls(rows[:-HELD], rows[-HELD:], int(argv[2]), int(argv[3]), argv[4], *settings)


class Laps(Iterator[torch.Tensor]):
    """The batches in order, for ever; notes the time at each request, so what is timed is the trainer's own loop."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows
        self.times: list[float] = []

    def __next__(self) -> torch.Tensor:
        at = (len(self.times) % (len(self.rows) // BATCH)) * BATCH
        self.times.append(time.perf_counter())
        return self.rows[at : at + BATCH]


def report(times: list[float], run: Run, reconstruct: Callable[[torch.Tensor], torch.Tensor], **more: float) -> None:
    """Print the median step, `more`, and the FVU on the held-out rows: sum of squares unexplained over centred sum of squares."""
    steps = [after - before for before, after in itertools.pairwise(times)]
    with torch.no_grad():
        unexplained = sum(float((reconstruct(rows) - rows).double().square().sum()) for rows in run.held.split(2048))
    variance = float((run.held - run.held.mean(0)).double().square().sum())
    print(json.dumps({"step_s": statistics.median(steps[min(WARM, len(steps) // 2) :]), "fvu": unexplained / variance, **more}))
    sys.stdout.flush()
