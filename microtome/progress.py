"""Progress of long work: rooms report, the command line and the server render."""

import time
from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """What long work calls with how far it is; `done == total` ends the step."""

    def __call__(self, step: str, done: float, total: float, *, unit: str = "", note: str = "") -> None: ...


class Throttled:
    """Passes a call on at most every `interval_s` seconds, and always the first and the last of a step; None swallows all."""

    def __init__(self, progress: Progress | None, *, interval_s: float = 0.2) -> None:
        self._progress = progress
        self._interval_s = interval_s
        self._last: dict[str, float] = {}

    def __call__(self, step: str, done: float, total: float, *, unit: str = "", note: str = "") -> None:
        if self._progress is None:
            return
        now = time.monotonic()
        if done >= total or now - self._last.get(step, float("-inf")) >= self._interval_s:
            self._last[step] = now
            self._progress(step, done, total, unit=unit, note=note)
