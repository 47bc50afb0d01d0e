"""Bytes that each process holds when several train one dictionary, by what they share: the batch (`data`) or the features (`features`).

Bytes of all tensors alive after a step, each storage once; 16,384 features of width 256, batches of 256 rows. The figure is what one process alone
holds over the most that one of four holds which share features.
"""

import gc
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from rows import row, say

from microtome.dictionaries import TopK
from microtome.models import Site
from microtome.training import Group, Mode, TrainConfig
from microtome.training.layout import layouts
from microtome.training.learner import Learner
from microtome.training.start import start_from

FEATURES, WIDTH, ROWS = 16_384, 256, 256
SITE = Site("resid_post", 0)
TABLE = 4 * FEATURES * WIDTH


def held_bytes() -> int:
    """Bytes of all tensors that are alive, each storage once."""
    storages = {
        each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in gc.get_objects() if issubclass(type(each), torch.Tensor)
    }
    return sum(storages.values())


def measure(rank: int, size: int, mode: Mode, folder: str) -> None:  # noqa: PLR0917  # as spawn calls it
    """Take a step and note what is held after it."""
    torch.set_num_threads(1)
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/{mode}{size}", rank=rank, world_size=size)
    group = Group(mode=mode, rank=rank, size=size)
    config = TrainConfig(reads=(SITE,), d_dict=FEATURES, nonlinearity=TopK(k=32), tokens=ROWS, batch_size=ROWS, lr=1e-3, encoder_product="float32")
    rows = {SITE: torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(0))}
    layout = layouts(config)[0]
    start = start_from(rows, config, layouts=[layout], group=group)
    learner = Learner(start, config, layout=layout, weights=start.weights[0], peak_lr=1e-3, steps=10, product="float32", group=group)
    learner.step(start.scaled(group.rows(rows)))
    held = held_bytes()
    (Path(folder) / f"{mode}-{size}-{rank}").write_text(str(held))
    if size > 1:
        dist.destroy_process_group()


def main() -> None:
    """One, two and four processes."""
    modes: tuple[Mode, ...] = ("data", "features")
    most: dict[tuple[Mode, int], int] = {}
    with tempfile.TemporaryDirectory() as folder:
        for mode in modes:
            for size in (1, 2, 4) if mode == "data" else (2, 4):
                torch.multiprocessing.spawn(measure, args=(size, mode, folder), nprocs=size)
                most[mode, size] = max(int(file.read_text()) for file in Path(folder).glob(f"{mode}-{size}-*"))
                say(f"{mode}, processes {size}: at most {most[mode, size]:,} bytes each, {most[mode, size] / TABLE:.2f} tables of the encoder's size")
    alone, shared = most["data", 1], most["features", 4]
    name = "memory of training alone ÷ that of each of four processes that share features"
    row(name, ratio=alone / shared, bar=3.5, ours=round(shared / 1e6, 1), peer=round(alone / 1e6, 1), unit="MB")


if __name__ == "__main__":
    main()
