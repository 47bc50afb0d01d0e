"""Attribution graphs on the demo model with 30 transcoders of 2,048 features (16 active a token): time, share of the physical limit, memory.

    python bench/trace.py                    a 20-token prompt, warm, best of three; the sweep's share of the matrix-product limit
    python bench/trace.py --set FOLDER       with a trained set (an artifact of kind dictionary) instead of a random one of the same shape
    python bench/trace.py --engines          the sweep against batched autograd on the same rows: times and largest difference
    python bench/trace.py --long 4096        a prompt of so many tokens with top-64 rows: time and peak memory of the pruned graph (`--rows 200`)

`--quick` traces 256 rows and prints no figure. Times are of the whole of `trace`, from text to graph. The limit is this machine's product of
[2560, 576] by [576, 576], the largest of the sweep, by the fastest library on every core. Equality: every row of every graph adds up to 1e-4.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from limits import product_limit
from rows import row, say, within
from transcoders import layers

from microtome.circuits import Graph, TraceConfig, trace, view
from microtome.circuits.engine_sweep import SweepEngine
from microtome.circuits.targets import Rows
from microtome.devices import peak_memory_bytes
from microtome.dictionaries import Dictionary, DictionarySet, load_any
from microtome.models import Model, load
from microtome.progress import Progress
from microtome.shapes import Tensor

ROWS = 2000
LIMIT_S, SHARE = 5.0, 0.5
SHORT = "The capital of France is Paris, and the capital of Italy is Rome. The capital of Spain is"
TEXT = (
    "The Danube is the second-longest river in Europe. It flows through Central and Eastern Europe, from the Black Forest south into the Black Sea. "
    "A large and historically important river, it was once a frontier of the Roman Empire. Today it passes through ten countries. "
)


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--set", type=Path)
    asked.add_argument("--long", type=int)
    asked.add_argument("--rows", type=int)
    asked.add_argument("--engines", action="store_true")
    asked.add_argument("--quick", action="store_true")
    given = asked.parse_args()
    model = load("demo", selfcheck=False)
    made = layers(model) if given.set is None else load_any(given.set)
    rows = given.rows or (256 if given.quick else ROWS)
    if given.long:
        measure_long(model, made, length=given.long, rows=given.rows or 200)
    elif given.engines:
        compare_engines(model, made, rows=rows)
    else:
        measure_short(model, made, rows=rows, quick=given.quick)


def measure_short(model: Model, made: Dictionary | DictionarySet, *, rows: int, quick: bool) -> None:
    config = TraceConfig(max_rows=rows)
    trace(model, made, SHORT, config=TraceConfig(max_rows=64))
    seconds: list[float] = []
    graph: Graph | None = None
    for _ in range(1 if quick else 3):
        start = time.perf_counter()
        graph = trace(model, made, SHORT, config=config)
        seconds.append(time.perf_counter() - start)
    assert graph is not None
    assert graph.balance() < 1e-4
    share, gflops, limit = share_of_limit(model, made, config)
    say(f"{len(graph.tokens)} tokens, {graph.n_features:,} features, {len(graph.rows):,} rows, {len(graph.edges.source):,} edges")
    say(f"balance {graph.balance():.1e}; {min(seconds):.2f} s; sweep {gflops:.0f} of {limit:.0f} GFLOP/s")
    if not quick:
        equal = "every row adds up to 1e-4"
        within(f"graph of a 20-token prompt on the demo model, {rows:,} rows, warm", min(seconds), limit=LIMIT_S, unit="s", equal=equal)
        row("share of the matrix-product limit in the sweep", ratio=share, bar=SHARE, ours=gflops, peer=limit, unit="GFLOP/s", equal=equal)


class Counted:
    """The sweep, with its time and its multiplications and additions counted."""

    def __init__(self, engine: SweepEngine) -> None:
        self.engine, self.flops = engine, 0.0
        self.spans: list[tuple[float, float]] = []
        self.plain = engine.add_effects

    def add_effects(self, rows: Rows, block: Tensor) -> None:
        start = time.perf_counter()
        self.plain(rows, block)
        self.spans.append((start, time.perf_counter()))
        n_tokens = int(rows.position.max()) + 1
        for layer, part in enumerate(self.engine._layers):
            (d, heads), keys = part.out.shape, part.value.shape[0]
            n = int((rows.place >= 2 * layer + 1).sum())
            scored = self.engine.sources._mlp[layer].starts[n_tokens]
            self.flops += 2.0 * n * (n_tokens * (d * heads + keys * d + n_tokens * heads) + scored * d)


def busy(spans: list[tuple[float, float]]) -> float:
    """Seconds in which at least one of them ran."""
    total, end = 0.0, 0.0
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def share_of_limit(model: Model, made: Dictionary | DictionarySet, config: TraceConfig) -> tuple[float, float, float]:
    """The sweep's GFLOP/s over those of one large product, and both."""
    counters: list[Counted] = []
    made_by = SweepEngine.of

    def counted(*args: Any) -> SweepEngine | None:
        engine = made_by(*args)
        assert engine is not None
        counters.append(Counted(engine))
        engine.add_effects = counters[-1].add_effects  # type: ignore[method-assign]  # only counted, here
        return engine

    SweepEngine.of = counted  # type: ignore[method-assign,assignment]  # only counted, here
    try:
        trace(model, made, SHORT, config=config)
    finally:
        SweepEngine.of = made_by  # type: ignore[method-assign]
    gflops = counters[0].flops / busy(counters[0].spans) / 1e9
    limit = product_limit(2_560, 576, 576)
    return gflops / limit, gflops, limit


