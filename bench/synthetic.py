"""How much of a planted dictionary is found, ours against SAELens, on the same rows: share of the true directions matched above cosine 0.9.

Rows of `microtome.training.Planted` (d 128, 512 directions, 8 a row on average), dictionaries of 1,024 features, TopK with k 4, 8 and 16, 1.6 million
rows each. Both trainers get the same learning rates, 1e-3 and 4e-3 with a linear fall to 0, and each keeps its better one by held-out FVU. The random
dictionary stands beside them. The ratio is of shares at the k nearest to the truth; `--quick` trains on a tenth and asserts nothing.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: idle threads sleep

import numpy as np
import torch
from rows import row, say

from microtome.dictionaries import SAE, TopK, random_like
from microtome.models import Site
from microtome.training import Fit, Planted, PlantedConfig, Schedule, TrainConfig, recovered

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "peers"))
SITE = Site("resid_post", 0)
D_DICT, BATCH, HELD = 1024, 4096, 8192
KS, RATES = (4, 8, 16), (1e-3, 4e-3)
BAR_K = 8


class InMemory:
    """The batches in order, for ever."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows, self.served = rows, 0

    def __next__(self) -> torch.Tensor:
        at = self.served * BATCH % (len(self.rows) - BATCH + 1) // BATCH * BATCH
        self.served += 1
        return self.rows[at : at + BATCH]

    def state(self) -> dict[str, Any]:
        return {"served": self.served}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.served = int(state["served"])


def main() -> None:
    import setup as peers

    steps = 40 if "--quick" in sys.argv else 400
    planted = Planted(PlantedConfig())
    rows = planted.rows(min(steps, 100) * BATCH + HELD)
    train, held = rows[:-HELD], rows[-HELD:]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.npy"
        np.save(file, rows.numpy())
        for k in KS:
            ours = min((_ours(train, held, k=k, steps=steps, lr=lr) for lr in RATES), key=lambda found: found[0])
            peer = min((_saelens(peers.python_of("saelens"), file, k=k, steps=steps, lr=lr) for lr in RATES), key=lambda found: found[0])
            found = {name: recovered(dictionary, planted) for name, (_, dictionary) in (("ours", ours), ("SAELens", peer))}
            chance = recovered(random_like(ours[1]), planted)
            for name, (fvu, _) in (("ours", ours), ("SAELens", peer)):
                each = found[name]
                say(f"k {k:2} {name:8} FVU {fvu:.4f}, found {each.share:.1%}, by occurrence {each.weighted:.1%}, mean cosine {each.mean_cosine:.3f}")
            say(f"k {k:2} random   found {chance.share:.1%}, mean cosine {chance.mean_cosine:.3f}")
            if k == BAR_K and steps == 400:
                row(
                    f"planted directions found ÷ SAELens, k {k}",
                    ratio=found["ours"].share / max(found["SAELens"].share, 1e-9),
                    bar=1.0,
                    ours=round(found["ours"].share, 4),
                    peer=round(found["SAELens"].share, 4),
                    unit="share",
                    equal=f"FVU {ours[0]:.4f}, peer {peer[0]:.4f}; a random dictionary finds {chance.share:.1%}",
                )


def _ours(train: torch.Tensor, held: torch.Tensor, *, k: int, steps: int, lr: float) -> tuple[float, SAE]:
    config = TrainConfig(
        reads=(SITE,), nonlinearity=TopK(k=k), d_dict=D_DICT, tokens=steps * BATCH, lr=lr, schedule=Schedule(warmup_share=0, decay_share=1)
    )
    dictionary = Fit(InMemory(train), config, dev=held).run()
    assert isinstance(dictionary, SAE)
    return _fvu(dictionary, held), dictionary


def _saelens(python: Path, file: Path, *, k: int, steps: int, lr: float) -> tuple[float, SAE]:
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "weights.npz"
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "PYTHONPATH": str(HERE / "peers")}
        command = [
            str(python),
            str(HERE / "peers" / "saelens_train.py"),
            str(file),
            str(D_DICT),
            str(steps),
            "topk",
            f"k={k}",
            f"lr={lr}",
            f"save={saved}",
        ]
        ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if ran.returncode != 0:
            sys.exit(f"SAELens failed:\n{ran.stderr[-3000:]}")
        stored = {name: torch.from_numpy(weight) for name, weight in np.load(saved).items()}
    fvu = float(json.loads(ran.stdout.splitlines()[-1])["fvu"])
    return fvu, SAE(site=SITE, nonlinearity=TopK(k=k), weights=stored, input_scale=1.0)


def _fvu(dictionary: SAE, held: torch.Tensor) -> float:
    unexplained = float((dictionary.reconstruct(held) - held).double().square().sum())
    return unexplained / float((held - held.mean(0)).double().square().sum())


if __name__ == "__main__":
    main()
