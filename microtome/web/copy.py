"""A copy of the workbench for any web host: the pages as they are, and the server's answers as files.

    index.html, static/            the pages; addresses stand behind a `#`, so that every one is this one file
    data/site.json.gz              which features and documents there are
    data/home.json.gz, data/overview.json.gz
    data/table/0.json.gz, …        4,096 rows of the feature table each
    data/cards/0.json.gz, …        8 cards each
    data/relations/0.json.gz, …    what the panels of those 8 ask: links, what is alike and fires together, what was measured and dreamt
    data/documents/12.json.gz      a document with every feature that fires in it
    data/odd.json.gz, data/map.json.gz, data/kept.json.gz

`static/lib/copy.js` answers the pages' questions from these files: sorting, searching and filtering happen in the browser. What needs the model
is not there. Files are packed and unpacked by the page, so the host needs no settings. No path of this machine is written, and what people keep
(notes, verdicts, lists) only if that is asked for.
"""

import gzip
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from microtome.artifacts import Artifact, Draft, existing
from microtome.config import canonical_json, fingerprint, to_dict
from microtome.devices import core_workers
from microtome.features import FeatureIndex, Overview
from microtome.features.dreaming import all_dreams
from microtome.features.geometry import map_of
from microtome.features.odd import dense_ablation
from microtome.progress import Progress, Throttled
from microtome.web.copied import WORKSPACE, copied_card, copied_pages, copied_recipe, kept_of, relations_of
from microtome.web.recipes import call_of, show_line
from microtome.web.replies import encode, with_recipe

STATIC = Path(__file__).parent / "static"
CARDS, ROWS = 8, 4096
"""Cards and rows of the table in a file."""
_MOST = 1 << 40
_POLICY = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'"
_TABLE_ONLY = ("count", "decoder_norm", "encoder_norm")
"""Number columns that filters know and rows do not show."""


def write_copy(
    index: FeatureIndex,
    out: str | Path,
    *,
    features: Sequence[int] | None = None,
    documents: int = 200,
    relations: bool = True,
    kept: bool = False,
    progress: Progress | None = None,
) -> Artifact:
    """Write the copy of an index to the folder `out`: whole or absent, resumed if it was interrupted.

    `features` are those that are in it; `documents` is how many documents, those that most examples are from; `relations` adds what the panels
    below the examples show, most of the time that it takes; `kept` adds notes, verdicts and lists, which are a person's own (labels are always
    in it). Raises `ArtifactConflict`, `DiskFull`, `FeatureNotFound`.
    """
    chosen = None if features is None else sorted({index.store.known(feature) for feature in features})
    wanted: Sequence[int] = range(index.n_features) if chosen is None else chosen
    config = {"to": "static", "features": chosen, "documents": documents, "relations": relations, "kept": kept}
    config["state"] = _state(index, wanted, kept=kept)
    finished = existing(out, "export", config=config, inputs={"index": index.id})
    if finished is not None:
        return finished
    with Draft.open(out, "export", config=config, inputs={"index": index.id}) as draft:
        tell = Throttled(progress)
        _write(index, draft, chosen=wanted, documents=documents, relations=relations, kept=kept, tell=tell)
        if relations:
            _write_relations(index, draft, chosen=wanted, tell=tell)
        return draft.finish(summary={"format": "static", "features": index.n_features if chosen is None else len(chosen)})


def _state(index: FeatureIndex, chosen: Sequence[int], *, kept: bool) -> str:
    """What a copy shows that can change while the index does not: labels, measurements, dreams, the map, and what is kept."""
    drawn, losses, here = map_of(index.store), index.store.losses(), set(chosen)
    labels = [(each.feature, each.text) for each in index.store.catalogue.user_labels(index.id)]
    dreams = [(each.name, each.is_finished, each.dream.iterations) for each in all_dreams(index) if each.dream.feature in here]
    measured = [sorted(index.with_effects() & here), losses and losses.id, dense_ablation(index)]
    return fingerprint(canonical_json([labels, measured, dreams, drawn and drawn.id, kept_of(index, chosen) if kept else None]))


def _write(index: FeatureIndex, draft: Draft, *, chosen: Sequence[int], documents: int, relations: bool, kept: bool, tell: Throttled) -> None:
    shown = _documents_of(index, chosen, limit=documents)
    pages = dict(copied_pages(index, chosen, kept=kept))
    for name, content in pages.items():
        _put(draft, name, content)
    for name, content in _pages(tuple(pages)):
        draft.write(name, content)
    overview, rows = index.overview(), index.documents(limit=_MOST).rows
    listed = [row for row in rows if row.doc in shown]
    site = {
        "index": index.name,
        "n_features": index.n_features,
        "n_rows": len(chosen),
        "cards": CARDS,
        "rows": ROWS,
        "features": None if isinstance(chosen, range) else list(chosen),
        "relations": relations,
        "documents": listed,
        "n_documents": len(rows),
        "reproduce": {"table": copied_recipe(index, call_of("table")), "documents": copied_recipe(index, call_of("documents"))},
    }
    _put(draft, "site", site)
    _put(draft, "home", _home(index, overview, features=len(chosen)))
    _put(draft, "overview", with_recipe(_overview(overview, chosen), copied_recipe(index, call_of("overview"))))
    table = _table(index, chosen, kept=kept)
    for number, start in enumerate(range(0, len(table), ROWS)):
        _put(draft, f"table/{number}", table[start : start + ROWS])
    tell("write the table", len(table), len(table), unit="features")
    for done, doc in enumerate(sorted(shown), 1):
        if not draft.has(f"data/documents/{doc}.json.gz"):
            view = index.document(doc, limit=_MOST)
            _put(draft, f"documents/{doc}", with_recipe(view, copied_recipe(index, call_of("document", doc))))
        tell("write documents", done, len(shown), unit="documents")
    done = 0
    for number, features in _files(chosen).items():
        if not draft.has(f"data/cards/{number}.json.gz"):
            _put(draft, f"cards/{number}", {feature: copied_card(index, feature, kept=kept) for feature in features})
        done += len(features)
        tell("write cards", done, len(chosen), unit="features")


