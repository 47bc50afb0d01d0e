"""Answers about texts of one's own, as the terminal shows them: prompts on a feature, and features by prompts, a token, a label, two sets."""

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from microtome.cli.cards import plain, quoted
from microtome.cli.listing import Listing
from microtome.cli.words import count, counted

if TYPE_CHECKING:
    import microtome.features

_SHADES = ("", "underline", "bold underline", "bold reverse")


def tests_view(tested: "microtome.features.TextTests") -> Group:
    """A line a prompt, and the prompts themselves with the firing tokens marked."""
    stands = f"100 % is {tested.store_max:.3g}, the largest of {count(tested.store_count)} firings in the store"
    rows: list[tuple[str, ...]] = []
    for one in tested.tests:
        figures = [f"{one.max:.3g}", f"{one.shares_of_max[one.peak]:.1%}", f"{one.percentiles[one.peak]:.1%}", count(one.ranks[one.peak])]
        cells = [*figures, quoted(one.pieces[one.peak])] if one.max > 0 else ["0", "0 %", "", "", "does not fire"]
        rows.append((_short(one.text), *cells))
    listing = Listing(
        title=f"feature {tested.feature} ({tested.label}) on {counted(len(tested.tests), 'prompt')}: {stands}",
        headings=("prompt", "max", "of the store's", "percentile", "rank", "on"),
        rows=rows,
        texts=("prompt",),
        names=("on",),
    )
    lines = [_marked(one) for one in tested.tests if one.max > 0]
    many = tested.above_store
    flags = [Text(f"\n{count(many)} above 100 %: the examples in the store are too narrow to say what it responds to", style="bold")] if many else []
    return Group(listing, *lines, *flags)


def search_view(search: "microtome.features.Search") -> Listing:
    """Features ranked by how they respond to a text."""
    rows = [
        (str(x.feature), x.label, quoted(search.pieces[x.peak]), f"{x.max:.2f}", f"{x.share_of_max:.0%}", f"{x.density:.3%}") for x in search.hits
    ]
    title = f'features on "{search.text[:80]}" ({count(search.n_active)} active), ranked by {search.rank}'
    headings = ("feature", "label", "strongest on", "activation", "of its max", "density")
    return Listing(title=title, headings=headings, rows=rows, names=("strongest on",))


def prompts_view(found: "microtome.features.PromptSearch") -> Listing:
    """Features that fire on all of some prompts and on none of others."""
    said = f"on all of {counted(len(found.positive), 'prompt')}" + (f" but {found.misses}" if found.misses else "")
    said += f" ({count(found.n_common)} of {count(found.n_active)})"
    if found.negative:
        said += f" and not on {counted(len(found.negative), 'other')} ({count(found.n_left)} are left)"
    rows = [
        (str(hit.feature), hit.label, f"{hit.worst:.0%}", ", ".join(map(quoted, hit.peaks)), f"{hit.against:.0%}", f"{hit.density:.3%}")
        for hit in found.hits
    ]
    headings = ("feature", "label", "weakest there", "strongest on", "in the others", "density")
    return Listing(title=f"features {said}, ranked by {found.rank}", headings=headings, rows=rows, texts=("label", "strongest on"))


def token_view(found: "microtome.features.TokenSearch") -> Listing:
    """Features that fire on a token."""
    pieces = ", ".join(quoted(piece) for piece in found.pieces[:8]) + (" …" if len(found.pieces) > 8 else "")
    title = f"features that fire on {pieces} ({count(found.occurrences)} times in the store, {count(found.n_active)} features)"
    rows: list[tuple[str, ...]] = []
    for hit in found.hits:
        figures = [f"{hit.f1:.2f}", f"{hit.rate:.0%}", f"{hit.share:.0%}", f"{hit.mean:.3g}", f"{hit.share_of_max:.0%}", f"{hit.density:.3%}"]
        rows.append((str(hit.feature), hit.label, *figures))
    headings = ("feature", "label", "F1", "fires on it", "of its firings", "mean", "of its max", "density")
    return Listing(title=title, headings=headings, rows=rows)


def separation_view(found: "microtome.features.Separation") -> Group:
    """Features that tell two sets of texts apart."""
    sides = f"{counted(found.n_positive, 'text')} from {counted(found.n_negative, 'other')}"
    rows: list[tuple[str, ...]] = []
    for hit in found.hits:
        figures = [f"{hit.auc:.3f}", f"{hit.low:.2f} – {hit.high:.2f}", f"{hit.p:.3g}", f"{hit.positive:.1%}", f"{hit.negative:.1%}"]
        rows.append((str(hit.feature), hit.label, *figures, f"{hit.density:.3%}"))
    headings = ("feature", "label", "AUC", "95 % interval", "p", "mean there", "in the others", "density")
    listing = Listing(title=f"features that tell {sides} by the {found.pool} over a text", headings=headings, rows=rows)
    tried = f"{count(found.n_tested)} features were tried; p counts shuffles of the labels in which the best of all of them does as well "
    chance = f"(95 % of the shuffles stay below AUC {found.null_95:.3f}, or above {1 - found.null_95:.3f}). "
    return Group(listing, Text(f"{tried}{chance}{count(found.n_significant)} have p ≤ 0.05. The intervals are each feature's own."))


def labels_view(found: "microtome.features.Table") -> Listing:
    """Features whose label holds some words."""
    title = f'{counted(found.total, "feature")} with "{found.search}" in {"its" if found.total == 1 else "their"} label'
    rows = [
        (str(row.feature), row.site, row.label, f"{row.f1:.2f}", f"{row.density:.3%}", quoted(row.token), quoted(row.top_logit)) for row in found.rows
    ]
    headings = ("feature", "site", "label", "F1", "density", "commonest token", "raises most")
    return Listing(title=title, headings=headings, rows=rows, names=("site", "commonest token", "raises most"))


def _marked(one: "microtome.features.TextTest") -> Text:
    """The prompt, its firing tokens marked by their share of the store's maximum."""
    line = Text("  ", overflow="fold")
    for piece, share in zip(one.pieces, one.shares_of_max, strict=True):
        line.append(plain(piece), style=_SHADES[0 if share <= 0 else 1 if share < 0.34 else 2 if share < 0.67 else 3])
    return line


def _short(text: str) -> str:
    shown = plain(text)
    return shown if len(shown) <= 60 else f"{shown[:59]}…"
