"""A copy of the workbench for any web host: the pages as they are, and the server's answers as files.

    index.html, static/            the pages; addresses stand behind a `#`, so that every one is this one file
    data/site.json.gz              which features and documents there are
    data/home.json.gz, data/overview.json.gz
    data/table/0.json.gz, …        4,096 rows of the feature table each
    data/cards/0.json.gz, …        8 cards each
    data/documents/12.json.gz      a document with every feature that fires in it

`static/lib/copy.js` answers the pages' questions from these files: sorting, searching and filtering happen in the browser. What needs the model or
the postings is not there. Files are packed and unpacked by the page, so the host needs no settings. No path of this machine is written.
"""

import gzip
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from microtome.artifacts import Artifact, Draft, existing
from microtome.config import canonical_json, fingerprint, to_dict
from microtome.features import FeatureIndex, Overview
from microtome.progress import Progress, Throttled
from microtome.web.recipes import call_of, recipe, show_line
from microtome.web.replies import encode, with_recipe

STATIC = Path(__file__).parent / "static"
CARDS, ROWS = 8, 4096
"""Cards and rows of the table in a file."""
_MOST = 1 << 40
_WORKSPACE = Path("microtome-workspace")
_POLICY = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'"
_TABLE_ONLY = ("count", "decoder_norm", "encoder_norm")
"""Number columns that filters know and rows do not show."""


def write_copy(
    index: FeatureIndex, out: str | Path, *, features: Sequence[int] | None = None, documents: int = 200, progress: Progress | None = None
) -> Artifact:
    """Write the copy of an index to the folder `out`: whole or absent, resumed if it was interrupted.

    `features` are those whose cards are in it (all rows of the table are); `documents` is how many documents, those that most examples are from.
    Raises `ArtifactConflict`, `DiskFull`, `FeatureNotFound`.
    """
    chosen = None if features is None else sorted({index.store.known(feature) for feature in features})
    said = canonical_json([(each.feature, each.text) for each in index.store.catalogue.user_labels(index.id)])
    config = {"to": "static", "features": chosen, "documents": documents, "user_labels": fingerprint(said)}
    finished = existing(out, "export", config=config, inputs={"index": index.id})
    if finished is not None:
        return finished
    with Draft.open(out, "export", config=config, inputs={"index": index.id}) as draft:
        _write(index, draft, chosen=range(index.n_features) if chosen is None else chosen, documents=documents, tell=Throttled(progress))
        return draft.finish(summary={"format": "static", "features": index.n_features if chosen is None else len(chosen)})


def _write(index: FeatureIndex, draft: Draft, *, chosen: Sequence[int], documents: int, tell: Throttled) -> None:
    shown = _documents_of(index, chosen, limit=documents)
    for name, content in _pages():
        draft.write(name, content)
    overview, rows = index.overview(), index.documents(limit=_MOST).rows
    listed = [row for row in rows if row.doc in shown]
    site = {
        "index": index.name,
        "n_features": index.n_features,
        "cards": CARDS,
        "rows": ROWS,
        "features": None if isinstance(chosen, range) else list(chosen),
        "documents": listed,
        "n_documents": len(rows),
        "reproduce": {"table": _recipe(index, call_of("table")), "documents": _recipe(index, call_of("documents"))},
    }
    _put(draft, "site", site)
    _put(draft, "home", _home(index, overview))
    _put(draft, "overview", with_recipe(_without_paths(overview), _recipe(index, call_of("overview"))))
    for number, start in enumerate(range(0, index.n_features, ROWS)):
        _put(draft, f"table/{number}", _table(index, start))
        tell("write the table", min(start + ROWS, index.n_features), index.n_features, unit="features")
    for done, doc in enumerate(sorted(shown), 1):
        if not draft.has(f"data/documents/{doc}.json.gz"):
            view = index.document(doc, limit=_MOST)
            _put(draft, f"documents/{doc}", with_recipe(view, _recipe(index, call_of("document", doc))))
        tell("write documents", done, len(shown), unit="documents")
    _write_cards(index, draft, chosen=chosen, tell=tell)


