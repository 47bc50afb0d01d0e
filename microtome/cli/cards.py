"""A feature card, a ranking and a list of artifacts, as the terminal shows them. Text from data sets is printed plain, never as markup."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from microtome.cli.words import count

if TYPE_CHECKING:
    import microtome.features

_BLOCKS = "▁▂▃▄▅▆▇█"


def card_view(card: "microtome.features.Card", *, examples: int = 8) -> Group:
    """Label, figures, histogram, strongest examples, tokens, logits and neighbours of one feature."""
    stats, rule = card.statistics, card.rule
    head = Text.assemble((f"feature {card.feature}", "bold"), f" of {count(card.n_features)} in {card.index}: ", (plain(card.label.text), "bold"))
    figures = (
        f"density {stats.density:.3%} · fires on {count(stats.count)} tokens of {count(stats.documents)} documents ({stats.document_share:.1%}) · "
        f"max {stats.max:.3g} · mean {stats.mean:.3g}"
    )
    labelled = (
        f'rule label "{plain(rule.text)}": F1 {rule.f1:.2f} (precision {rule.precision:.2f}, recall {rule.recall:.2f}; by chance {rule.f1_null:.2f})'
    )
    lines: list[RenderableType] = [head, Text(figures), Text(labelled), Text(f"activations {sparkline(card.histogram.counts)} (log scale)")]
    lines.append(Text("\nstrongest examples", style="bold"))
    lines += [window_line(window) for window in card.top[:examples]]
    tokens = ", ".join(f"{quoted(stat.piece)} {stat.share:.0%}" for stat in card.tokens.tokens[:8])
    lines.append(Text(f"\nfires on {tokens or 'nothing'} · entropy {card.tokens.entropy:.1f} bits"))
    lines.append(Text("raises " + ", ".join(quoted(entry.piece) for entry in card.logits.top[:8])))
    lines.append(Text("lowers " + ", ".join(quoted(entry.piece) for entry in card.logits.bottom[:8])))
    near = "; ".join(f"{each.feature} {plain(each.label)} ({each.cosine:.2f})" for each in card.neighbours[:4])
    lines.append(Text(f"near   {near or 'none'}"))
    lines += [Text(f"note   {plain(note.text)}") for note in card.notes]
    return Group(*lines)


def window_line(window: "microtome.features.Window", *, before: int = 14, after: int = 7) -> Text:
    """One example on one line: activation, the text around the peak with the firing tokens marked, and the document's title."""
    line = Text(f"{window.activation:8.2f}  ", no_wrap=True, overflow="ellipsis")
    low, high = max(0, window.peak - before), min(len(window.pieces), window.peak + after + 1)
    for i in range(low, high):
        share = window.activations[i] / window.activation if window.activation else 0.0
        style = "bold reverse" if i == window.peak else "bold underline" if share > 0.5 else "underline" if share > 0 else ""
        line.append(plain(window.pieces[i]), style=style)
    line.append(f"  — {plain(window.title)}", style="dim")
    return line


def titled(title: str, *, show_header: bool = True) -> Table:
    """An empty table under a title that is printed as it stands: rich would read markup in a `str`."""
    return Table(title=Text(plain(title), style="table.title"), title_justify="left", show_header=show_header)


def sparkline(counts: Sequence[int]) -> str:
    """Counts as a row of block characters; empty bins are blank."""
    top = max(counts, default=0)
    return "".join(_BLOCKS[min(7, n * 8 // (top + 1))] if n else " " for n in counts)


def plain(text: str) -> str:
    """Text of others for one line of a terminal: control characters (escape sequences too) and line breaks shown, not obeyed."""
    return "".join("↵" if c == "\n" else "⇥" if c == "\t" else c if c.isprintable() else "·" for c in text)


def quoted(piece: str) -> str:
    """A token's text in quotes, its spaces visible."""
    return f'"{plain(piece)}"'
