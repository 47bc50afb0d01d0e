"""How long it takes to ask what one feature feeds: TWERA from a feature to all later layers of a set of 30 × 2,048 transcoders, 1M tokens, warm.

The store is synthetic but whole: every token has 16 active features a layer, with log-normally spread densities, as a trained set has;
weights are random (width 576), with a norm before every layer. It is kept in bench/.work (6 GB; `--quick`: 10,000 tokens and no figure). Timed is
`index.downstream(feature)`, a list of 20 each way, over 200 random features. Equality: TWERA of random pairs is computed from both inverted lists.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from rows import say, within

from microtome.activations import CorpusConfig, build_corpus
from microtome.artifacts import Draft, Workspace, read_manifest
from microtome.dictionaries import DictionarySet, TopK, Transcoder, save
from microtome.features import FeatureIndex, IndexConfig
from microtome.features.arrays import create_arrays, flush_arrays, write_arrays
from microtome.features.postings import INVERTED, forward_name, write_inverted
from microtome.features.rows import SCHEMA, write_rows
from microtome.features.text import Vocabulary
from microtome.models import Model, Site, tiny

QUICK = "--quick" in sys.argv
WORK = Path(__file__).parent / ".work" / ("twera-quick" if QUICK else "twera")
LAYERS, D_DICT, D_MODEL, K = 30, 2_048, 576, 16
TOKENS, RANGE = (10_000 if QUICK else 1_000_000), 65_536
ASKED, LIMIT_MS = 200, 50.0
_BITS = 20


def main() -> None:
    index = _index()
    alive = np.flatnonzero(index.store.rows.numbers["count"] > 0)
    draw = np.random.default_rng(1)
    early = alive[alive < (LAYERS - 1) * D_DICT]
    features = draw.choice(early, ASKED, replace=False).tolist()
    for feature in features:  # the rows that they need are then in memory
        index.downstream(feature)
    _check(index, features[:3], draw=draw)
    times: list[float] = []
    for feature in features:
        start = time.perf_counter()
        index.downstream(feature)
        times.append(1000 * (time.perf_counter() - start))
    p95 = float(np.quantile(times, 0.95))
    say(f"median {np.median(times):.1f} ms, p95 {p95:.1f} ms, worst {max(times):.1f} ms, n {len(times)}, {index.store.postings.nnz:,} postings")
    if not QUICK:
        tokens = index.store.corpus.n_tokens / 1e6
        name = f"TWERA of one feature, all later layers of 30 × 2,048, {tokens:.1f}M tokens, p95 warm"
        within(name, p95, limit=LIMIT_MS, unit="ms", equal="each of 60 pairs from the two inverted lists, to 1e-3")


def _check(index: FeatureIndex, features: list[int], *, draw: np.random.Generator) -> None:
    """TWERA of listed and of random pairs once more, each from the two features' own firings."""
    postings = index.store.postings
    for feature in features:
        links = index.downstream(feature, limit=10)
        source = postings.feature(feature)
        for link in (*links.promotes, *links.suppresses):
            target = postings.feature(link.feature)
            _, ours, theirs = np.intersect1d(source.positions, target.positions, assume_unique=True, return_indices=True)
            both = source.positions[ours]
            scale = np.empty(len(both))
            layer = link.feature // D_DICT
            for here, forward in postings.forward(both):
                found = forward.scales(range(layer, layer + 1))
                assert found is not None
                scale[here] = found[:, 0]
            sums = (source.values[ours].astype(np.float64) * target.values[theirs] * scale).sum() / target.values.astype(np.float64).sum()
            assert np.isclose(sums * link.weight, link.twera, rtol=1e-3), (link, sums * link.weight)


def _index() -> FeatureIndex:
    """The synthetic index, made on the first run."""
    workspace = Workspace(WORK)
    if "synthetic" not in workspace.names("index"):
        WORK.mkdir(parents=True, exist_ok=True)
        _make(workspace)
    return FeatureIndex.open(workspace.find("index", "synthetic"), workspace)


