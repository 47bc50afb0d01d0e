"""A graph for a notebook: tokens × layers as one SVG and its scores; every text escaped, light and dark, no script, no request."""

from collections import defaultdict
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import microtome.circuits

_STYLE = """<style>
.mg{font:13px/1.5 system-ui,sans-serif;color:#1b1f24;background:#fff;padding:12px;border-radius:8px;max-width:1100px;overflow-x:auto}
.mg h3{margin:0 0 2px;font-size:16px}.mg .dim{color:#66707c}.mg svg{display:block;margin-top:8px}
.mg svg text{font:11px ui-monospace,monospace;fill:currentColor}.mg .feature{fill:#463a8f}.mg .error{fill:#9aa3ad}.mg .embedding{fill:#2e8b6f}
.mg .target{fill:#d6336c}.mg .bias{fill:#b9bfc6}.mg .up{stroke:#5b4fb0}.mg .down{stroke:#b3711c;stroke-dasharray:4 3}
@media (prefers-color-scheme:dark){.mg{color:#dde3ea;background:#171b21}.mg .dim{color:#93a0ae}.mg .feature{fill:#b9aef5}
.mg .up{stroke:#9d8ff0}.mg .down{stroke:#e0a04a}.mg .bias{fill:#68717b}}
</style>"""
_COLUMN, _ROW, _LEFT, _TOP, _STEP = 74, 17, 46, 14, 9
_MOST_EDGES = 1500


def view_html(view: "microtome.circuits.GraphView") -> str:
    """The whole of a view, drawn; of very many edges the largest."""
    scores, hidden = view.scores, view.hidden
    told = [escape(view.model)]
    told += [
        f"{name} {value:.2f}" for name, value in (("replacement", scores.replacement), ("completeness", scores.completeness)) if value is not None
    ]
    told += [] if scores.error_share is None else [f"errors {scores.error_share:.1%}"]
    told += [f"not traced {scores.untraced:.1%}"] if scores.untraced else []
    told += [] if scores.balance is None else [f"every row adds up to {scores.balance:.1e}"]
    shown = [f"{len(view.nodes):,} nodes and {len(view.edges):,} edges shown"]
    shown += [] if hidden.nodes is None or hidden.influence is None else [f"{hidden.nodes:,} nodes with {hidden.influence:.1%} of influence hidden"]
    lines = "".join(f'<div class="dim">{" · ".join(each)}</div>' for each in (told, shown))
    return f'{_STYLE}<div class="mg"><h3>{escape(view.prompt)}</h3>{lines}{_svg(view)}</div>'


def _svg(view: "microtome.circuits.GraphView") -> str:
    rows = sorted({node.layer for node in view.nodes}, reverse=True)
    height_of = {layer: i for i, layer in enumerate(rows)}
    columns = sorted({node.position for node in view.nodes})
    column_of = {position: i for i, position in enumerate(columns)}
    taken: defaultdict[tuple[int, int], int] = defaultdict(int)
    places: list[tuple[float, float]] = []
    for node in view.nodes:
        column, row = column_of[node.position], height_of[node.layer]
        places.append((_LEFT + column * _COLUMN + 6 + _STEP * (taken[column, row] % 7), _TOP + row * _ROW + 2.5 * (taken[column, row] // 7)))
        taken[column, row] += 1
    largest = max((abs(weight) for _, _, weight in view.edges), default=1.0) or 1.0
    shown = sorted(view.edges, key=lambda edge: abs(edge[2]))[-_MOST_EDGES:]
    lines = "".join(
        f'<line x1="{places[s][0]:.0f}" y1="{places[s][1]:.0f}" x2="{places[t][0]:.0f}" y2="{places[t][1]:.0f}" class="{"up" if w > 0 else "down"}" '
        f'stroke-width="{0.4 + 2.6 * abs(w) / largest:.2f}" opacity="{0.15 + 0.6 * abs(w) / largest:.2f}"/>'
        for s, t, w in shown
    )
    dots = "".join(
        f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{3.6 if node.kind in ("target", "embedding") else 2.4 + 1.6 * (1 - (node.influence or 0)):.1f}" '
        f'class="{node.kind}"><title>{escape(f"{node.id} {node.label}".strip())} {_fired(node.activation)}</title></circle>'
        for node, (x, y) in zip(view.nodes, places, strict=True)
    )
    named = "".join(f'<text x="2" y="{_TOP + i * _ROW + 4}">{_layer(layer, view)}</text>' for i, layer in enumerate(rows))
    bottom = _TOP + len(rows) * _ROW + 8
    words = "".join(f'<text x="{_LEFT + i * _COLUMN}" y="{bottom}">{escape(_short(view, position))}</text>' for i, position in enumerate(columns))
    width = _LEFT + _COLUMN * len(columns) + 10
    return f'<svg width="{width}" height="{bottom + 8}" role="img" aria-label="attribution graph">{lines}{dots}{named}{words}</svg>'


def _layer(layer: int, view: "microtome.circuits.GraphView") -> str:
    if layer < 0:
        return "embed"
    return "target" if any(node.kind == "target" and node.layer == layer for node in view.nodes) else f"L{layer}"


def _short(view: "microtome.circuits.GraphView", position: int) -> str:
    if position < 0:
        return "biases"
    text = view.tokens[position].replace("\n", "⏎") if position < len(view.tokens) else ""
    return text if len(text) <= 10 else f"{text[:9]}…"


def _fired(activation: float | None) -> str:
    return "" if activation is None else f" · activation {activation:.3g}"
