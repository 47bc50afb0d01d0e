"""What a feature feeds and what feeds it, as the terminal shows it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from microtome.cli.listing import Listing
from microtome.cli.words import count, counted

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
    views += [_listing(f"{links.name} {title}", found) for title, found in zip(titles, (links.promotes, links.suppresses), strict=True)]
    if links.sample:
        rows = [
            (str(one.number), one.site, one.label, f"{one.released:.3g}", counted(one.count, "token"), f"{one.weight:.3g}")
            for one in links.would_suppress
        ]
        title = f"{links.name} keeps silent (measured on {count(links.sample)} of its firings)"
        views.append(Listing(title=title, headings=("feature", "site", "label", "would rise by", "newly on", "V"), rows=rows))
    return views


def _listing(title: str, found: "Sequence[microtome.features.Link]") -> Listing:
    rows = [
        (
            *(str(link.number), link.site, link.label),
            *(f"{link.twera:.3g}", f"{link.era:.2g}", f"{link.weight:.3g}", counted(link.count, "token"), f"{link.density:.3%}"),
        )
        for link in found
    ]
    return Listing(title=title, headings=("feature", "site", "label", "TWERA", "ERA", "V", "together on", "density"), rows=rows)