def _make(workspace: Workspace) -> None:
    model = tiny("llama")
    draw = np.random.default_rng(0)
    source = WORK / "texts.jsonl"
    words = ["that", "the", "assistant", "system", "user", "hello", "world", "and", "was"]
    with source.open("w") as file:
        for i in range(TOKENS // 1000 + 1):
            file.write(json.dumps({"title": str(i), "text": " " + " ".join(draw.choice(words, 1000))}) + "\n")
    corpus = build_corpus(model, CorpusConfig(source=str(source), context_length=100, max_tokens=TOKENS), out=workspace.place("corpus", "synthetic"))
    dictionary = _dictionary(workspace, corpus.id)
    inputs = {"corpus": corpus.id, "dictionary": dictionary, "model": model.fingerprint}
    ranges = [(start, min(start + RANGE, corpus.n_tokens)) for start in range(0, corpus.n_tokens, RANGE)]
    odds = draw.lognormal(0, 1.5, (LAYERS, D_DICT))
    with Draft.open(workspace.place("index", "synthetic"), "index", config=IndexConfig(), inputs=inputs) as draft:

        def write(number: int) -> None:
            start, end = ranges[number]
            if not draft.has(forward_name(number)):
                with draft.place(forward_name(number)) as path:
                    _write_range(path, end - start, odds=odds, seed=number)
            say(f"tokens {start:,} to {end:,} of {corpus.n_tokens:,}")

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(write, range(len(ranges))))
        if not draft.has(INVERTED):
            with draft.place(INVERTED) as path:
                files = [draft.path / forward_name(number) for number in range(len(ranges))]
                write_inverted(path, files, d_dict=LAYERS * D_DICT, starts=[start for start, _ in ranges])
        with draft.place("features.parquet") as path:
            _write_features(path, draft.path / INVERTED, kept=corpus.n_tokens)
        with draft.place("vocabulary.safetensors") as path:
            Vocabulary.of(_bytes_of(model), n_vocab=len(model.tokenizer)).write(path)
        with draft.place("norms.safetensors") as path:
            write_arrays(path, {"gain": draw.normal(1, 0.1, (LAYERS, D_MODEL)).astype(np.float32)})
        draft.write("index.json", json.dumps(_facts(ranges)))
        draft.finish(summary={})


def _bytes_of(model: Model) -> Any:
    return model.tokenizer.token_bytes


def _dictionary(workspace: Workspace, corpus_id: str) -> str:
    if "synthetic" in workspace.names("dictionary"):
        return read_manifest(workspace.find("dictionary", "synthetic")).id
    draw = torch.Generator().manual_seed(0)
    members: list[Transcoder] = []
    for layer in range(LAYERS):
        shape = (D_DICT, D_MODEL)
        weights = {name: torch.randn(shape, generator=draw) / D_MODEL**0.5 for name in ("W_enc", "W_dec")}
        weights |= {"b_enc": torch.zeros(D_DICT), "b_dec": torch.zeros(D_MODEL)}
        members.append(Transcoder(reads=Site("mlp_in", layer), writes=(Site("mlp_out", layer),), nonlinearity=TopK(k=K), weights=weights))
    with Draft.open(workspace.place("dictionary", "synthetic"), "dictionary", config={"random": 0}, inputs={"corpus": corpus_id}) as draft:
        save(DictionarySet(tuple(members)), draft)
        return draft.finish().id


