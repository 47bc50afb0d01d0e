"""Bytes that each process holds when several train one dictionary: `python bench/distributed_memory.py`. One JSON object a line."""

import gc
import json
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist

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


def measure(rank: int, size: int, mode: Mode, meeting: str) -> None:  # noqa: PLR0917  # as spawn calls it
    """Take a step and say what is held after it."""
    torch.set_num_threads(1)
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    group = Group(mode=mode, rank=rank, size=size)
    config = TrainConfig(reads=(SITE,), d_dict=FEATURES, nonlinearity=TopK(k=32), tokens=ROWS, batch_size=ROWS, lr=1e-3, encoder_product="float32")
    rows = {SITE: torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(0))}
    layout = layouts(config)[0]
    start = start_from(rows, config, layouts=[layout], group=group)
    learner = Learner(start, config, layout=layout, weights=start.weights[0], peak_lr=1e-3, steps=10, product="float32", group=group)
    learner.step(start.scaled(group.rows(rows)))
    held = held_bytes()
    print(json.dumps({"mode": mode, "processes": size, "rank": rank, "bytes": held, "tables": round(held / TABLE, 2)}), flush=True)
    if size > 1:
        dist.destroy_process_group()


def main() -> None:
    """One, two and four processes."""
    modes: tuple[Mode, ...] = ("data", "features")
    with tempfile.TemporaryDirectory() as folder:
        for mode in modes:
            for size in (1, 2, 4):
                if size > 1 or mode == "data":
                    torch.multiprocessing.spawn(measure, args=(size, mode, str(Path(folder) / f"{mode}{size}")), nprocs=size)


if __name__ == "__main__":
    main()
