"""The training step against SAELens, sparsify and dictionary_learning: tokens a second on the same rows in memory.

d 576, batch 4,096, k 32, CPU, 2 threads; TopK and BatchTopK. Every trainer runs its own loop in its own process, with a learning rate of 1e-3 that
falls linearly to 0, and is timed from batch to batch; the step is the median. Our run of a few seconds is made before and after each peer's of a
minute, and the mean of the two is what that peer is compared with, so that a machine that changes its speed meanwhile slows both. Equality: after
the same tokens, our FVU on held-out rows is not worse than the peer's by more than 1 %. The physical limit is one encoder product of the batch in
the fastest floating-point type of the machine.

The rows are synthetic: sums of a few of 8,192 random directions with power-law rates (24 a row), log-normal sizes, and noise. SAELens' fastest
setting is `autocast` where the processor multiplies bf16, else its default; what ran is in the row. `--quick` takes few steps and asserts nothing;
`topk-4608 batchtopk-18432` runs these alone.
"""

import functools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rows import row

if TYPE_CHECKING:
    import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "peers"))
ROWS = HERE / ".work" / "training-rows.npy"
SIZES = {4608: 40, 18432: 20}
"""Features: steps."""
BARS = {
    "topk": {
        "SAELens": {4608: 11.0, 18432: 16.0},
        "SAELens at its fastest setting": {4608: 5.0, 18432: 8.0},
        "sparsify": {4608: 4.0, 18432: 4.0},
        "dictionary_learning": {4608: 10.0, 18432: 10.0},
    },
    "batchtopk": {"SAELens": {4608: 15.0, 18432: 17.0}, "SAELens at its fastest setting": {4608: 5.0, 18432: 8.0}},
}
DISTURBED, RUNS = 0.05, 3
"""Share of the processor that others may take during a run; how often a run is made at most."""
LIMIT_BARS = {4608: 0.35, 18432: 0.65}
NAMES = {"topk": "TopK", "batchtopk": "BatchTopK"}


class Pair(NamedTuple):
    """What the same minutes gave."""

    ours: dict[str, float]
    theirs: dict[str, float]


def main() -> None:
    import setup as peers

    quick = "--quick" in sys.argv
    only = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    if not ROWS.exists():
        make_rows(ROWS)
    programs = {"ours": [sys.executable, str(HERE / "training.py"), "--ours"]}
    for name, package in (("SAELens", "saelens"), ("sparsify", "sparsify"), ("dictionary_learning", "dictionary_learning")):
        programs[name] = [str(peers.python_of(package)), str(HERE / "peers" / f"{package}_train.py")]
    with_bf16 = has_bf16_unit()
    for architecture, bars in BARS.items():
        for d_dict, steps in SIZES.items():
            if only and f"{architecture}-{d_dict}" not in only:
                continue
            n = 4 if quick else steps
            peers_of = {name: (programs[name], n, []) for name in bars if name in programs}
            run_ours = functools.partial(_timed, "ours", programs["ours"], d_dict=d_dict, steps=n, architecture=architecture)
            if with_bf16:
                peers_of["SAELens autocast"] = (programs["SAELens"], 4, ["autocast"])
            before, found = run_ours(), dict[str, Pair]()
            for name, (program, n_steps, extra) in peers_of.items():
                theirs = _timed(name, program, d_dict=d_dict, steps=n_steps, architecture=architecture, extra=extra)
                after = run_ours()
                found[name] = Pair({key: (before[key] + after[key]) / 2 for key in after}, theirs)
                before = after
            _rows(found, d_dict=d_dict, architecture=architecture, check=not quick)


