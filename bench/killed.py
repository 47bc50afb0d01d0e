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


def repeated(steps: list[str], *, end: int) -> int:
    """How many of the first `end` steps the run that went on then took again."""
    before, first = steps[:end], steps[end]
    lost = before[-before[::-1].index(first) - 1 :] if first in before else []
    return len({(phase, step) for phase, _, step in map(str.split, lost)})  # a step of the search is one of each of its rates


def main() -> None:
    from microtome.activations import shards_from_matrix
    from microtome.training import Planted, PlantedConfig

    chance, ends = random.Random(0), list[int]()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        shards_from_matrix(Planted(PlantedConfig(d=256, directions=1024, active=12)).rows(120_000), work)
        assert start(work, work / "whole").wait() == 0
        for _ in range(KILLS):
            run, wait = start(work, work / "killed"), chance.randint(1, len(taken(work / "whole")) // KILLS)
            before = len(taken(work / "killed"))
            while len(taken(work / "killed")) < before + wait:
                assert run.poll() is None, "the run ended before it was killed"
                time.sleep(0.01)
            run.kill()
            run.wait()
            ends.append(len(taken(work / "killed")))
        assert start(work, work / "killed").wait() == 0
        same = (work / "whole" / "weights.safetensors").read_bytes() == (work / "killed" / "weights.safetensors").read_bytes()
        lost = [repeated(taken(work / "killed"), end=end) for end in ends]
    assert same, "the resumed run's weights are not those of the uninterrupted one"
    assert max(lost) > 0, "no kill fell between checkpoints"
    say(f"{KILLS} kills lost {lost} steps")
    within(
        f"steps lost by a kill, most of {KILLS}", max(lost), limit=EVERY / BATCH, unit="steps", equal="weights of the uninterrupted run, bit for bit"
    )


if __name__ == "__main__":
    main()
