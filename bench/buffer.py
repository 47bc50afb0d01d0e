"""The shuffle against SAELens' mixing buffer: rows a second, d 576 in fp32, a buffer of 262,144 rows, batches of 4,096, CPU, 2 threads.

Both get the same rows and are asked for batches one after the other, each in a process of its own. SAELens' buffer is fed chunks of 4,096 rows
from memory (the cheapest feed there is). Ours is the whole `ActivationStream`: it reads its rows from shards on disk, in the page cache.

Equality: over one epoch of ours every row is served exactly once, and batches are as mixed as the peer's: the mean share of the file that lies
between a row and the next one of its batch, which is 1/3 for rows drawn at random.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from rows import row, say

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "peers"))
WORK = HERE / ".work" / "buffer"
D, BUFFER, BATCH = 576, 262_144, 4096
N = 2 * BUFFER
SECONDS = 20.0
BAR = 25.0


def main() -> None:
    import setup as peers

    quick = "--quick" in sys.argv
    make_shards()
    seconds = "2" if quick else str(SECONDS)
    ours = _run([sys.executable, str(HERE / "buffer.py"), "--ours", seconds])
    peer = _run([str(peers.python_of("saelens")), str(HERE / "peers" / "saelens_buffer.py"), str(N), str(D), str(BUFFER), str(BATCH), seconds])
    say(f"ours {ours['rows_s']:,.0f} rows/s, mixing {ours['mixing']:.3f}; SAELens {peer['rows_s']:,.0f} rows/s, mixing {peer['mixing']:.3f}")
    assert ours["once"] == 1, "an epoch did not serve every row exactly once"
    assert abs(ours["mixing"] - 1 / 3) < 0.02, f"batches are not mixed: {ours['mixing']:.3f} of the file between neighbours, 1/3 wanted"
    row(
        f"shuffle buffer ÷ SAELens' mixing buffer, {BUFFER:,} rows",
        ratio=ours["rows_s"] / peer["rows_s"],
        bar=BAR,
        ours=round(ours["rows_s"]),
        peer=round(peer["rows_s"]),
        unit="rows/s",
        equal=f"every row once an epoch; mixing {ours['mixing']:.3f} (random 0.333), peer {peer['mixing']:.3f}",
    )


def _run(command: list[str]) -> dict[str, float]:
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    if ran.returncode != 0:
        sys.exit(f"{command[1]} failed:\n{ran.stderr[-3000:]}")
    result: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return result


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(HERE / "peers")}


def make_shards() -> None:
    """Row i begins with its own number; all are in the train split."""
    import torch

    from microtome.activations import shards_from_matrix

    if (WORK / "shards" / "manifest.json").is_file():
        return
    x = torch.randn(N, D, generator=torch.Generator().manual_seed(0))
    x[:, 0] = torch.arange(N)
    shards_from_matrix(x, WORK, dtype="float32")


def ours(seconds: float) -> None:
    """One epoch for equality, then the clock, in a process that does nothing else."""
    import torch
    from mixing import mixing

    from microtome.activations import ActivationStream, Corpus, Shards

    torch.set_num_threads(2)
    shards, corpus = Shards.open(WORK / "shards"), Corpus.open(WORK / "corpus")
    stream = ActivationStream(shards, corpus, site=shards.sites[0], batch_size=BATCH, seed=0, buffer_rows=BUFFER)
    batches = [next(stream)[:, 0].clone() for _ in range(stream.n_rows // BATCH + 1)]
    served = torch.cat(batches)[: stream.n_rows].long()
    wanted = torch.from_numpy(shards.rows_of_split(corpus, "train").nonzero()[0])
    once = torch.equal(served.sort().values, wanted)
    start, rows = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for _ in range(stream.n_rows // BATCH):
            rows += len(next(stream))
    spent = time.perf_counter() - start
    print(json.dumps({"rows_s": rows / spent, "once": int(once), "mixing": mixing(batches, N)}))


if __name__ == "__main__":
    ours(float(sys.argv[2])) if sys.argv[1:2] == ["--ours"] else main()