def has_bf16_unit() -> bool:
    """Whether this processor multiplies bf16; elsewhere torch emulates it, ten times slower than fp32."""
    import torch

    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _timed(name: str, program: list[str], *, d_dict: int, steps: int, architecture: str, extra: list[str] | None = None) -> dict[str, float]:
    """One run of a trainer; another where something else took the processor meanwhile, and the faster one counts."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "PYTHONPATH": str(HERE / "peers")}
    arguments = [str(ROWS), str(d_dict), str(steps), architecture, *(extra or [])]
    found: list[dict[str, float]] = []
    others = 1.0
    while others > DISTURBED and len(found) < RUNS:
        start = _cpu()
        ran = subprocess.run([*program, *arguments], capture_output=True, text=True, env=environment, check=False)
        if ran.returncode != 0:
            sys.exit(f"{name} failed:\n{ran.stderr[-3000:]}")
        found.append(json.loads(ran.stdout.splitlines()[-1]))
        others = _others(start)
        what = f"{name}, {NAMES[architecture]}, {d_dict} features"
        print(f"{what}: {1000 * found[-1]['step_s']:.0f} ms a step, FVU {found[-1]['fvu']:.4f}, others {others:.0%} of CPU", file=sys.stderr)
    return min(found, key=lambda each: each["step_s"])


def _rows(found: Mapping[str, Pair], *, d_dict: int, architecture: str, check: bool) -> None:
    from lap import BATCH

    fastest = min((name for name in ("SAELens", "SAELens autocast") if name in found), key=lambda name: found[name].theirs["step_s"])
    for peer, bars in BARS[architecture].items():
        source = fastest if peer.endswith("fastest setting") else peer
        ours, theirs = found[source]
        fvu = found["SAELens" if source == "SAELens autocast" else source].theirs["fvu"]
        assert ours["fvu"] <= 1.01 * fvu or not check, f"at equal tokens our FVU is {ours['fvu']:.4f}, that of {peer} {fvu:.4f}"
        row(
            f"{NAMES[architecture]} step ÷ {peer}, {d_dict} features" + ("" if peer == source else f" ({source})"),
            ratio=theirs["step_s"] / ours["step_s"],
            bar=bars[d_dict],
            ours=round(BATCH / ours["step_s"]),
            peer=round(BATCH / theirs["step_s"]),
            unit="tokens/s",
            equal=f"FVU at equal tokens {ours['fvu']:.4f}, peer {fvu:.4f}" if check else None,
        )
    if architecture == "topk":
        ours = {key: statistics.mean(pair.ours[key] for pair in found.values()) for key in ("product_s", "step_s")}
        row(
            f"share of the encoder-product limit, {d_dict} features",
            ratio=ours["product_s"] / ours["step_s"],
            bar=LIMIT_BARS[d_dict],
            ours=round(BATCH / ours["step_s"]),
            peer=round(BATCH / ours["product_s"]),
            unit="tokens/s",
        )


def ours() -> None:
    """Our own loop, called as `training.py --ours rows.npy d_dict steps architecture`."""
    from microtome.devices import quiet_threads

    quiet_threads()  # before torch, as the command line does: threads that spin while the compiled kernels run take their cores

    from lap import BATCH, LR, K, Laps, Run, report

    from microtome.dictionaries import SAE, BatchTopK, TopK
    from microtome.models import Site
    from microtome.training import AuxK, Fit, Schedule, TrainConfig

    run = Run.from_argv([argument for argument in sys.argv if argument != "--ours"])

    class InMemory(Laps):
        def state(self) -> dict[str, Any]:
            return {"served": 0}

        def restore(self, state: Mapping[str, Any]) -> None:
            self.times.clear()

    laps = InMemory(run.train)
    chosen = BatchTopK(k=K) if run.architecture == "batchtopk" else TopK(k=K)
    config = TrainConfig(
        reads=(Site("resid_post", 0),),
        nonlinearity=chosen,
        d_dict=run.d_dict,
        tokens=run.steps * BATCH,
        batch_size=BATCH,
        lr=LR,
        schedule=Schedule(warmup_share=0, decay_share=1),
        revival=AuxK(dead_after_tokens=10**7),
    )
    dictionary = Fit(laps, config, dev=run.held).run()
    assert isinstance(dictionary, SAE)
    times = [*laps.times, time.perf_counter()]
    report(times, run, dictionary.reconstruct, product_s=_product(run.train[:BATCH], run.d_dict))


def _product(rows: "torch.Tensor", d_dict: int) -> float:
    """Seconds of one encoder product of a batch, in blocks of rows whose results stay in the cache; the median of five."""
    import torch

    kind = torch.bfloat16 if has_bf16_unit() else torch.float32
    left, right = rows.to(kind), torch.randn(d_dict, rows.shape[1]).to(kind)
    took: list[float] = []
    for _ in range(6):
        began = time.perf_counter()
        for part in left.split(max(32, (1 << 20) // d_dict)):
            torch.nn.functional.linear(part, right)
        took.append(time.perf_counter() - began)
    return statistics.median(took[1:])


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
