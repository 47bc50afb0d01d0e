"""Answers about texts of one's own, as the terminal shows them: prompts on a feature, and features by prompts, a token, a label, two sets."""

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from microtome.cli.cards import plain, quoted, titled
from microtome.cli.words import count

if TYPE_CHECKING:
    import microtome.features

_SHADES = ("", "underline", "bold underline", "bold reverse")


def tests_view(tested: "microtome.features.TextTests") -> Group:
    """A line a prompt, and the prompts themselves with the firing tokens marked."""
    stands = f"100 % is {tested.store_max:.3g}, the largest of {count(tested.store_count)} firings in the store"
    table = titled(f"feature {tested.feature} ({tested.label}) on {count(len(tested.tests))} prompts: {stands}")
    for heading in ("prompt", "max", "of the store's", "percentile", "rank", "on", ""):
        table.add_column(heading, justify="left" if heading in ("prompt", "on", "") else "right")
    for one in tested.tests:
        fires = one.max > 0
        flag = "above 100 %" if one.above_store else ""
        figures = [f"{one.max:.3g}", f"{one.shares_of_max[one.peak]:.1%}", f"{one.percentiles[one.peak]:.1%}", count(one.ranks[one.peak])]
        cells = [*figures, quoted(one.pieces[one.peak]), flag] if fires else ["0", "0 %", "", "", "does not fire", ""]
        table.add_row(*map(Text, [_short(one.text), *cells]))
    lines = [_marked(one) for one in tested.tests if one.max > 0]
    many = tested.above_store
    flags = [Text(f"\n{count(many)} above 100 %: the examples in the store are too narrow to say what it responds to", style="bold")] if many else []
    return Group(table, *lines, *flags)


def prompts_view(found: "microtome.features.PromptSearch") -> Table:
    """Features that fire on all of some prompts and on none of others."""
    said = f"on all of {len(found.positive)} prompts" + (f" but {found.misses}" if found.misses else "")
    said += f" ({count(found.n_common)} of {count(found.n_active)})"
    if found.negative:
        said += f" and not on {len(found.negative)} others ({count(found.n_left)} are left)"
    table = titled(f"features {said}, ranked by {found.rank}")
    for heading in ("feature", "label", "weakest there", "strongest on", "in the others", "density"):
        table.add_column(heading, justify="left" if heading in ("label", "strongest on") else "right")
    for hit in found.hits:
        peaks = ", ".join(quoted(piece) for piece in hit.peaks)
        table.add_row(*map(Text, [str(hit.feature), plain(hit.label), f"{hit.worst:.0%}", peaks, f"{hit.against:.0%}", f"{hit.density:.3%}"]))
    return table


def token_view(found: "microtome.features.TokenSearch") -> Table:
    """Features that fire on a token."""
    pieces = ", ".join(quoted(piece) for piece in found.pieces[:8]) + (" …" if len(found.pieces) > 8 else "")
    table = titled(f"features that fire on {pieces} ({count(found.occurrences)} times in the store, {count(found.n_active)} features)")
    for heading in ("feature", "label", "F1", "fires on it", "of its firings", "mean", "of its max", "density"):
        table.add_column(heading, justify="left" if heading == "label" else "right")
    for hit in found.hits:
        figures = [f"{hit.f1:.2f}", f"{hit.rate:.0%}", f"{hit.share:.0%}", f"{hit.mean:.3g}", f"{hit.share_of_max:.0%}", f"{hit.density:.3%}"]
        table.add_row(*map(Text, [str(hit.feature), plain(hit.label), *figures]))
    return table


def separation_view(found: "microtome.features.Separation") -> Group:
    """Features that tell two sets of texts apart."""
    sides = f"{count(found.n_positive)} texts from {count(found.n_negative)} others"
    table = titled(f"features that tell {sides} by the {found.pool} over a text")
    for heading in ("feature", "label", "AUC", "95 % interval", "p", "mean there", "in the others", "density"):
        table.add_column(heading, justify="left" if heading == "label" else "right")
    for hit in found.hits:
        figures = [f"{hit.auc:.3f}", f"{hit.low:.2f} – {hit.high:.2f}", f"{hit.p:.3g}", f"{hit.positive:.1%}", f"{hit.negative:.1%}"]
        table.add_row(*map(Text, [str(hit.feature), plain(hit.label), *figures, f"{hit.density:.3%}"]))
    tried = f"{count(found.n_tested)} features were tried; p counts shuffles of the labels in which the best of all of them does as well "
    chance = f"(95 % of the shuffles stay below AUC {found.null_95:.3f}, or above {1 - found.null_95:.3f}). "
    return Group(table, Text(f"{tried}{chance}{count(found.n_significant)} have p ≤ 0.05. The intervals are each feature's own."))


def labels_view(found: "microtome.features.Table") -> Table:
    """Features whose label holds some words."""
    table = titled(f'{count(found.total)} features with "{found.search}" in their label')
    for heading in ("feature", "site", "label", "F1", "density", "commonest token", "raises most"):
        table.add_column(heading, justify="right" if heading in ("feature", "F1", "density") else "left")
    for row in found.rows:
        cells = [str(row.feature), row.site, plain(row.label), f"{row.f1:.2f}", f"{row.density:.3%}", quoted(row.token), quoted(row.top_logit)]
        table.add_row(*map(Text, cells))
    return table


def _marked(one: "microtome.features.TextTest") -> Text:
    """The prompt, its firing tokens marked by their share of the store's maximum."""
    line = Text("  ", overflow="fold")
    for piece, share in zip(one.pieces, one.shares_of_max, strict=True):
        line.append(plain(piece), style=_SHADES[0 if share <= 0 else 1 if share < 0.34 else 2 if share < 0.67 else 3])
    return line


def _short(text: str) -> str:
    shown = plain(text)
    return shown if len(shown) <= 60 else f"{shown[:59]}…"
