"""The training step against SAELens and sparsify: tokens a second on the same rows in memory, d 576, batch 4,096, k 32, CPU, 2 threads.

Every trainer runs its own loop in its own process, with a learning rate of 1e-3 that falls linearly to 0, and is timed from batch to batch; the
step is the median. Equality: after the same tokens, our FVU on held-out rows is not worse than the peer's by more than 1 %.

The rows are synthetic: sums of a few of 8,192 random directions with power-law rates (24 a row), log-normal sizes, and noise. SAELens' fastest
setting is `autocast` where the processor multiplies bf16, else its default; what ran is in the row. `--quick` takes few steps and asserts nothing.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "peers"))
ROWS = HERE / ".work" / "training-rows.npy"
SIZES = {4608: 60, 18432: 20}
"""Features: steps."""
BARS = {"SAELens": {4608: 9.0, 18432: 13.0}, "SAELens at its fastest setting": {4608: 4.5, 18432: 7.0}, "sparsify": {4608: 3.5, 18432: 3.3}}
ROUNDS = 1
"""Of every trainer; the step is the median within a round, and more rounds show the drift of the machine."""


def main() -> None:
    import setup as peers
    import torch

    from microtome.dictionaries.kernels import pick_product

    quick = "--quick" in sys.argv
    if not ROWS.exists():
        make_rows(ROWS)
    commands = {
        "ours": [sys.executable, str(HERE / "training.py"), "--ours"],
        "SAELens": [str(peers.python_of("saelens")), str(HERE / "peers" / "saelens_topk.py")],
        "SAELens autocast": [str(peers.python_of("saelens")), str(HERE / "peers" / "saelens_topk.py"), "autocast"],
        "sparsify": [str(peers.python_of("sparsify")), str(HERE / "peers" / "sparsify_topk.py")],
    }
    if pick_product(torch.device("cpu")) == "float32":
        del commands["SAELens autocast"]  # emulated bf16 is ten times slower than fp32: here the default is the fastest setting
    for d_dict, steps in SIZES.items():
        found: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
        for turn in range(1 if quick else ROUNDS):
            for name, command in commands.items():
                if name.endswith("autocast") and turn:
                    continue
                found[name].append(_timed(name, command, d_dict=d_dict, steps=4 if quick or name.endswith("autocast") else steps))
        _rows(found, d_dict=d_dict, check=not quick)


def _timed(name: str, command: list[str], *, d_dict: int, steps: int) -> dict[str, float]:
    """One run of a trainer; `autocast` differs in speed alone, so it takes few steps."""
    head, tail = command[:2], command[2:]
    if tail == ["--ours"]:
        head, tail = [*head, *tail], []
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "PYTHONPATH": str(HERE / "peers")}
    start = _cpu()
    ran = subprocess.run([*head, str(ROWS), str(d_dict), str(steps), *tail], capture_output=True, text=True, env=environment, check=False)
    if ran.returncode != 0:
        sys.exit(f"{name} failed:\n{ran.stderr[-3000:]}")
    result: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    others = _others(start)
    print(f"{name}, {d_dict} features: {1000 * result['step_s']:.0f} ms a step, FVU {result['fvu']:.4f}, others {others:.0%} of CPU", file=sys.stderr)
    return result


def _rows(found: Mapping[str, list[dict[str, float]]], *, d_dict: int, check: bool) -> None:
    from lap import BATCH

    step = {name: statistics.median(run["step_s"] for run in runs) for name, runs in found.items()}
    fvu = {name: statistics.median(run["fvu"] for run in runs) for name, runs in found.items()}
    fastest = min((name for name in ("SAELens", "SAELens autocast") if name in step), key=lambda name: step[name])
    for peer, source in (("SAELens", "SAELens"), ("SAELens at its fastest setting", fastest), ("sparsify", "sparsify")):
        compared = "SAELens" if peer.startswith("SAELens") else peer
        fits = fvu["ours"] <= 1.01 * fvu[compared]
        assert fits or not check, f"at equal tokens our FVU is {fvu['ours']:.4f}, that of {compared} {fvu[compared]:.4f}"
        row: dict[str, Any] = {
            "name": f"training step ÷ {peer}, {d_dict} features" + (f" ({source})" if peer not in (source, "sparsify") else ""),
            "ratio": round(step[source] / step["ours"], 3),
            "bar": BARS[peer][d_dict],
            "ours": round(BATCH / step["ours"]),
            "peer": round(BATCH / step[source]),
            "unit": "tokens/s",
            "equal": f"FVU at equal tokens {fvu['ours']:.4f}, peer {fvu[compared]:.4f}" if check else None,
        }
        print(json.dumps(row), flush=True)


def ours() -> None:
    """Our own loop, called as `training.py --ours rows.npy d_dict steps`."""
    from lap import BATCH, LR, K, Laps, Run, report

    from microtome.models import Site
    from microtome.training import Fit, TrainConfig

    run = Run.from_argv([arg for arg in sys.argv if arg != "--ours"])

    class InMemory(Laps):
        def state(self) -> dict[str, Any]:
            return {"served": 0}

        def restore(self, state: Mapping[str, Any]) -> None:
            self.times.clear()

    laps = InMemory(run.train)
    site = Site("resid_post", 0)
    config = TrainConfig(
        site=site, d_dict=run.d_dict, k=K, tokens=run.steps * BATCH, batch_size=BATCH, lr=LR, warmup_share=0, decay_share=1, dead_after_tokens=10**7
    )
    dictionary = Fit(laps, config, dev=run.held).run()
    report([*laps.times, time.perf_counter()], run, dictionary.reconstruct)


def make_rows(file: Path, *, d: int = 576, directions: int = 8192, active: float = 24.0, rows: int = 64 * 4096 + 8192) -> None:
    """Rows whose dictionary is known, so that a dictionary can be found in them."""
    import numpy as np
    import torch
    import torch.nn.functional as F

    generator = torch.Generator().manual_seed(20_261_121)  # no trainer's seed, or its first rows would be the true directions
    truth = F.normalize(torch.randn(directions, d, generator=generator), dim=1)
    rate = (torch.arange(directions) + 20.0) ** -0.8
    rate = (rate * (active / rate.sum())).clamp(max=0.5)
    size = torch.exp(0.3 * torch.randn(directions, generator=generator))
    offset = 0.05 * torch.randn(d, generator=generator)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial.npy")
    stored = np.lib.format.open_memmap(partial, "w+", np.float32, (rows, d))
    for first in range(0, rows, 4096):
        on = torch.rand(4096, directions, generator=generator) < rate
        row, which = on.nonzero(as_tuple=True)
        value = size[which] * torch.exp(0.25 * torch.randn(len(which), generator=generator))
        starts = torch.searchsorted(row, torch.arange(4096))
        clean = F.embedding_bag(which, truth, starts, per_sample_weights=value, mode="sum")
        stored[first : first + 4096] = (clean + offset + 0.05 * torch.randn(4096, d, generator=generator)).numpy()
    stored.flush()
    partial.rename(file)


def _cpu() -> tuple[float, float, float]:
    """Busy and total time of the machine, and time of this process' children, in seconds."""
    ticks = [int(part) for part in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    times = os.times()
    rate = os.sysconf("SC_CLK_TCK")
    return (sum(ticks) - ticks[3] - ticks[4]) / rate, sum(ticks) / rate, times.children_user + times.children_system


def _others(start: tuple[float, float, float]) -> float:
    """Share of the machine that other processes took since `start`; a figure taken beside busy neighbours means little."""
    now = _cpu()
    return max(0.0, (now[0] - start[0]) - (now[2] - start[2])) / max(1e-9, now[1] - start[1])


if __name__ == "__main__":
    ours() if "--ours" in sys.argv else main()
