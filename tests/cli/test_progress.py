"""Progress in logs: a line at the start and the end of a step and now and then between."""

import io

from rich.console import Console

from microtome.cli.progress import Bars, Lines
from microtome.cli.words import count, duration, size


def written(*, interval_s: float) -> list[str]:
    text = io.StringIO()
    with Lines(Console(file=text, width=200), interval_s=interval_s) as lines:
        for done in range(0, 101, 10):
            lines("harvest", done, 100, unit="tokens", note="[bold]")
        lines("harvest", 100, 100, unit="tokens")
    return text.getvalue().splitlines()


def test_first_and_last_are_always_written() -> None:
    first, last = written(interval_s=1000)
    assert first == "harvest: 0 % · 0/100 tokens · [bold]"
    assert last.startswith("harvest: 100 % · 100/100 tokens · took 0.0 s")


def test_between_them_each_line_tells_the_time_left() -> None:
    lines = written(interval_s=0)
    assert len(lines) == 11
    assert all("left" in line for line in lines[1:-1])


def test_bars_take_the_same_calls() -> None:
    text = io.StringIO()
    with Bars(Console(file=text, force_terminal=True, width=120)) as bars:
        bars("download", 0, 2_000_000, unit="B", note="Apache-2.0")
        bars("download", 2_000_000, 2_000_000, unit="B")
    assert "2.0 MB of 2.0 MB" in text.getvalue()


def test_numbers_in_words() -> None:
    assert [count(n) for n in (0, 1234567, 0.5, 1e6 + 0.5)] == ["0", "1,234,567", "0.50", "1,000,000"]
    assert [duration(s) for s in (0.04, 59.6, 61, 3723)] == ["0.0 s", "1:00 min", "1:01 min", "1:02:03 h"]
    assert [size(n) for n in (999, 1_500, 93_000_000, 3_400_000_000)] == ["999 B", "1.5 kB", "93.0 MB", "3.4 GB"]
