"""Run one thing in several processes that can speak to each other, on this machine."""

import multiprocessing
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from microtome.shapes import Tensor
from microtome.training.group import Group, Mode

Make = Callable[[Mode], Group]


def together(work: Callable[[Make, Path], None], folder: Path, *, size: int = 2) -> None:
    """`work(make, folder)` in `size` processes, where `make(mode)` is their group; they find each other by a file in `folder`.

    They are forks of one server, which imports everything once for all of them.
    """
    multiprocessing.set_forkserver_preload([work.__module__])
    meeting = folder / f"meeting-{len(list(folder.iterdir()))}"
    torch.multiprocessing.start_processes(_enter, args=(work, str(meeting), size, folder), nprocs=size, start_method="forkserver")


def _enter(rank: int, work: Callable[[Make, Path], None], meeting: str, size: int, folder: Path) -> None:  # noqa: PLR0917  # as spawn calls it
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    try:
        work(lambda mode: Group(mode=mode, rank=rank, size=size), folder)
    finally:
        dist.destroy_process_group()


class Laps:
    """Batches of given rows, round and round."""

    def __init__(self, rows: Any, *, batch_size: int) -> None:
        self._rows, self._size, self._at = rows, batch_size, 0

    def __next__(self) -> Any:
        at, self._at = self._at, self._at + 1
        if isinstance(self._rows, Tensor):
            return self._of(self._rows, at)
        return {site: self._of(rows, at) for site, rows in self._rows.items()}

    def state(self) -> dict[str, Any]:
        return {"at": self._at}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._at = int(state["at"])

    def _of(self, rows: Tensor, at: int) -> Tensor:
        return rows[torch.arange(at * self._size, (at + 1) * self._size) % len(rows)]