def _write_relations(index: FeatureIndex, draft: Draft, *, chosen: Sequence[int], tell: Throttled) -> None:
    files = {number: features for number, features in _files(chosen).items() if not draft.has(f"data/relations/{number}.json.gz")}
    done = len(chosen) - sum(map(len, files.values()))
    dreamt = {each.dream.feature for each in all_dreams(index) if each.dream.feature is not None}

    def answers(number: int) -> tuple[int, bytes]:
        return number, _packed({feature: relations_of(index, feature, dreamt=dreamt) for feature in files[number]})

    with core_workers(torch.device("cpu")) as run_all:
        for number, content in run_all(answers, files):
            draft.write(f"data/relations/{number}.json.gz", content)
            done += len(files[number])
            tell("write relations", done, len(chosen), unit="features")


def _files(chosen: Sequence[int]) -> dict[int, list[int]]:
    """Which features share a file, by its number."""
    files: dict[int, list[int]] = {}
    for feature in chosen:
        files.setdefault(feature // CARDS, []).append(feature)
    return files


def _documents_of(index: FeatureIndex, chosen: Sequence[int], *, limit: int) -> set[int]:
    """The documents that most of the strongest examples are from; the first ones among equals."""
    counts: Counter[int] = Counter()
    for feature in chosen:
        positions = index.store.rows.row(feature)["top_positions"]
        counts.update(np.unique(index.store.corpus.doc_of(positions)).tolist() if positions else ())
    best = sorted(counts, key=lambda doc: (-counts[doc], doc))
    return {int(doc) for doc in best[:limit]}


def _pages(there: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """The pages' own files, and the first page with addresses that hold in any folder; it names which of the rarer pages are `there`."""
    for path in sorted(STATIC.rglob("*")):
        if path.is_file() and not path.name.endswith(".d.ts") and path.name != "index.html":
            yield f"static/{path.relative_to(STATIC).as_posix()}", path.read_bytes()
    page = re.sub(r'="/static/', '="static/', (STATIC / "index.html").read_text())
    head = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}" />\n'
    head += f'    <meta name="microtome-copy" content="data/" data-pages="{" ".join(there)}" />\n'
    last = '    <link rel="stylesheet" href="static/css/copy.css" />\n'  # it overrules the others
    page = page.replace("  </head>", f"{last}  </head>")
    page = page.replace('<meta charset="utf-8" />\n', f'<meta charset="utf-8" />\n    {head}')
    opened = "These pages are read through a web server. In this folder: python -m http.server, then open the address that it prints."
    page = page.replace('<div id="app"></div>', f'<div id="app"><p id="unopened">{opened}</p></div>')
    page = re.sub(r"<noscript>.*?</noscript>", "<noscript>These pages are drawn by JavaScript.</noscript>", page)
    yield "index.html", page.encode()


def _table(index: FeatureIndex, chosen: Sequence[int], *, kept: bool) -> list[dict[str, Any]]:
    """The rows of these features, with the columns that filters know and rows do not show."""
    numbers = {name: index.store.rows.numbers[name] for name in _TABLE_ONLY}
    said = {one.feature: (one.verdict, one.lists) for one in kept_of(index, chosen).features} if kept else {}
    clusters = index.store.clusters()
    wanted, rows = set(chosen), list[dict[str, Any]]()
    for row in index.table(limit=_MOST).rows:
        if row.feature in wanted:
            verdict, lists = said.get(row.feature, ("", ()))
            hidden: dict[str, Any] = {name: column[row.feature].item() for name, column in numbers.items()} | {"verdict": verdict, "list": lists}
            rows.append(to_dict(row) | hidden | ({} if clusters is None else {"cluster": int(clusters[row.feature])}))
    return rows


def _home(index: FeatureIndex, overview: Overview, *, features: int) -> dict[str, Any]:
    entry = {"name": index.name, "id": index.id, "error": None, "summary": {"features": features, "tokens": overview.counts["kept"]}}
    line = show_line(WORKSPACE)
    return {"workspace": f"a copy of the index {index.name}", "indexes": [entry], "artifacts": {}, "reproduce": {"python": line, "shell": line}}


def _overview(overview: Overview, chosen: Sequence[int]) -> dict[str, Any]:
    """The overview, with the names of files in place of their paths, and those features to begin with that are here."""
    sources = {name: Path(text).name if Path(text).is_absolute() else text for name, text in overview.sources.items()}
    here = set(chosen)
    examples = [row for row in overview.examples if row.feature in here]
    return to_dict(overview) | {"sources": sources, "examples": examples, "features_here": len(chosen)}


def _put(draft: Draft, name: str, value: Mapping[Any, Any] | Sequence[Any]) -> None:
    draft.write(f"data/{name}.json.gz", _packed(value))


def _packed(value: Mapping[Any, Any] | Sequence[Any]) -> bytes:
    return gzip.compress(encode(value), compresslevel=6, mtime=0)
