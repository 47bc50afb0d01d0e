"""What was tried on a graph, as the terminal shows it."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from microtome.cli.cards import plain, quoted, titled

_NODES = 12


def tried_views(trial: Mapping[str, Any] | None, missing: Mapping[str, Any] | None) -> list[RenderableType]:
    """Predicted against measured, and swaps of tokens; what was not tried is left out."""
    made: list[RenderableType] = []
    if trial is not None:
        made += [_results(trial["results"], f"predicted against measured: {plain(trial['target'])}"), _nodes(trial["nodes"])]
    if missing is not None:
        made += [_results(missing["results"], f"swaps of tokens: {plain(missing['target'])}"), _swaps(missing)]
    return made


def _results(results: Sequence[Mapping[str, Any]], title: str) -> Table:
    table = titled(title)
    for heading in ("figure", "value", "95 %", "n", "shuffled, 95 %"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for each in results:
        beside = each["baselines"]
        shuffled = f"{beside['shuffled, low']:.2f} to {beside['shuffled, high']:.2f}" if "shuffled, low" in beside else ""
        interval = "" if each["low"] is None or each["high"] is None else f"{each['low']:.2f} to {each['high']:.2f}"
        table.add_row(*map(Text, [each["name"], f"{each['value']:.2f}", interval, str(each["n"]), shuffled]))
    return table


def _nodes(nodes: Sequence[Mapping[str, Any]]) -> Table:
    """Those whose ablation is predicted to do most."""
    table = titled("set to 0: the largest predicted changes")
    for heading in ("node", "chosen", "predicted", "measured", "KL"):
        table.add_column(heading, justify="left" if heading in ("node", "chosen") else "right")
    for node in sorted(nodes, key=lambda each: -abs(each["total"]))[:_NODES]:
        numbers = [f"{-node['total']:+.3g}", f"{node['ablated']:+.3g}", f"{node['kl_ablated']:.2g}"]
        table.add_row(*map(Text, [plain(node["node"]), node["group"], *numbers]))
    return table


def _swaps(missing: Mapping[str, Any]) -> Table:
    """Tokens in the order of the prompt; what matters more than the graph says is marked."""
    table = titled("tokens swapped for others: does the next token change where the graph says that it does not?")
    for heading in ("position", "token", "influence", "mean KL", ""):
        table.add_column(heading, justify="right" if heading in ("position", "influence", "mean KL") else "left")
    for each in sorted(missing["positions"], key=lambda one: one["position"]):
        at = each["position"]
        note = "matters more than the graph says" if at in missing["suspects"] else "should not matter" if at in missing["unimportant"] else ""
        kl = sum(each["kl"]) / max(1, len(each["kl"]))
        table.add_row(*map(Text, [str(at), quoted(each["token"]), f"{each['influence']:.3g}", f"{kl:.3g}", note]))
    return table
