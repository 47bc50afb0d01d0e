"""One figure as one line of JSON, the form that every script here prints on standard output (talk goes to standard error)."""

import json
import sys


def row(name: str, *, ratio: float, bar: float, ours: float, peer: float, unit: str, equal: str | None = None) -> None:
    """Print a figure: `ratio` is larger-is-better and `bar` the least we accept; `equal` says what equality of outputs was asserted."""
    figure = {"name": name, "ratio": round(ratio, 4), "bar": bar, "ours": ours, "peer": peer, "unit": unit, "equal": equal}
    print(json.dumps(figure, ensure_ascii=False), flush=True)


def within(name: str, measured: float, *, limit: float, unit: str, equal: str | None = None) -> None:
    """A figure with a limit instead of a peer: ratio = limit / measured."""
    row(name, ratio=limit / measured, bar=1.0, ours=round(measured, 4), peer=limit, unit=unit, equal=equal)


def say(text: str) -> None:
    """A remark for whoever watches."""
    print(text, file=sys.stderr, flush=True)