def _write_cards(index: FeatureIndex, draft: Draft, *, chosen: Sequence[int], tell: Throttled) -> None:
    files: dict[int, list[int]] = {}
    for feature in chosen:
        files.setdefault(feature // CARDS, []).append(feature)
    done = 0
    for number, features in files.items():
        if not draft.has(f"data/cards/{number}.json.gz"):
            cards = {feature: with_recipe(index.card(feature), _recipe(index, call_of("card", feature), feature)) for feature in features}
            _put(draft, f"cards/{number}", cards)
        done += len(features)
        tell("write cards", done, len(chosen), unit="features")


def _documents_of(index: FeatureIndex, chosen: Sequence[int], *, limit: int) -> set[int]:
    """The documents that most of the strongest examples are from; the first ones among equals."""
    counts: Counter[int] = Counter()
    for feature in chosen:
        positions = index.store.rows.row(feature)["top_positions"]
        counts.update(np.unique(index.store.corpus.doc_of(positions)).tolist() if positions else ())
    best = sorted(counts, key=lambda doc: (-counts[doc], doc))
    return {int(doc) for doc in best[:limit]}


def _pages() -> Iterator[tuple[str, bytes]]:
    """The pages' own files, and the first page with addresses that hold in any folder."""
    for path in sorted(STATIC.rglob("*")):
        if path.is_file() and not path.name.endswith(".d.ts") and path.name != "index.html":
            yield f"static/{path.relative_to(STATIC).as_posix()}", path.read_bytes()
    page = re.sub(r'="/static/', '="static/', (STATIC / "index.html").read_text())
    head = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}" />\n    <meta name="microtome-copy" content="data/" />\n'
    head += '    <link rel="stylesheet" href="static/css/copy.css" />\n'
    page = page.replace('<meta charset="utf-8" />\n', f'<meta charset="utf-8" />\n    {head}')
    opened = "These pages are read through a web server. In this folder: python -m http.server, then open the address that it prints."
    page = page.replace('<div id="app"></div>', f'<div id="app"><p id="unopened">{opened}</p></div>')
    page = re.sub(r"<noscript>.*?</noscript>", "<noscript>These pages are drawn by JavaScript.</noscript>", page)
    yield "index.html", page.encode()


def _table(index: FeatureIndex, start: int) -> list[dict[str, Any]]:
    numbers = {name: index.store.rows.numbers[name] for name in _TABLE_ONLY}
    rows = index.table(offset=start, limit=ROWS).rows
    return [to_dict(row) | {name: column[row.feature].item() for name, column in numbers.items()} for row in rows]


def _home(index: FeatureIndex, overview: Overview) -> dict[str, Any]:
    entry = {"name": index.name, "id": index.id, "error": None, "summary": {"features": index.n_features, "tokens": overview.counts["kept"]}}
    line = show_line(_WORKSPACE)
    return {"workspace": f"a copy of the index {index.name}", "indexes": [entry], "artifacts": {}, "reproduce": {"python": line, "shell": line}}


def _without_paths(overview: Overview) -> dict[str, Any]:
    """The overview, with the names of files in place of their paths."""
    sources = {name: Path(text).name if Path(text).is_absolute() else text for name, text in overview.sources.items()}
    return to_dict(overview) | {"sources": sources}


def _recipe(index: FeatureIndex, call: str, *shown: object) -> dict[str, str]:
    return recipe(_WORKSPACE, index.name, call, shell=show_line(_WORKSPACE, index.name, *shown))


def _put(draft: Draft, name: str, value: Mapping[Any, Any] | Sequence[Any]) -> None:
    draft.write(f"data/{name}.json.gz", gzip.compress(encode(value), compresslevel=6, mtime=0))
