"""The whole of an index: its overview and its feature table."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from microtome.activations import SPLITS
from microtome.errors import QueryInvalid, nearest
from microtome.features.arrays import Array
from microtome.features.query import Columns, select
from microtome.features.records import Histogram, Overview, Table, TableRow
from microtome.features.store import Labelled, Store

NUMBER_COLUMNS = ("feature", "density", "count", "documents", "max", "mean", "entropy", "f1", "cosine", "lift", "decoder_norm", "encoder_norm")
TEXT_COLUMNS = ("label", "origin", "rule_kind", "token", "top_logit", "corpus_label", "site", "verdict", "list")
RARE = 10
"""A feature that fires on fewer tokens than this is rare."""
DENSE = 0.1
"""A feature of higher density than this is dense."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """Which part of the table is wanted, in which order; see `FeatureIndex.table`."""

    sort: str
    descending: bool
    filter: str
    search: str
    offset: int
    limit: int


def overview(store: Store) -> Overview:
    """The index at a glance."""
    numbers, facts = store.rows.numbers, store.facts
    alive = numbers["count"] > 0
    densities, f1s = numbers["density"][alive], numbers["f1"][alive]
    kinds = Counter(store.rows.texts["rule_kind"])
    floor = 1 / max(1, facts["kept"])
    edges = np.geomspace(floor / 2, 1.0, 41)
    splits = np.bincount(store.corpus.splits, minlength=len(SPLITS)).tolist()
    inputs = store.inputs
    return Overview(
        name=store.name,
        id=store.id,
        sources={
            "model": facts["model"],
            "quantised": facts["quantised"],
            "reads": facts["reads"],
            "corpus": store.corpus.config.source,
            **{f"{kind}_id": inputs[kind] for kind in ("corpus", "shards", "dictionary") if kind in inputs},
        },
        counts={
            "features": store.n_features,
            "dead": int((~alive).sum()),
            "rare": int((alive & (numbers["count"] < RARE)).sum()),
            "dense": int((numbers["density"] > DENSE).sum()),
            "tokens": facts["tokens"],
            "kept": facts["kept"],
            "documents": facts["documents"],
            "nonzeros": store.postings.nnz,
        },
        l0=store.postings.nnz / max(1, facts["kept"]),
        density=_binned(densities, edges, unit="density", log=True),
        f1=_binned(f1s, np.linspace(0, 1, 21), unit="F1", log=False),
        rules=dict(kinds.most_common()) | {"weak": int((alive & numbers["rule_weak"]).sum())},
        splits=dict(zip(SPLITS, splits, strict=True)),
        corpus_labels={name: count for name, count in facts["parts"]["corpus_label"].items() if name},
        roles={name: count for name, count in facts["parts"]["role"].items() if count},
        quality=facts["quality"],
        examples=_beginnings(store),
    )


def passing(store: Store, *, filter: str, search: str) -> Array:
    """The features that pass a filter and a search, ascending; with a search the best match first."""
    return _passing(store, _columns(store, store.labelled()), filter=filter, search=search)


def _passing(store: Store, columns: Columns, *, filter: str, search: str) -> Array:
    mask = select(columns, filter)
    if not search.strip():
        return np.flatnonzero(mask)
    ranked = np.array(store.catalogue.search(store.id, search), dtype=np.int64)
    return ranked[mask[ranked]]


def table(store: Store, page: Page) -> Table:
    """A page of the feature table."""
    labels = store.labelled()
    columns = _columns(store, labels)
    sortable = [name for name in columns if name != "list"]
    if page.sort not in sortable:
        raise QueryInvalid(
            f'the feature table has no column "{page.sort}".', got=page.sort, wanted=", ".join(sortable), do=nearest(page.sort, sortable)
        )
    chosen = _passing(store, columns, filter=page.filter, search=page.search)
    if not (page.search.strip() and page.sort == "feature"):
        chosen = _ordered(np.sort(chosen), cast(Array | Sequence[str], columns[page.sort]), descending=page.descending)
    elif page.descending:
        chosen = chosen[::-1]
    rows = chosen[max(0, page.offset) : max(0, page.offset) + max(0, page.limit)]
    return Table(
        rows=tuple(_row(store, feature, labels=labels) for feature in rows.tolist()),
        total=len(chosen),
        n_features=store.n_features,
        offset=page.offset,
        limit=page.limit,
        sort=page.sort,
        descending=page.descending,
        filter=page.filter,
        search=page.search,
    )


def _columns(store: Store, labels: Labelled) -> Columns:
    numbers = {name: store.rows.numbers[name] for name in NUMBER_COLUMNS}
    texts = {name: store.rows.texts[name] for name in TEXT_COLUMNS if name in store.rows.texts}
    origins = ["rule"] * store.n_features
    for feature in labels.by_user:
        origins[feature] = "user"
    verdicts = [""] * store.n_features
    lists: list[tuple[str, ...]] = [()] * store.n_features
    for feature, verdict in labels.verdicts.items():
        verdicts[feature] = verdict
    for feature, names in labels.lists.items():
        lists[feature] = names
    return {**numbers, "label": labels.texts, "origin": origins, **texts, "site": store.sites, "verdict": verdicts, "list": lists} | (
        {} if (clusters := store.clusters()) is None else {"cluster": clusters}
    )


def _row(store: Store, feature: int, *, labels: Labelled) -> TableRow:
    numbers, texts = store.rows.numbers, store.rows.texts
    return TableRow(
        feature=feature,
        label=labels.texts[feature],
        origin="user" if feature in labels.by_user else "rule",
        rule_kind=texts["rule_kind"][feature],
        f1=float(numbers["f1"][feature]),
        density=float(numbers["density"][feature]),
        documents=int(numbers["documents"][feature]),
        max=float(numbers["max"][feature]),
        mean=float(numbers["mean"][feature]),
        entropy=float(numbers["entropy"][feature]),
        token=texts["token"][feature],
        top_logit=texts["top_logit"][feature],
        cosine=float(numbers["cosine"][feature]),
        corpus_label=texts["corpus_label"][feature],
        lift=float(numbers["lift"][feature]),
        site=store.sites[feature],
    )


def _beginnings(store: Store) -> tuple[TableRow, ...]:
    """The best-named features that fire often enough, at most three of a kind."""
    labels = store.labelled()
    numbers = store.rows.numbers
    worthy = (numbers["documents"] >= min(20, store.facts["documents"])) & ~numbers["rule_weak"]
    order = np.flatnonzero(worthy)[np.argsort(-numbers["f1"][worthy], kind="stable")]
    seen: Counter[str] = Counter()
    rows: list[TableRow] = []
    for feature in order.tolist():
        kind = store.rows.texts["rule_kind"][feature]
        if len(rows) == 12:
            break
        if seen[kind] < 3:
            seen[kind] += 1
            rows.append(_row(store, feature, labels=labels))
    return tuple(rows)


def _ordered(chosen: Array, column: Array | Sequence[str], *, descending: bool) -> Array:
    """Sort rows by a column, equal values by feature whichever way."""
    if isinstance(column, np.ndarray):
        keys = column[chosen].astype(np.float64)
        return chosen[np.argsort(-keys if descending else keys, kind="stable")]
    keys = [column[int(row)].casefold() for row in chosen]
    order = sorted(range(len(keys)), key=keys.__getitem__, reverse=descending)
    return chosen[order]


def _binned(values: Array, edges: Array, *, unit: str, log: bool) -> Histogram:
    counts = np.histogram(values, bins=edges)[0]
    return Histogram(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()), unit=unit, log=log)
