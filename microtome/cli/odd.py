"""The report on odd features, as the terminal shows it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from microtome.cli.cards import plain, quoted, titled
from microtome.cli.words import count

if TYPE_CHECKING:
    import microtome.features.odd


def odd_view(odd: "microtome.features.odd.Odd", *, limit: int) -> Group:
    """Counts, then a table a list, each cut at `limit`."""
    n = odd.counts
    said = (
        f"{odd.index}, {count(odd.n_features)} features: {count(n['dense'])} dense ({count(n['unexplained'])} of those listed unexplained), "
        f"{count(n['duplicates'])} pairs of duplicates, {count(n['dead'])} dead, {count(n['rare'])} ultra-rare, {count(n['one_token'])} on one token"
    )
    dead = ", ".join(map(str, odd.dead[:limit])) + (" …" if n["dead"] > limit else "")
    views = [Text(said, style="bold"), _dense(odd, limit), _duplicates(odd, limit)]
    views += [_lines("fire on fewer than 10 tokens", odd.rare[:limit]), _lines("fire on one token id alone", odd.one_token[:limit])]
    return Group(*views, Text(f"\ndead: {dead or 'none'}"))


def _dense(odd: "microtome.features.odd.Odd", limit: int) -> Table:
    table = titled("dense features")
    for heading in ("feature", "label", "density", "explained by", "antipode", "score", "both fire", "strongest test"):
        table.add_column(heading, justify="left" if heading in ("label", "explained by", "strongest test") else "right")
    for one in odd.dense[:limit]:
        pole = one.antipode
        other = ["", "", ""] if pole is None else [str(pole.feature), f"{pole.score:.2f}", f"{pole.cofire:.1%}"]
        best = max(one.categories, key=lambda each: each.value / each.bar)
        cells = [str(one.feature), plain(one.label), f"{one.density:.1%}", ", ".join(one.explained) or "nothing", *other]
        table.add_row(*map(Text, [*cells, f"{best.name} {best.value:.2f} (bar {best.bar:g})"]))
    return table


def _duplicates(odd: "microtome.features.odd.Odd", limit: int) -> Table:
    table = titled("duplicates: same decoder, same tokens")
    for heading in ("feature", "label", "other", "label", "decoder", "encoder", "Jaccard"):
        table.add_column(heading, justify="left" if heading == "label" else "right")
    for pair in odd.duplicates[:limit]:
        cosines = [f"{pair.decoder_cosine:.3f}", f"{pair.encoder_cosine:.3f}", f"{pair.jaccard:.2f}"]
        table.add_row(*map(Text, [str(pair.feature), plain(pair.label), str(pair.other), plain(pair.other_label), *cosines]))
    return table


def _lines(title: str, found: "Sequence[microtome.features.odd.OddFeature]") -> Table:
    table = titled(title)
    for heading in ("feature", "site", "label", "fires on", "documents", "commonest token", "max"):
        table.add_column(heading, justify="left" if heading in ("site", "label", "commonest token") else "right")
    for one in found:
        cells = [
            str(one.feature),
            one.site,
            plain(one.label),
            f"{count(one.count)} tokens",
            count(one.documents),
            quoted(one.token),
            f"{one.max:.3g}",
        ]
        table.add_row(*map(Text, cells))
    return table
