"""One document: its tokens, and the features active in it, ranked."""

import numpy as np

from microtome.activations import SPLITS
from microtome.errors import QueryInvalid
from microtome.features.arrays import Array
from microtome.features.postings import Rows
from microtome.features.ranks import grouped, ranked
from microtome.features.records import DocumentFeature, DocumentList, DocumentRow, DocumentView, TokenFeature, TokenView, TurnView
from microtome.features.statistics import percentile
from microtome.features.store import Store


def listing(store: Store, *, search: str, offset: int, limit: int) -> DocumentList:
    """Documents whose title or label holds every word of `search`, in the order of the corpus."""
    words = search.casefold().split()
    texts = zip(store.titles, store.corpus_labels, strict=True)
    found = [doc for doc, pair in enumerate(texts) if all(word in " ".join(pair).casefold() for word in words)]
    sizes = np.diff(store.corpus.doc_start)
    rows = [
        DocumentRow(
            doc=doc,
            title=store.titles[doc],
            corpus_label=store.corpus_labels[doc],
            split=SPLITS[int(store.corpus.splits[doc])],
            n_tokens=int(sizes[doc]),
        )
        for doc in found[max(0, offset) : max(0, offset) + max(0, limit)]
    ]
    return DocumentList(rows=tuple(rows), total=len(found), n_documents=store.corpus.n_docs, offset=offset, limit=limit, search=search)


def view(store: Store, doc: int, *, rank: str, offset: int, length: int, limit: int, feature: int | None = None) -> DocumentView:
    """A stretch of one document with its best features; only these features' firings are handed out."""
    corpus = store.corpus
    span = corpus.span(doc)
    if not 0 <= offset < max(1, len(span)) or length < 1:
        wanted = f"an offset in 0 … {len(span) - 1} and a length of at least 1"
        raise QueryInvalid(f"document {doc} has no such stretch.", got=f"offset {offset}, length {length}", wanted=wanted, do="Correct it.")
    start = span.start + offset
    end = min(span.end, start + length)
    rows = store.postings.rows(start=start, end=end)
    at = np.repeat(np.arange(end - start), np.diff(rows.indptr))
    groups = grouped(rows.ids, rows.values, n_features=store.n_features)
    best = ranked(store, groups, rank=rank, limit=limit, pin=feature)
    labels, numbers = store.labels(), store.rows.numbers
    features: list[DocumentFeature] = []
    for found, score in best.pairs():
        mine = groups.rows(found)
        strongest = float(rows.values[mine].max())
        features.append(
            DocumentFeature(
                feature=found,
                label=labels[found],
                score=score,
                count=len(mine),
                max=strongest,
                share_of_max=strongest / float(numbers["max"][found]),
                density=float(numbers["density"][found]),
                offsets=tuple((at[mine] + offset).tolist()),
                activations=tuple(rows.values[mine].tolist()),
            )
        )
    return DocumentView(
        doc=doc,
        title=store.titles[doc],
        corpus_label=store.corpus_labels[doc],
        source=corpus.docs["source"][doc].as_py() or "",
        split=SPLITS[int(corpus.splits[doc])],
        n_tokens=len(span),
        offset=offset,
        pieces=tuple(store.vocabulary.window(corpus.tokens, start=start, end=end, floor=span.start, ceiling=span.end)),
        kept=tuple(rows.keep.tolist()),
        strongest=tuple(_strongest(rows, numbers["max"]).tolist()),
        turns=_turns(store, doc, start=span.start),
        rank=rank,
        n_active=best.n_active,
        features=tuple(features),
    )


def token(store: Store, doc: int, *, offset: int) -> TokenView:
    """One token and all features on it."""
    span = store.corpus.span(doc)
    if not 0 <= offset < len(span):
        raise QueryInvalid(f"document {doc} has no token {offset}.", got=offset, wanted=f"0 … {len(span) - 1}", do="Correct it.")
    position = span.start + offset
    rows = store.postings.rows(start=position, end=position + 1)
    labels, numbers = store.labels(), store.rows.numbers
    shares = rows.values / numbers["max"][rows.ids]
    features: list[TokenFeature] = []
    for i in np.argsort(-shares, kind="stable").tolist():
        feature = int(rows.ids[i])
        rank = percentile(rows.values[i : i + 1], values=store.postings.values(feature))
        features.append(
            TokenFeature(
                feature=feature,
                label=labels[feature],
                activation=float(rows.values[i]),
                share_of_max=float(shares[i]),
                percentile=float(rank[0]),
                density=float(numbers["density"][feature]),
            )
        )
    roles = store.corpus.role_of([position])
    identity = int(store.corpus.tokens[position])
    return TokenView(
        doc=doc,
        offset=offset,
        position=position,
        token=identity,
        piece=store.vocabulary.piece(identity),
        kept=bool(rows.keep[0]),
        role=roles.names[int(roles.codes[0])],
        features=tuple(features),
    )


def _strongest(rows: Rows, largest: Array) -> Array:
    """For each token the feature with the largest share of its own maximum, -1 where none fires; the lowest number among equals."""
    found = np.full(len(rows.indptr) - 1, -1, dtype=np.int64)
    sizes = np.diff(rows.indptr)
    fires = sizes > 0
    if not fires.any():
        return found
    starts = (rows.indptr[:-1] - rows.indptr[0])[fires]
    shares = rows.values / largest[rows.ids]
    is_best = shares == np.repeat(np.maximum.reduceat(shares, starts), sizes[fires])
    found[fires] = np.minimum.reduceat(np.where(is_best, rows.ids, np.iinfo(np.int64).max), starts)
    return found


def _turns(store: Store, doc: int, *, start: int) -> tuple[TurnView, ...]:
    low, high = np.searchsorted(store.turn_docs, [doc, doc + 1])
    turns = store.corpus.turns.slice(int(low), int(high - low)).to_pylist()
    return tuple(TurnView(role=turn["role"], start=turn["content_start"] - start, end=turn["content_end"] - start) for turn in turns)
