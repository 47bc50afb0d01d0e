"""How long the pages' JSON takes, warm, through a real server on loopback: feature page, 100 of them in one answer, document page, filter of a
table of 65,536 features; beside them, without a bar, the panels that a feature page asks for once it is there.

Cards and documents come from a real index of a random dictionary (4,096 features, k 32) on a tiny model over random words. The table is that
index with its rows repeated to 65,536, figures and labels varied. Both are kept in bench/.work. Each figure is the 95th percentile over many
different requests. Equality: what comes over the wire is what the Python call says.
"""

import json
import random
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import uvicorn
from safetensors.numpy import load_file, save_file

from microtome.activations import CorpusConfig, HarvestConfig, build_corpus, harvest
from microtome.artifacts import Draft, Workspace, read_manifest
from microtome.config import to_dict
from microtome.dictionaries import SAE, TopK
from microtome.dictionaries.formats import native
from microtome.features import FeatureIndex, build_index
from microtome.models import Site, tiny
from microtome.web import create_app
from microtome.web.server import listen

WORK = Path(__file__).parent / ".work" / "pages"
NAME, WIDE = "synthetic", "synthetic-wide"
D_DICT, K, LONG, COPIES = 4_096, 32, 4_096, 16
COMMON = "the of and a to in is was for on with as by at from it an be this which or had not are but"
FILTERS = (
    "density > 0.0005",
    "density > 0.0001 and f1 < 0.3",
    'label ~ "the" and max > 1',
    'not rule_kind = "dead" and cosine > 0.3',
    'documents > 2 or token ~ "a"',
)
PANELS = ("around", "coactive", "alike", "suspects", "links", "effects", "loss")
SORTS = ("density", "f1", "max", "cosine", "entropy")
LIMITS_MS = {
    "feature page JSON, p95 warm": 30.0,
    "100 feature pages in one answer, p95 warm": 1000.0,
    "document page of 4,096 tokens, p95 warm": 50.0,
    "filter and sort of a 65,536-feature table, p95 warm": 100.0,
}


def main() -> None:
    index, wide = _index(), _wide()
    draw = random.Random(0)
    alive = [row.feature for row in index.table(filter="documents > 0", limit=D_DICT).rows]
    cards = [f"/{NAME}/f/{feature}" for feature in draw.sample(alive, 300)]
    batches = [f"/{NAME}/cards?features={','.join(map(str, draw.sample(alive, 100)))}" for _ in range(20)]
    panels = {name: [f"/{NAME}/f/{feature}/{name}" for feature in draw.sample(alive, 100)] for name in PANELS}
    long = next(row.doc for row in index.documents(limit=1000).rows if row.n_tokens >= LONG)
    offsets = range(0, 200, 4)
    documents = [f"/{NAME}/d/{long}?{urlencode({'offset': offset, 'length': LONG})}" for offset in offsets]
    tables = [
        f"/{WIDE}/features?" + urlencode({"filter": f"{filter} and feature != {i}", "sort": SORTS[i % 5], "descending": "true", "limit": 100})
        for i, filter in enumerate(FILTERS * 12)
    ]
    with _served() as ask:
        assert ask(cards[0]) == _said(index.card(int(cards[0].split("/")[-1])))
        several = list(map(int, batches[0].split("=")[1].split(",")))
        assert ask(batches[0])["cards"] == [_said(index.card(feature)) for feature in several]
        assert ask(documents[0]) == _said(index.document(long, offset=0, length=LONG))
        assert len(ask(documents[0])["pieces"]) == LONG
        assert wide.n_features == D_DICT * COPIES
        assert ask(f"/{WIDE}/features?filter=density+%3E+0.0005") == _said(wide.table(filter="density > 0.0005"))
        for (name, limit), paths in zip(LIMITS_MS.items(), (cards, batches, documents, tables), strict=True):
            _report(name, limit, p95=_p95(ask, paths))
        for name, paths in panels.items():  # no bar: a page asks for them after it is there
            print(f"panel {name}:", file=sys.stderr, end=" ")
            _p95(ask, paths)


def _report(name: str, limit_ms: float, *, p95: float) -> None:
    row = {"name": name, "ratio": round(limit_ms / p95, 3), "bar": 1.0, "ours": round(p95, 2), "peer": limit_ms, "unit": "ms"}
    print(json.dumps({**row, "equal": "JSON over the wire = the record of the Python call"}), flush=True)


