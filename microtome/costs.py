"""What each step of a piece of work cost: wall time, throughput, memory and bytes, kept in a file beside the work.

Artifacts hold nothing that depends on the clock, so costs live in `costs.json` of the workspace. A step that is interrupted and resumed
adds up; a step whose artifact was there already keeps the cost of making it, and one that leaves nothing behind keeps its first.
"""

import dataclasses
import json
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from microtome.artifacts import write_atomic
from microtome.config import from_dict, to_dict
from microtome.devices import peak_memory_bytes
from microtome.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one step cost."""

    step: str
    seconds: float
    """Wall time, summed over interrupted runs."""
    amount: float = 0.0
    """How many units the step worked through, e.g. tokens."""
    unit: str = ""
    bytes_written: int = 0
    """Size of what the step left on disk."""
    peak_memory_bytes: int = 0
    """Largest resident size of the process up to the end of the step."""
    finished: bool = True
    reused: bool = False
    """Nothing was done this time: what the step makes was there already."""

    @property
    def rate(self) -> float | None:
        """Units a second; None when nothing was counted."""
        return self.amount / self.seconds if self.amount and self.seconds > 0 else None


class Step:
    """A step under way: tell it what it works through and where its result lies."""

    def __init__(self) -> None:
        self.amount: float = 0.0
        self.unit: str = ""
        self.output: Path | None = None
        self.reused: bool = False

    def count(self, amount: float, unit: str) -> None:
        """State what was worked through, e.g. `step.count(shards.n_tokens, "tokens")`."""
        self.amount, self.unit = float(amount), unit


class CostLedger:
    """The costs of the steps of one workspace, in the order they were first taken."""

    def __init__(self, path: Path | None = None) -> None:
        """Costs are read from and written to `path`; without one they are only kept in memory."""
        self._path = path
        self._costs = _read(path) if path is not None else {}
        self.session: list[Cost] = []

    @property
    def costs(self) -> tuple[Cost, ...]:
        """Every step ever taken here, as it was when the work was really done."""
        return tuple(self._costs.values())

    @contextmanager
    def step(self, name: str) -> Generator[Step]:
        """Measure a step. Its cost is written down also when it is interrupted, marked unfinished, and the next run adds to it."""
        step, began = Step(), time.monotonic()
        finished = False
        try:
            yield step
            finished = True
        finally:
            self._note(name, step, seconds=time.monotonic() - began, finished=finished)

    def _note(self, name: str, step: Step, *, seconds: float, finished: bool) -> None:
        cost = Cost(
            step=name,
            seconds=seconds,
            amount=step.amount,
            unit=step.unit,
            bytes_written=folder_bytes(step.output) if step.output is not None else 0,
            peak_memory_bytes=peak_memory_bytes(),
            finished=finished,
            reused=step.reused and finished,
        )
        self.session.append(cost)
        before = self._costs.get(name)
        if before is not None and before.finished and (cost.reused or step.output is None):
            return
        if before is not None and not before.finished:
            peak = max(before.peak_memory_bytes, cost.peak_memory_bytes)
            cost = dataclasses.replace(cost, seconds=before.seconds + cost.seconds, peak_memory_bytes=peak)
        self._costs[name] = cost
        if self._path is not None:
            with suppress(OSError):  # a full disk: an error of the step itself must not be replaced, and its work not be stopped
                write_atomic(self._path, json.dumps([to_dict(each) for each in self._costs.values()], indent=1) + "\n")


def folder_bytes(path: Path) -> int:
    """Bytes of a file, or of all files under a folder; 0 when there is none."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else 0


def _read(path: Path) -> dict[str, Cost]:
    """Costs are a convenience: an unreadable file is started afresh, it never stops the work."""
    try:
        costs = [from_dict(Cost, entry) for entry in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError, ConfigError):
        return {}
    return {cost.step: cost for cost in costs}