def compare_engines(model: Model, made: Dictionary | DictionarySet, *, rows: int) -> None:
    graphs: list[Graph] = []
    for engine in ("sweep", "autograd"):
        config = TraceConfig(max_rows=rows, engine=engine, batch_rows=64)
        trace(model, made, SHORT, config=TraceConfig(max_rows=16, engine=engine))
        start, used = time.perf_counter(), time.process_time()
        graphs.append(trace(model, made, SHORT, config=config))
        say(f"{engine}: {time.perf_counter() - start:.2f} s, of CPU {time.process_time() - used:.2f} s, balance {graphs[-1].balance():.1e}")
    one, other = (dense(graph) for graph in graphs)
    say(f"largest difference, relative to the largest edge: {np.abs(one - other).max() / np.abs(other).max():.1e}")


def dense(graph: Graph) -> npt.NDArray[np.float32]:
    """Edges as a matrix, row × node."""
    made = np.zeros((len(graph.rows), len(graph.nodes)), dtype=np.float32)
    made[np.repeat(np.arange(len(graph.rows)), np.diff(graph.edges.indptr)), graph.edges.source] = graph.edges.weight
    return made


def measure_long(model: Model, made: Dictionary | DictionarySet, *, length: int, rows: int) -> None:
    tokens = (model.tokenizer.encode(TEXT) * (length // 20))[:length]
    before, start, used = peak_memory_bytes(), time.perf_counter(), time.process_time()
    graph = trace(model, made, tokens, config=TraceConfig(max_rows=rows, edges_per_row=64), progress=told())
    shown = view(graph)
    seconds, peak = time.perf_counter() - start, peak_memory_bytes()
    say(f"{length:,} tokens, {graph.n_features:,} features, {len(graph.rows)} rows, balance {graph.balance():.1e}")
    say(f"{seconds:.1f} s, of CPU {time.process_time() - used:.1f} s; pruned: {len(shown.nodes):,} nodes and {len(shown.edges):,} edges")
    say(f"peak {peak / 1e9:.2f} GB, before {before / 1e9:.2f} GB")
    within(f"pruned graph of {length:,} tokens, {len(graph.rows)} rows: peak memory", peak / 1e9, limit=24.0, unit="GB", equal="every row adds up")


def told() -> Progress:
    """Says when which step was reached."""
    start = time.perf_counter()

    def tell(step: str, done: float, total: float, unit: str = "", note: str = "") -> None:  # noqa: PLR0917  # the protocol's
        del unit, note
        say(f"{time.perf_counter() - start:7.1f} s  {step} {done:g} of {total:g}")

    return tell


if __name__ == "__main__":
    main()
