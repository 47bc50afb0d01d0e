"""An overview, and what a card shares with it, as self-contained HTML for a notebook: every text escaped, light and dark, no script, no request."""

from collections.abc import Sequence
from html import escape

from microtome.features.records import Histogram, LogitEntry, Overview, TableRow, Window

STYLE = """<style>
.mt{font:13px/1.5 system-ui,sans-serif;color:#1b1f24;background:#fff;padding:12px;border-radius:8px;max-width:1000px;--hit:232,119,34}
.mt h3{margin:0 0 2px;font-size:16px}.mt h4{margin:12px 0 2px;font-size:13px}.mt .dim{color:#66707c}
.mt .win{font-family:ui-monospace,monospace;font-size:12px;white-space:pre-wrap;border-top:1px solid #8883;padding:3px 0}
.mt .cols{display:flex;flex-wrap:wrap;gap:8px 28px}.mt table{border-collapse:collapse}.mt td{padding:0 10px 0 0;border:0;text-align:left}
.mt code{background:#8882;border-radius:3px;padding:0 3px;white-space:pre}.mt svg rect{fill:#3d7cc9}
@media (prefers-color-scheme:dark){.mt{color:#dde3ea;background:#171b21}.mt .dim{color:#93a0ae}.mt svg rect{fill:#6aa5ec}}
</style>"""


def overview_html(overview: Overview) -> str:
    """An index at a glance."""
    counts = overview.counts
    quantised = f" ({escape(overview.sources['quantised'])})" if overview.sources["quantised"] else ""
    facts = (
        f"{escape(overview.sources['model'])}{quantised} at {escape(overview.sources['reads'])} over {escape(overview.sources['corpus'])} · "
        f"{counts['kept']:,} tokens in {counts['documents']:,} documents · {overview.l0:.1f} features active a token · "
        f"{counts['dead']:,} dead, {counts['dense']:,} dense"
    )
    rows = "".join(map(_row, overview.examples))
    return (
        f'{STYLE}<div class="mt"><h3>index {escape(overview.name)}: {counts["features"]:,} features</h3><div class="dim">{facts}</div>'
        f'<div class="cols"><div><h4>density</h4>{bars(overview.density)}</div><div><h4>F1 of rule labels</h4>{bars(overview.f1)}</div></div>'
        f"<h4>to begin with</h4><table>{rows}</table></div>"
    )


def _row(row: TableRow) -> str:
    return f"<tr><td>{row.feature}</td><td>{escape(row.label)}</td><td>F1 {row.f1:.2f}</td><td>density {row.density:.3%}</td></tr>"


def logits(entries: Sequence[LogitEntry]) -> str:
    """Rows of a table: each token with its logit."""
    return "".join(f"<tr><td>{code(entry.piece)}</td><td>{entry.logit:+.2f}</td></tr>" for entry in entries)


def windows(windows: Sequence[Window], largest: float) -> str:
    """Examples, one a line, shaded by activation over `largest`."""
    return "".join(f'<div class="win"><span class="dim">{escape(window.title)}</span> {_marked(window, largest)}</div>' for window in windows)


def _marked(window: Window, largest: float) -> str:
    parts: list[str] = []
    for i, (piece, activation) in enumerate(zip(window.pieces, window.activations, strict=True)):
        text = escape(piece.replace("\n", "⏎"))
        if activation <= 0:
            parts.append(text)
            continue
        share = min(1.0, activation / largest)
        edge = ";outline:1px solid currentColor" if i == window.peak else ""
        parts.append(f'<span title="{activation:.3g}" style="background:rgba(var(--hit),{0.1 + 0.75 * share:.2f}){edge}">{text}</span>')
    return "".join(parts)


def code(piece: str) -> str:
    """A token's piece, escaped."""
    return f"<code>{escape(piece.replace(chr(10), '⏎'))}</code>"


def bars(histogram: Histogram, *, width: int = 220, height: int = 50) -> str:
    """The histogram as a small SVG."""
    if not histogram.counts or not max(histogram.counts):
        return '<span class="dim">nothing</span>'
    most, step = max(histogram.counts), width / len(histogram.counts)
    bars = "".join(
        f'<rect x="{i * step:.1f}" y="{height * (1 - count / most):.1f}" width="{max(0.5, step - 0.5):.1f}" height="{height * count / most:.1f}"/>'
        for i, count in enumerate(histogram.counts)
        if count
    )
    ends = f"{histogram.edges[0]:.3g} to {histogram.edges[-1]:.3g}"
    return f'<svg width="{width}" height="{height}" role="img" aria-label="histogram, {ends}">{bars}</svg><div class="dim">{ends}</div>'
