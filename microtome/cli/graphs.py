"""A graph, its paths and a contrast of two, as the terminal shows them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from microtome.cli.cards import plain, quoted, titled
from microtome.cli.words import count

if TYPE_CHECKING:
    import microtome.circuits

_A_LAYER = 3


def paths_of(graph: "microtome.circuits.Graph", labels: Mapping[tuple[int, int], str], *, count: int) -> list[dict[str, Any]]:
    """The strongest paths from a token to the first target, for `--json` and for the table."""
    from microtome.circuits import node_name, target_paths

    def step(node: int) -> dict[str, Any]:
        nodes = graph.nodes
        key = (int(nodes.layer[node]), int(nodes.feature[node]))
        position = int(nodes.position[node])
        label = labels.get(key, "") if node in features else graph.pieces[position] if node in embeddings else ""
        return {"id": node_name(graph, node), "label": label}

    features, embeddings = set(map(int, graph.nodes.where("feature"))), set(map(int, graph.nodes.where("embedding")))
    found = target_paths(graph, target=0, count=count)
    return [
        {"strength": path.strength, "sign": path.sign, "nodes": [step(node) for node in path.nodes], "weights": list(path.weights)} for path in found
    ]


def graph_views(view: "microtome.circuits.GraphView", paths: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    """Targets, scores, paths and the top features of every layer."""
    head = Text.assemble((plain(view.prompt), "bold"), f"  {plain(view.model)}, {', '.join(view.dictionaries)}")
    return [head, _targets(view), Text(scores_line(view)), Text(_hidden(view)), _paths(paths), _top(view)]


def scores_line(view: "microtome.circuits.GraphView") -> str:
    """Replacement, completeness, error share, what was not traced, and the balance."""
    scores = view.scores
    told = [("replacement", scores.replacement, ".3f"), ("completeness", scores.completeness, ".3f"), ("error share", scores.error_share, ".1%")]
    told.append(("not traced", scores.untraced, ".1%"))
    parts = [f"{name} {value:{form}}" for name, value, form in told if value is not None]
    if scores.balance is not None:
        parts.append(f"every row adds up to its pre-activation within {scores.balance:.1e}")
    return " · ".join(parts) or "the file does not tell the graph's scores"


def contrast_views(found: "microtome.circuits.Merged") -> list[RenderableType]:
    """What one prompt has and the other has not, largest difference of influence first."""
    table = titled(f'nodes of "{found.prompts[0][:60]}" less those of "{found.prompts[1][:60]}"')
    for heading in ("node", "label", "influence, first", "second", "activation, first", "second"):
        table.add_column(heading, justify="left" if heading in ("node", "label") else "right")
    for node in found.nodes[:15]:
        numbers = [f"{value:.2%}" for value in node.influence] + ["" if value is None else f"{value:.3g}" for value in node.activation]
        table.add_row(*map(Text, [plain(node.name), plain(node.label)[:50], *numbers]))
    edges = titled("edges with the largest difference")
    for heading in ("from", "to", "first", "second", "difference"):
        edges.add_column(heading, justify="left" if heading in ("from", "to") else "right")
    known = [edge for edge in found.edges if edge.difference is not None]
    for edge in known[:15]:
        ends = [plain(found.nodes[place].name) for place in (edge.source, edge.target)]
        edges.add_row(*map(Text, [*ends, *("" if value is None else f"{value:+.3g}" for value in (*edge.weight, edge.difference))]))
    unknown = len(found.edges) - len(known)
    notes = [Text(f"{count(unknown)} edges are not known in one of the two: their target was not expanded there")] if unknown else []
    return [table, edges, *notes]


def _targets(view: "microtome.circuits.GraphView") -> Text:
    said = [f"{plain(node.id)} {node.probability:.1%}" for node in view.nodes if node.kind == "target" and node.probability is not None]
    return Text(f"explains {', '.join(said)}")


def _hidden(view: "microtome.circuits.GraphView") -> str:
    shown = f"{count(len(view.nodes))} nodes and {count(len(view.edges))} edges at thresholds {view.thresholds.node:g} and {view.thresholds.edge:g}"
    hidden = view.hidden
    if hidden.nodes is None or hidden.edges is None or hidden.influence is None:
        return shown
    return f"{shown}; hidden: {count(hidden.nodes)} nodes with {hidden.influence:.1%} of influence, {count(hidden.edges)} edges"


def _paths(paths: Sequence[Mapping[str, Any]]) -> Table:
    table = titled("strongest paths (share of the first target's input that comes along each; + supports, − works against)", show_header=False)
    table.add_column("strength", justify="right")
    table.add_column("path")
    for path in paths:
        steps = " → ".join(_step(node) for node in path["nodes"])
        table.add_row(Text(f"{'+' if path['sign'] > 0 else '−'}{path['strength']:.2%}"), Text(steps))
    return table


def _step(node: Mapping[str, str]) -> str:
    label = plain(node["label"])
    label = label if len(label) <= 40 else f"{label[:39]}…"
    return f"{plain(node['id'])} ({label})" if label else plain(node["id"])


def _top(view: "microtome.circuits.GraphView") -> Table:
    """The features with most influence, a few a layer, the last layer first."""
    table = titled(f"top features of each layer (of {count(sum(node.kind == 'feature' for node in view.nodes))} shown)")
    for heading in ("layer", "feature", "on", "activation", "down to", "label"):
        table.add_column(heading, justify="right" if heading in ("layer", "activation", "down to") else "left")
    by_layer: dict[int, list[Any]] = {}
    for node in view.nodes:
        if node.kind == "feature":
            by_layer.setdefault(node.layer, []).append(node)
    for layer in sorted(by_layer, reverse=True):
        best = sorted(by_layer[layer], key=lambda node: node.influence or 0.0)[:_A_LAYER]
        for place, node in enumerate(best):
            fired = "" if node.activation is None else f"{node.activation:.3g}"
            share = "" if node.influence is None else f"{node.influence:.1%}"
            piece = quoted(view.tokens[node.position]) if 0 <= node.position < len(view.tokens) else ""
            table.add_row(*map(Text, [f"L{layer}" if place == 0 else "", plain(node.id), piece, fired, share, plain(node.label)[:60]]))
    return table