def _p95(ask: Any, paths: list[str]) -> float:
    """Milliseconds from the request's first byte to the answer's last, after a tenth of the requests as warm-up."""
    for path in paths[: max(3, len(paths) // 10)]:
        ask(path, decode=False)
    times: list[float] = []
    for path in paths:
        start = time.perf_counter()
        ask(path, decode=False)
        times.append(1000 * (time.perf_counter() - start))
    print(f"median {np.median(times):.2f} ms, p95 {np.quantile(times, 0.95):.2f} ms, worst {max(times):.2f} ms, n {len(times)}", file=sys.stderr)
    return float(np.quantile(times, 0.95))


@contextmanager
def _served() -> Generator[Any]:
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(WORK), log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        line = HTTPConnection("127.0.0.1", listener.getsockname()[1])

        def ask(path: str, *, decode: bool = True) -> Any:
            line.request("GET", f"/api/s{path}")
            answer = line.getresponse()
            body = answer.read()
            assert answer.status == 200, body
            if not decode:
                return None
            content = json.loads(body)
            del content["reproduce"]
            return content

        try:
            yield ask
        finally:
            line.close()
            server.should_exit = True
            thread.join()


def _said(record: Any) -> Any:
    return json.loads(json.dumps(to_dict(record)))


def _index() -> FeatureIndex:
    """The synthetic index, built on the first run."""
    workspace = Workspace(WORK)
    if NAME in workspace.names("index"):
        return FeatureIndex.open(workspace.find("index", NAME), workspace)
    WORK.mkdir(parents=True, exist_ok=True)
    model = tiny("llama")
    source = WORK / "texts.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in _records()))
    corpus = build_corpus(model, CorpusConfig(source=str(source), label_key="label", context_length=128), out=workspace.place("corpus", NAME))
    site = Site.parse("L1.resid_post")
    shards = harvest(model, corpus, config=HarvestConfig(sites=(site,)), out=workspace.place("shards", NAME))
    path = workspace.place("dictionary", NAME)
    with Draft.open(path, "dictionary", config={"random": 0}, inputs={"shards": shards.id, "corpus": corpus.id}) as draft:
        native.save(_random_dictionary(model.d_model, site), draft)
        draft.finish()

    def progress(step: str, done: float, total: float, *, unit: str = "", note: str = "") -> None:
        print(f"\r{step} {done:.0f}/{total:.0f} {unit}   ", end="", file=sys.stderr)

    return build_index(path, shards, corpus=corpus, model=model, out=workspace.place("index", NAME), progress=progress, workspace=workspace)


def _wide() -> FeatureIndex:
    """The synthetic index with sixteen times the rows: only its table is for looking at."""
    workspace = Workspace(WORK)
    if WIDE in workspace.names("index"):
        return FeatureIndex.open(workspace.find("index", WIDE), workspace)
    source = workspace.find("index", NAME)
    manifest = read_manifest(source)
    draw = np.random.default_rng(0)
    n = D_DICT * COPIES
    with Draft.open(workspace.place("index", WIDE), "index", config=manifest.config, inputs=manifest.inputs, format=manifest.format) as draft:
        for name in manifest.files:
            if name not in ("features.parquet", "inverted.safetensors", "index.json"):
                draft.write(name, (source / name).read_bytes())
        facts = json.loads((source / "index.json").read_bytes())
        facts["members"] = [{**each, "features": n} for each in facts["members"]]
        draft.write("index.json", json.dumps(facts))
        postings = load_file(source / "inverted.safetensors")
        postings["indptr"] = np.concatenate([postings["indptr"], np.full(n - D_DICT, postings["indptr"][-1], postings["indptr"].dtype)])
        with draft.place("inverted.safetensors") as file:
            save_file(postings, file)
        table = pa.concat_tables([pq.read_table(source / "features.parquet")] * COPIES)
        columns = {name: table[name] for name in table.column_names} | {"feature": pa.array(np.arange(n, dtype=np.int32))}
        for name in ("density", "f1", "max", "cosine"):
            varied = table[name].to_numpy() * draw.uniform(0.8, 1.0, n)
            columns[name] = pa.array(varied).cast(table.schema.field(name).type)
        columns["rule"] = pa.array([f"{text} ({i})" for i, text in enumerate(table["rule"].to_pylist())])
        with draft.place("features.parquet") as file:
            pq.write_table(pa.table(columns, schema=table.schema), file, row_group_size=4096, compression="zstd")
        draft.finish(summary=manifest.summary)
    return FeatureIndex.open(workspace.find("index", WIDE), workspace)


def _random_dictionary(d_model: int, site: Site) -> SAE:
    rows = torch.randn(D_DICT, d_model, generator=torch.Generator().manual_seed(0))
    rows /= rows.norm(dim=1, keepdim=True)
    weights = {"W_enc": rows, "W_dec": rows.clone(), "b_enc": torch.zeros(D_DICT), "b_dec": torch.zeros(d_model)}
    return SAE(site=site, nonlinearity=TopK(k=K), weights=weights, input_scale=1.0)


def _records() -> list[dict[str, str]]:
    draw = random.Random(0)
    words = COMMON.split()
    letters = "abcdefghijklmnopqrstuvwxyz"
    words += ["".join(draw.choices(letters, k=draw.randint(2, 6))) for _ in range(400)]
    sizes = [2600] + [60] * 120
    return [{"title": f"text {i}", "label": "abcdef"[i % 6], "text": " ".join(draw.choices(words, k=size))} for i, size in enumerate(sizes)]


if __name__ == "__main__":
    main()
