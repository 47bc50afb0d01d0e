"""How progress looks: bars with the time left on a terminal, a line now and then elsewhere. Both write to standard error."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from microtome.cli.words import count, duration, size

PLAIN_INTERVAL_S = 10.0


class Bars:
    """A bar a step, on a terminal; finished steps stay as a line."""

    def __init__(self, console: Console) -> None:
        self._rich = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TextColumn("{task.fields[amount]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=console,
            refresh_per_second=4,
            speed_estimate_period=60,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "Bars":
        self._rich.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._rich.stop()

    def __call__(self, step: str, done: float, total: float, *, unit: str = "", note: str = "") -> None:
        if step not in self._tasks:
            self._tasks[step] = self._rich.add_task(step, total=total, amount="", note="")
        self._rich.update(self._tasks[step], completed=done, total=total, amount=_amount(done, total, unit), note=note)


class Lines:
    """A line at the start and the end of each step and every ten seconds between, for logs and pipes."""

    def __init__(self, console: Console, *, interval_s: float = PLAIN_INTERVAL_S) -> None:
        self._console = console
        self._interval_s = interval_s
        self._first: dict[str, tuple[float, float]] = {}
        self._last: dict[str, float] = {}

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def __call__(self, step: str, done: float, total: float, *, unit: str = "", note: str = "") -> None:
        now = time.monotonic()
        began, at_first = self._first.setdefault(step, (now, done))
        over = done >= total
        if step in self._last and (self._last[step] == float("inf") or (not over and now - self._last[step] < self._interval_s)):
            return
        self._last[step] = float("inf") if over else now
        share = f"{100 * done / total:.0f} %" if total else "–"
        parts = [f"{step}: {share}", _amount(done, total, unit)]
        if over:
            parts.append(f"took {duration(now - began)}")
        elif done > at_first:
            parts.append(f"{duration((now - began) / (done - at_first) * (total - done))} left")
        self._console.print(" · ".join([*parts, note] if note else parts), markup=False, highlight=False, soft_wrap=True)


def _amount(done: float, total: float, unit: str) -> str:
    return f"{size(int(done))} of {size(int(total))}" if unit == "B" else f"{count(done)}/{count(total)} {unit}".strip()
