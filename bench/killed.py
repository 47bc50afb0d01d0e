"""What a kill costs: a training run ended by SIGKILL at random moments loses at most one checkpoint interval each time, and its result is the same.

The rows are synthetic (`microtome.training.Planted`, d 256); 2,048 features, a learning-rate search, then the training. Every step taken, whether it
counted or was lost, is noted in a file. Equality: the weights' file of the killed and resumed run is that of an uninterrupted one, byte for byte.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_WAIT_POLICY"] = "passive"  # before torch: idle threads sleep

from rows import say, within

BATCH, EVERY, KILLS = 1024, 20_480, 5
PROGRAM = """
import sys
from pathlib import Path
from microtome.activations import Corpus, Shards
from microtome.models import Site
from microtome.training import Schedule, TrainConfig, train
work, out = Path(sys.argv[1]), Path(sys.argv[2])
taken = (out.parent / f"{out.name}.steps").open("ab", buffering=0)
schedule = Schedule(lr_search=(1e-3, 4e-3), lr_search_tokens=40_960, checkpoint_every_tokens=int(sys.argv[4]))
config = TrainConfig(reads=(Site("resid_post", 0),), d_dict=2048, tokens=409_600, batch_size=int(sys.argv[3]), schedule=schedule)
note = lambda record: taken.write(f"{record.phase} {record.peak_lr:g} {record.step}\\n".encode())
train(Shards.open(work / "shards"), Corpus.open(work / "corpus"), config=config, out=out, callbacks=[note])
"""


def start(work: Path, out: Path) -> subprocess.Popen[bytes]:
    """A run in a process of its own; it resumes what is there."""
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(work), str(out), str(BATCH), str(EVERY)])


def taken(out: Path) -> list[str]:
    """All steps taken so far, lost ones included."""
    file = out.parent / f"{out.name}.steps"
    return file.read_text().splitlines() if file.exists() else []


def main() -> None:
    from microtome.activations import shards_from_matrix
    from microtome.training import Planted, PlantedConfig

    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        shards_from_matrix(Planted(PlantedConfig(d=256, directions=1024, active=12)).rows(120_000), work)
        began = time.monotonic()
        assert start(work, work / "whole").wait() == 0
        seconds, needed = time.monotonic() - began, len(taken(work / "whole"))
        for _ in range(KILLS):
            run, before = start(work, work / "killed"), len(taken(work / "killed"))
            while len(taken(work / "killed")) == before and run.poll() is None:
                time.sleep(0.05)
            time.sleep(chance.random() * 0.25 * seconds)
            run.kill()
            if run.wait() == 0:
                break
            say(f"killed after {len(taken(work / 'killed'))} steps")
        assert start(work, work / "killed").wait() == 0
        same = (work / "whole" / "weights.safetensors").read_bytes() == (work / "killed" / "weights.safetensors").read_bytes()
        lost = len(taken(work / "killed")) - needed
    assert same, "the resumed run's weights are not those of the uninterrupted one"
    assert lost > 0, "no kill fell into the training"
    within(
        "steps lost by a kill, mean of 5", lost / KILLS, limit=EVERY / BATCH, unit="steps", equal="weights of the uninterrupted run, byte for byte"
    )


if __name__ == "__main__":
    main()
