"""Figures with a label, whatever the terminal's width: a table where the label has room, otherwise lines with the label under its figures."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from microtome.cli.cards import plain, titled

_ROOM = 24
"""Characters that a text needs beside its figures: with fewer it goes under them."""
_GAP = "  "


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Rows under headings, of which only the texts wrap: figures, and names like a site's, are never cut."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str | Text]]
    """A cell a heading; a `str` is printed plain."""
    texts: Sequence[str] = ("label",)
    """Headings of what may wrap."""
    names: Sequence[str] = ("site",)
    """Headings of other columns that stand at the left; all else is figures, at the right."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Generator[RenderableType]:
        """Only the title where there is no row."""
        if not self.rows:
            yield Text(f"{plain(self.title)}: nothing", style="table.title")
            return
        broken = [heading.replace(" ", "\n") for heading in self.headings]
        fitting = (headings for headings in (self.headings, broken) if self._width(headings) <= options.max_width)
        headings = next(fitting, None)
        yield from self._lines(options.max_width) if headings is None else [self._table(headings)]

    def _cells(self, at: int) -> list[Text]:
        return [cell if isinstance(cell, Text) else Text(plain(cell)) for cell in (row[at] for row in self.rows)]

    def _widest(self, at: int, *, heading: str) -> int:
        said = [*(cell.plain for cell in self._cells(at)), *heading.split("\n")]
        return max(map(cell_len, said))

    def _width(self, headings: Sequence[str]) -> int:
        """What a table under these headings needs, three characters a column for its lines."""
        needed = [self._widest(at, heading=heading) for at, heading in enumerate(headings)]
        room = [min(_ROOM, width) if heading in self.texts else width for heading, width in zip(self.headings, needed, strict=True)]
        return sum(room) + 3 * len(room) + 1

    def _table(self, headings: Sequence[str]) -> Table:
        table = titled(self.title)
        for heading, shown in zip(self.headings, headings, strict=True):
            side = "left" if heading in (*self.texts, *self.names) else "right"
            table.add_column(Text(shown), justify=side, no_wrap=heading not in self.texts)
        columns = [self._cells(at) for at in range(len(headings))]
        for cells in zip(*columns, strict=True):
            table.add_row(*cells)
        return table

    def _lines(self, width: int) -> Generator[RenderableType]:
        yield Text(f"\n{plain(self.title)}", style="table.title")
        below = [at for at, heading in enumerate(self.headings) if heading in self.texts]
        widths = {at: self._widest(at, heading=heading) for at, heading in enumerate(self.headings) if at not in below}
        under = next(iter(widths.values())) + len(_GAP)
        lines = _fitting(widths, width=width, under=under)
        for number, line in enumerate(lines):
            yield Text(self._line([self.headings[at] for at in line], line, widths, under=under if number else 0), style="table.header")
        columns = [self._cells(at) for at in range(len(self.headings))]
        for cells in zip(*columns, strict=True):
            for number, line in enumerate(lines):
                yield Text(self._line([cells[at].plain for at in line], line, widths, under=under if number else 0).rstrip())
            for at in below:
                yield Padding(cells[at] if len(below) == 1 else _named(self.headings[at], cells[at]), (0, 0, 0, under), expand=False)

    def _line(self, said: Sequence[str], line: Sequence[int], widths: Mapping[int, int], *, under: int) -> str:
        return " " * under + _GAP.join(self._aligned(each, at, width=widths[at]) for each, at in zip(said, line, strict=True))

    def _aligned(self, said: str, at: int, *, width: int) -> str:
        space = " " * (width - cell_len(said))
        return said + space if self.headings[at] in self.names else space + said


def _fitting(widths: Mapping[int, int], *, width: int, under: int) -> list[list[int]]:
    """Which columns share a line: as many as have room, at least one; all lines but the first begin further in."""
    lines: list[list[int]] = [[]]
    used = 0
    for at, wide in widths.items():
        if lines[-1] and used + len(_GAP) + wide > width:
            lines.append([])
            used = under - len(_GAP)
        lines[-1].append(at)
        used += wide + (len(_GAP) if len(lines[-1]) > 1 or len(lines) > 1 else 0)
    return lines


def _named(heading: str, cell: Text) -> Text:
    return Text(f"{heading}: ", style="dim", no_wrap=cell.no_wrap, overflow=cell.overflow) + cell
