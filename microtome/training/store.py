"""What an unfinished run leaves on disk: its checkpoint and its log, which a resumed run continues as if nothing had happened."""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, final

from safetensors import safe_open
from safetensors.torch import save_file

from microtome.artifacts import place_atomic
from microtome.config import canonical_json
from microtome.training.fit import Checkpoint
from microtome.training.records import StepRecord

CHECKPOINT, LOG = "checkpoint.safetensors", "steps.jsonl"
LOG_ROWS = 2000
"""About this many steps of a phase are logged, evenly spaced."""


@final
class RunStore:
    """Use as a context manager; `put` and `log` are what `Fit` calls."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.last = read_checkpoint(folder / CHECKPOINT)
        """The checkpoint to go on from."""
        kept = 0 if self.last is None else int(self.last.position["log_bytes"])
        self._log = (folder / LOG).open("ab")
        self._log.truncate(kept)
        self._log.seek(kept)

    def __enter__(self) -> "RunStore":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._log.close()

    def put(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint in the place of the last one; the log is on disk up to it."""
        self._log.flush()
        os.fsync(self._log.fileno())
        position = {**checkpoint.position, "log_bytes": self._log.tell()}
        with place_atomic(self._folder / CHECKPOINT) as temporary:
            tensors = {name: tensor.cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
            save_file(tensors, temporary, metadata={"position": json.dumps(position)})

    def log(self, record: StepRecord) -> None:
        """Write a record as one line, if it is one of the steps that are logged."""
        if record.step == record.steps or (record.step - 1) % max(1, record.steps // LOG_ROWS) == 0:
            self._log.write(canonical_json(record).encode() + b"\n")


def read_checkpoint(file: Path) -> Checkpoint | None:
    """The checkpoint that an unfinished run left, if it did; what is not used of it stays on disk."""
    if not file.is_file():
        return None
    with safe_open(file, framework="pt") as opened:
        position: dict[str, Any] = json.loads(opened.metadata()["position"])
        return Checkpoint(tensors={name: opened.get_tensor(name) for name in opened.keys()}, position=position)  # noqa: SIM118  # not a mapping
