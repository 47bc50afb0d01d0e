"""Training by several processes under `torchrun`: how they meet, what they can train, and what those do that do not lead.

The process of rank 0 leads: it alone writes, reports and measures. The others take the same steps on the same shards, which all must see.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from microtome.errors import ConfigError
from microtome.training.config import TrainConfig
from microtome.training.export import dictionary_of
from microtome.training.fit import Checkpoint, Checkpoints, Fit
from microtome.training.group import Group, Mode
from microtome.training.losses import KL, L0
from microtome.training.rules import rule_of
from microtome.training.source import StoredRows
from microtome.training.store import CHECKPOINT, read_checkpoint

DEV_ROWS = 8192
"""Held-out rows that choose the learning rate."""
_PATIENCE = timedelta(days=1)
"""How long a process waits for another: the first one measures quality alone. A process that dies ends the wait at once."""


@contextmanager
def joined(mode: Mode) -> Generator[Group]:
    """The group of the processes that `torchrun` started, of which this is one; with a CUDA device for each process of a machine they use these.

    Raises `ConfigError` where `torchrun` did not start this process.
    """
    if "RANK" not in os.environ:
        do = "Start it as torchrun --nproc-per-node 2 -m microtome train …, or leave --distributed out."
        raise ConfigError("there is no other process to train with.", got="a process of its own", wanted="one that torchrun started", do=do)
    local, here = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cuda = torch.cuda.is_available() and torch.cuda.device_count() >= here
    if cuda:
        torch.cuda.set_device(local)
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=_PATIENCE)
    try:
        device = torch.device("cuda", local) if cuda else None
        yield Group(mode=mode, rank=dist.get_rank(), size=dist.get_world_size(), device=device)
    finally:
        dist.destroy_process_group()


def check_group(config: TrainConfig, group: Group) -> None:
    """Raise `ConfigError` for what a group of this size and mode cannot train to the result of one process."""
    if group.size == 1:
        return
    name, count = ("batch_size", config.batch_size) if group.mode == "data" else ("d_dict", config.d_dict)
    if count % group.size:
        do = f"Choose a {name} that {group.size} divides, or another number of processes."
        raise ConfigError(f"{name} cannot be shared evenly.", got=f"{count} for {group.size} processes", wanted=f"a multiple of {group.size}", do=do)
    if group.shares_features and not rule_of(config.nonlinearity, build=config.build).shares_features:
        do = "Use --distributed data; a rule of your own that needs nothing of other features says shares_features = True."
        kind = type(config.nonlinearity).__name__
        raise ConfigError("this nonlinearity cannot be chosen part by part.", got=kind, wanted="a rule with shares_features", do=do)
    for loss in config.losses:
        if isinstance(loss, KL) or (isinstance(loss, L0) and loss.target is not None):
            do = "Leave it out, use l0 without a target, or train in one process."
            raise ConfigError("this loss needs one process.", got=str(loss), wanted="losses that are sums over rows and features", do=do)


def follow(source: StoredRows, config: TrainConfig, *, out: str | Path, group: Group) -> Generator[None]:
    """What a process that does not lead does, beside one that runs `training`: its part of every step, and nothing on disk."""
    if not group.said(False):
        return
    dev = source.held(config.sites, pooling=config.pooling, n=DEV_ROWS, split="dev").rows
    checkpoints = Checkpoints(put=_nowhere, last=read_checkpoint(Path(out) / CHECKPOINT))
    fit = Fit(source.stream(config), config, dev=dev, device=group.device, checkpoints=checkpoints, group=group)
    yield from fit.steps()
    dictionary_of(fit.learners, config)  # its part, for the one that leads


def _nowhere(checkpoint: Checkpoint) -> None:
    """The one that leads writes it."""
