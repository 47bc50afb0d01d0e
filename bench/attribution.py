"""`trace` against circuit-tracer: the same model, transcoders, prompt and number of rows; edges equal before the clock counts.

A 64-token prompt of the demo model, 2,000 feature rows, a set of one transcoder a layer (30 layers × 2,048 features, 16 active a token); and a
cross-layer set (30 × 512 features that write to their own and all later layers, about 16 active) with fewer rows. Each side runs in a process of its
own with 2 threads, once on four tokens before the clock, and reads the same files: the model's weights, and the set in circuit-tracer's format.

    python bench/attribution.py [--set FOLDER] [--rows 2000] [--cross | --layers] [--cross-rows 256] [--quick]

The peer is circuit-tracer 0.5.0 of the package index with its TransformerLens backend. Its time is measured with few rows a backward, which is the
faster for it here (64; 16 with a cross-layer set), its memory with more (its default of 512; 64). Both hold the same things, but circuit-tracer makes
no features or errors at position 0, so rows are compared on the sources that both have, and each row's largest difference is relative to its largest
edge. Both choose rows by influence, so that not all are the same; those of both count. Memory is the largest resident size during the call less that
before it, with weights and transcoders in memory already.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rows import row, say

if TYPE_CHECKING:
    import numpy.typing as npt

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "peers"))
TEXT = (
    "The Danube is the second-longest river in Europe. It flows through Central and Eastern Europe, from the Black Forest south into the Black Sea. "
    "A large and historically important river, it was once a frontier of the Roman Empire. Today it passes through ten countries. "
)
N_TOKENS, EQUAL = 64, 1e-3
BARS = {"one a layer": 12.0, "cross-layer": 20.0}
BATCHES = {"one a layer": (64, 512), "cross-layer": (16, 64)}
"""Rows of one backward of circuit-tracer: for its time, and for its memory."""
MEMORY_BAR = 20.0


class Node(NamedTuple):
    """Errors are feature −1, embeddings layer −1, logits the number of layers."""

    layer: int
    position: int
    feature: int


class Edges(NamedTuple):
    """Rows by what they are about, of the sources that are named."""

    rows: "dict[Node, npt.NDArray[Any]]"
    columns: dict[Node, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", type=Path, help="the folder of a transcoder set of the demo model, one a layer; a random one unless given")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--cross-rows", type=int, default=256)
    parser.add_argument("--cross", action="store_true", help="only the cross-layer set")
    parser.add_argument("--layers", action="store_true", help="only the set of one a layer")
    parser.add_argument("--quick", action="store_true", help="64 rows, no figures")
    parser.add_argument("--ours", nargs=2, type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.ours:
        ours(*asked.ours)
        return
    cases = [name for name, other in (("one a layer", asked.cross), ("cross-layer", asked.layers)) if not other]
    with tempfile.TemporaryDirectory(prefix="microtome-bench-") as folder:
        for case in cases:
            rows = 64 if asked.quick else asked.rows if case == "one a layer" else asked.cross_rows
            compare(case, Path(folder), rows=rows, chosen=asked.set, quick=asked.quick)


def compare(case: str, folder: Path, *, rows: int, chosen: Path | None, quick: bool) -> None:
    import setup as peers

    asked, file = written(case, folder, rows=rows, chosen=chosen), folder / "asked.json"
    file.write_text(json.dumps(asked))
    mine = timed([sys.executable, str(HERE / "attribution.py"), "--ours", str(file)], folder / "ours.safetensors")
    say(f"{case}: ours {mine['seconds']:.2f} s, {mine['beyond_weights'] / 1e9:.3f} GB beyond weights, {mine['features']:,} features")
    program = [str(peers.python_of("circuit_tracer")), str(HERE / "peers" / "circuit_tracer_graph.py"), str(file)]
    what = f"graph of {N_TOKENS} tokens, {rows:,} rows, {case} ÷ circuit-tracer"
    sizes: list[float] = []
    for batch in BATCHES[case][: 1 if quick else 2]:
        file.write_text(json.dumps({**asked, "batch": batch}))
        theirs = timed(program, folder / "peer.safetensors")
        sizes.append(theirs["beyond_weights"] / 1e9)
        say(f"{case}: circuit-tracer, {batch} rows a backward: {theirs['seconds']:.2f} s, {sizes[-1]:.3f} GB, {theirs['features']:,} features")
        equal = equality(folder)
        if not quick and len(sizes) == 1:
            row(what, ratio=theirs["seconds"] / mine["seconds"], bar=BARS[case], ours=mine["seconds"], peer=theirs["seconds"], unit="s", equal=equal)
    if not quick:
        few, many = BATCHES[case]
        name = f"{what}, peak memory beyond weights (the peer with {many} rows a backward; {sizes[0]:.1f} GB with {few})"
        row(name, ratio=sizes[1] / (mine["beyond_weights"] / 1e9), bar=MEMORY_BAR, ours=mine["beyond_weights"] / 1e9, peer=sizes[1], unit="GB")


def written(case: str, folder: Path, *, rows: int, chosen: Path | None) -> dict[str, Any]:
    """What both sides read: the model, the transcoders and the prompt, as files."""
    from safetensors.torch import save_file
    from transcoders import cross_layer, layers

    from microtome.dictionaries import DictionarySet, load_any
    from microtome.dictionaries.formats import write_foreign
    from microtome.models import load

    model = load("demo", selfcheck=False)
    made = cross_layer(model, TEXT) if case == "cross-layer" else load_any(chosen) if chosen else layers(model)
    assert isinstance(made, DictionarySet)
    place = write_foreign(made, folder / case.replace(" ", "-"), format_name="circuit_tracer", about={"model_name": "demo"})
    weights = {name: value.contiguous().clone() for name, value in model.hf.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    model.tokenizer.hf.save_pretrained(str(folder))
    config = model.hf.config.to_dict()
    rope = config.get("rope_parameters") or {"rope_theta": config["rope_theta"]}
    names = ("hidden_size", "num_attention_heads", "num_key_value_heads", "intermediate_size", "num_hidden_layers", "rms_norm_eps", "vocab_size")
    shape = {name: config[name] for name in (*names, "hidden_act", "tie_word_embeddings")} | {"rope_theta": rope["rope_theta"]}
    bos = model.tokenizer.hf.bos_token_id
    assert isinstance(bos, int)
    tokens = ([bos] + model.tokenizer.encode(TEXT) * 2)[:N_TOKENS]
    files = {
        "weights": str(folder / "model.safetensors"),
        "tokenizer": str(folder / "tokenizer.json"),
        "bos": str(model.tokenizer.hf.bos_token),
        "config": shape,
    }
    return {"model": files, "set": str(place), "tokens": tokens, "rows": rows}


def timed(program: list[str], out: Path) -> dict[str, Any]:
    """One side in a process of its own; what it printed."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
        "HF_HUB_OFFLINE": "1",
        "TQDM_DISABLE": "1",
        "PYTHONPATH": str(HERE / "peers"),
    }
    done = subprocess.run([*program, str(out)], check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def ours(file: Path, out: Path) -> None:
    """Our side."""
    from peak import beyond
    from safetensors.numpy import save_file

    from microtome.circuits import TraceConfig, trace
    from microtome.dictionaries import load_any
    from microtome.models import load

    asked = json.loads(file.read_text())
    model, made = load("demo", selfcheck=False), load_any(asked["set"])
    trace(model, made, asked["tokens"][:4], config=TraceConfig(max_rows=16))
    with beyond() as used:
        start = time.perf_counter()
        graph = trace(model, made, asked["tokens"], config=TraceConfig(max_rows=asked["rows"]))
        seconds = time.perf_counter() - start
    assert graph.balance() < 1e-4
    nodes = {name: getattr(graph.nodes, name) for name in ("kind", "layer", "position", "feature", "activation")}
    edges = {name: getattr(graph.edges, name) for name in ("indptr", "source", "weight")}
    save_file({**nodes, **edges, "rows": graph.rows}, out)
    print(json.dumps({"seconds": seconds, "beyond_weights": used.bytes, "features": graph.n_features}))


def equality(folder: Path) -> str:
    """Compare; what is equal, as a sentence."""
    import numpy as np

    one, other = our_edges(folder / "ours.safetensors"), peer_edges(folder / "peer.safetensors")
    rows, columns = sorted(one.rows.keys() & other.rows.keys()), sorted(one.columns.keys() & other.columns.keys())
    mine, theirs = [one.columns[each] for each in columns], [other.columns[each] for each in columns]
    worst = 0.0
    for each in rows:
        left, right = one.rows[each][mine], other.rows[each][theirs]
        worst = max(worst, float(np.abs(left - right).max() / max(np.abs(right).max(), 1e-12)))
    say(f"{len(rows):,} rows of both ({len(one.rows):,} and {len(other.rows):,}) on {len(columns):,} sources; largest difference {worst:.1e}")
    assert len(rows) > len(other.rows) / 3
    assert worst < EQUAL, worst
    return f"{len(rows):,} rows of both on {len(columns):,} sources, largest difference {worst:.0e} of a row's largest edge"


def our_edges(file: Path) -> Edges:
    """Our graph; biases have no node there, so that they are no column."""
    import numpy as np
    from safetensors.numpy import load_file

    from microtome.circuits.graph import BIAS

    found = load_file(file)
    n = len(found["kind"])
    keys = [Node(*map(int, key)) for key in zip(found["layer"], found["position"], found["feature"], strict=True)]
    keys = [key._replace(feature=-1) if key.layer < 0 else key for key in keys]
    rows: dict[Node, Any] = {}
    for place, node in enumerate(found["rows"]):
        dense = np.zeros(n, dtype=np.float32)
        part = slice(found["indptr"][place], found["indptr"][place + 1])
        dense[found["source"][part]] = found["weight"][part]
        rows[keys[node]] = dense
    return Edges(rows, {keys[node]: node for node in range(n) if found["kind"][node] != BIAS})


def peer_edges(file: Path) -> Edges:
    """Its matrix: chosen features, errors by layer and position, tokens, logits, both ways."""
    from safetensors.numpy import load_file

    found = load_file(file)
    chosen = [Node(*map(int, found["active"][each])) for each in found["chosen"]]
    n_layers, n_tokens = int(found["active"][:, 0].max()) + 1, N_TOKENS
    errors = [Node(layer, position, -1) for layer in range(n_layers) for position in range(n_tokens)]
    logits = [Node(n_layers, n_tokens - 1, int(token)) for token in found["tokens"]]
    keys = [*chosen, *errors, *(Node(-1, position, -1) for position in range(n_tokens)), *logits]
    traced = {*range(len(chosen)), *range(len(keys) - len(logits), len(keys))}
    assert len(keys) == len(found["edges"])
    sources = {key: place for place, key in enumerate(keys[: len(keys) - len(logits)]) if key.position > 0 or key.layer < 0}
    return Edges({keys[place]: found["edges"][place] for place in traced}, sources)


if __name__ == "__main__":
    main()