def _write_range(path: Path, n: int, *, odds: Any, seed: int) -> None:
    """k features a token and layer, drawn one after the other by odds: the first k distinct ones of more draws than ever are needed."""
    draw = np.random.default_rng([7, seed])
    per_token = LAYERS * K
    made = create_arrays(
        path,
        {
            "indptr": (np.int64, (n + 1,)),
            "ids": (np.uint16, (n * per_token,)),
            "values": (np.float16, (n * per_token,)),
            "keep": (np.bool_, (n,)),
            "bounds": (np.uint16, (n, LAYERS)),
            "scales": (np.float32, (n, LAYERS)),
        },
    )
    made["indptr"][...], made["keep"][...] = np.arange(n + 1) * per_token, True
    made["bounds"][...], made["scales"][...] = np.arange(LAYERS) * K, draw.uniform(0.5, 2, (n, LAYERS))
    ids, values = made["ids"].reshape(n, LAYERS, K), made["values"].reshape(n, LAYERS, K)
    for layer in range(LAYERS):
        ends = np.cumsum(odds[layer]) / odds[layer].sum() * (1 << _BITS)
        table = np.repeat(np.arange(D_DICT, dtype=np.uint16), np.diff(np.round(ends).astype(np.int64), prepend=0))
        for start in range(0, n, 4096):
            rows = min(4096, n - start)
            ids[start : start + rows, layer] = _distinct(table[draw.integers(0, 1 << _BITS, (rows, 2 * K), dtype=np.uint32)]) + layer * D_DICT
            values[start : start + rows, layer] = draw.standard_exponential((rows, K), dtype=np.float32) + np.float32(0.01)
    flush_arrays(made)


def _distinct(drawn: Any) -> Any:
    """The first K distinct numbers of every row, ascending."""
    n, width = drawn.shape
    keys = np.sort(drawn.astype(np.uint32) * 64 + np.arange(width, dtype=np.uint32), 1)
    who = keys // 64
    again = np.concatenate([np.zeros((n, 1), bool), who[:, 1:] == who[:, :-1]], 1)
    late = np.sort(np.where(again, 64, keys % 64), 1)[:, K - 1 : K]
    chosen = ~again & (keys % 64 <= late)
    assert bool((chosen.sum(1) == K).all()), "more draws a row are needed"
    return who[chosen].reshape(n, K)


def _write_features(path: Path, inverted: Path, *, kept: int) -> None:
    from microtome.features.arrays import open_arrays

    arrays = open_arrays(inverted)
    counts = np.diff(arrays["indptr"])
    empty: dict[str, Any] = {name: [] if str(SCHEMA.field(name).type).startswith("list") else None for name in SCHEMA.names}

    def rows() -> Any:
        for feature, count in enumerate(counts.tolist()):
            start = int(arrays["indptr"][feature])
            mean = float(np.asarray(arrays["values"][start : start + count]).astype(np.float64).mean()) if count else 0.0
            row = {"feature": feature, "count": count, "density": count / kept, "mean": mean, "rule": f"feature {feature}", "rule_kind": "none"}
            numbers = dict.fromkeys(
                ("documents", "max", "second_moment", "entropy", "distinct", "decoder_norm", "encoder_norm", "f1", "cosine", "lift"), 0
            )
            yield empty | numbers | {"rule_weak": False, "token": "", "top_logit": "", "corpus_label": ""} | row

    write_rows(path, [pa.Table.from_pylist(list(rows()), schema=SCHEMA)])


def _facts(ranges: list[tuple[int, int]]) -> dict[str, Any]:
    sites = [f"L{layer}.mlp_in" for layer in range(LAYERS)]
    return {
        "model": "synthetic",
        "quantised": "",
        "reads": f"{LAYERS} sites",
        "members": [{"reads": site, "writes": [site.replace("in", "out")], "features": D_DICT} for site in sites],
        "norms": [{"stream": f"L{layer}.resid_mid", "norm": True, "centres": False, "scaled": True} for layer in range(LAYERS)],
        "ranges": [list(span) for span in ranges],
        "tokens": ranges[-1][1],
        "kept": ranges[-1][1],
        "documents": 1,
        "parts": {},
        "quality": {},
    }


if __name__ == "__main__":
    main()
