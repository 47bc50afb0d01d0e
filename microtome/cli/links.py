"""What a feature feeds and what feeds it, as the terminal shows it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from microtome.cli.cards import plain, titled
from microtome.cli.words import count

if TYPE_CHECKING:
    import microtome.features

_SCALES = {"measured": "norm's scale averaged under the target", "none": "no norm between", "left out": "norm's scale left out"}


def links_views(links: "microtome.features.Links") -> Sequence[RenderableType]:
    """The lists of one component: promoted and suppressed, and with a sample what it would keep silent."""
    down = links.way == "downstream"
    said = f"{links.name}: {links.way} over {count(links.n_reached)} features by {links.rank.upper()} ({_SCALES[links.scale]})"
    said += f", on the corpus {links.over}" if links.over else ""
    titles = ("promotes", "suppresses") if down else ("is promoted by", "is suppressed by")
    views: list[RenderableType] = [Text(f"\n{said}", style="bold")]
    views += [_table(f"{links.name} {title}", found) for title, found in zip(titles, (links.promotes, links.suppresses), strict=True)]
    if links.sample:
        table = titled(f"{links.name} keeps silent (measured on {count(links.sample)} of its firings)")
        for heading in ("feature", "site", "label", "would rise by", "newly on", "V"):
            table.add_column(heading, justify="left" if heading in ("site", "label") else "right")
        for one in links.would_suppress:
            cells = [str(one.number), one.site, plain(one.label), f"{one.released:.3g}", f"{one.count} tokens", f"{one.weight:.3g}"]
            table.add_row(*map(Text, cells))
        views.append(table)
    return views


def _table(title: str, found: "Sequence[microtome.features.Link]") -> Table:
    table = titled(title if found else f"{title}: nothing")
    for heading in ("feature", "site", "label", "TWERA", "ERA", "V", "together on", "density"):
        table.add_column(heading, justify="left" if heading in ("site", "label") else "right")
    for link in found:
        numbers = [f"{link.twera:.3g}", f"{link.era:.2g}", f"{link.weight:.3g}", f"{count(link.count)} tokens", f"{link.density:.3%}"]
        table.add_row(*map(Text, [str(link.number), link.site, plain(link.label), *numbers]))
    return table
