"""An index as a bundle: the records of its features, gathered one after another from its postings and rows."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np

from microtome.features.arrays import Array
from microtome.features.exchange.format import Bundle, Entries
from microtome.features.exchange.record import Bars, Example, Explanation, FeatureRecord, Interval, Source, TokenLogit
from microtome.features.postings import Firings
from microtome.features.store import Labelled, Store

N_BARS = 50
"""Bars of the histogram of activations."""
_COLUMNS = (
    *("count", "density", "max", "rule", "f1", "top_positions", "stratum_edges", "stratum_counts", "stratum_sizes", "stratum_positions"),
    *("top_ids", "top_logits", "bottom_ids", "bottom_logits", "neighbour_ids", "neighbour_cosines"),
)
"""Of a feature's row, what records are made of."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which features of an index, and how much of each."""

    features: Sequence[int] | None = None
    """Ids in the index; None for all."""
    top: int = 20
    """Most of the strongest examples."""
    per_slice: int = 5
    """Most examples of each slice of its firings."""
    model: str | None = None
    """The name that the files give the model; what the index says unless given."""
    set_name: str | None = None
    """The name that the files give the dictionary; the index' name unless given."""


def bundle_of(store: Store, wanted: Wanted) -> Bundle:
    """A finished index as a bundle."""
    sources = sources_of(store, wanted)
    gathered = _Gathered(store, sources, wanted)
    return Bundle(
        format="index",
        path=store.name,
        sources=sources,
        numbers=gathered.numbers,
        records=gathered.records,
        cache=_IndexCache(store, sources),
    )


def sources_of(store: Store, wanted: Wanted) -> tuple[Source, ...]:
    """One a dictionary."""
    name = slug(wanted.set_name or store.name)
    found: list[Source] = []
    for member, site in enumerate(store.numbering.sites):
        span = store.numbering.span(member)
        found.append(
            Source(
                id=name if site.layer is None else f"{site.layer}-{name}",
                model=slug(wanted.model or store.facts["model"].rsplit("/", 1)[-1]),
                set_name=name,
                site=str(site),
                layer=site.layer,
                n_features=span.stop - span.start,
                dataset=store.corpus.config.source.rsplit("/", 1)[-1],
                n_prompts=store.corpus.n_docs,
                prompt_tokens=store.corpus.config.context_length,
            )
        )
    return tuple(found)


def slug(text: str) -> str:
    """Letters, digits, dots and dashes."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-").lower() or "microtome"


@final
class _Gathered:
    """Makes records when they are asked for."""

    def __init__(self, store: Store, sources: Sequence[Source], wanted: Wanted) -> None:
        self._store = store
        self._members = {source.id: member for member, source in enumerate(sources)}
        self._wanted = wanted
        self._chosen = None if wanted.features is None else np.unique([store.known(feature) for feature in wanted.features])

    @cached_property
    def _bytes(self) -> list[bytes]:
        """The bytes of every token."""
        return [self._store.vocabulary.bytes(token) for token in range(len(self._store.vocabulary))]

    @cached_property
    def _goes_on(self) -> Array:
        """Of every token, whether it begins inside a character."""
        return np.array([bool(each) and 0x80 <= each[0] < 0xC0 for each in self._bytes])

    @cached_property
    def _labels(self) -> Labelled:
        """The labels as they are when the first record is made."""
        return self._store.labelled()

    def numbers(self, source: Source) -> Sequence[int]:
        span = self._store.numbering.span(self._members[source.id])
        if self._chosen is None:
            return range(span.stop - span.start)
        return (self._chosen[(self._chosen >= span.start) & (self._chosen < span.stop)] - span.start).tolist()

    def records(self, source: Source, numbers: Sequence[int] | None) -> Iterator[FeatureRecord]:
        first = self._store.numbering.span(self._members[source.id]).start
        chosen = self.numbers(source)
        wanted = chosen if numbers is None else [number for number in numbers if number in chosen]
        rows = self._store.rows.rows([first + number for number in wanted], columns=_COLUMNS)
        for number, row in zip(wanted, rows, strict=True):
            yield self._record(source, number, row=row, first=first)

    def _record(self, source: Source, number: int, *, row: dict[str, Any], first: int) -> FeatureRecord:
        feature, store = first + number, self._store
        firings = store.postings.feature(feature)
        return FeatureRecord(
            source=source.id,
            number=number,
            density=row["density"],
            max=row["max"],
            activations=_bars(firings.values),
            percentiles=_percentiles(firings.values),
            top_logits=self._logits(row, end="top"),
            bottom_logits=self._logits(row, end="bottom"),
            similar=tuple((near - first, cosine) for near, cosine in zip(row["neighbour_ids"], row["neighbour_cosines"], strict=True)),
            explanations=self._explanations(feature, row),
            examples=tuple(self._examples(row, firings)) if len(firings) else (),
        )

    def _logits(self, row: dict[str, Any], *, end: str) -> tuple[TokenLogit, ...]:
        pairs = zip(row[f"{end}_ids"], row[f"{end}_logits"], strict=True)
        return tuple(TokenLogit(text=self._store.vocabulary.piece(token), value=logit) for token, logit in pairs)

    def _explanations(self, feature: int, row: dict[str, Any]) -> tuple[Explanation, ...]:
        """A person's label first, then the rule's."""
        rule = Explanation(text=row["rule"], method="rule", score=row["f1"])
        labels = self._labels
        return (Explanation(text=labels.texts[feature], method="user"), rule) if feature in labels.by_user else (rule,)

    def _examples(self, row: dict[str, Any], firings: Firings) -> list[Example]:
        chosen: list[tuple[int, Interval | None]] = [(position, None) for position in row["top_positions"][: self._wanted.top]]
        at, edges = 0, row["stratum_edges"]
        slices: list[tuple[Interval, list[int]]] = []
        for index, (count, size) in enumerate(zip(row["stratum_counts"], row["stratum_sizes"], strict=True)):
            interval = Interval(low=edges[index], high=edges[index + 1], share=count / row["count"], name=f"slice {index + 1}")
            slices.append((interval, row["stratum_positions"][at : at + size]))
            at += size
        for interval, positions in reversed(slices):
            chosen += [(position, interval) for position in positions[: self._wanted.per_slice]]
        return self._windows(np.array([position for position, _ in chosen], dtype=np.int64), firings, [interval for _, interval in chosen])

    def _windows(self, positions: Array, firings: Firings, intervals: Sequence[Interval | None]) -> list[Example]:
        """The windows around firings, widened to the borders of characters so that each is text by itself."""
        corpus, config = self._store.corpus, self._store.config
        docs = corpus.doc_of(positions)
        low, high = corpus.doc_start[docs], corpus.doc_start[docs + 1]
        start, stop = np.maximum(low, positions - config.window_before), np.minimum(high, positions + config.window_after + 1)
        for _ in range(3):  # a character has at most 4 bytes
            start = start - ((start > low) & self._goes_on[corpus.tokens[start]])
            stop = stop + ((stop < high) & self._goes_on[corpus.tokens[np.minimum(stop, corpus.n_tokens - 1)]])
        ends = np.cumsum(stop - start)
        places = np.arange(ends[-1] if len(ends) else 0) + np.repeat(stop - ends, stop - start)
        at = np.minimum(np.searchsorted(firings.positions, places), len(firings) - 1)
        values = np.where(firings.positions[at] == places, firings.values[at], 0).tolist()
        tokens = list(map(self._bytes.__getitem__, corpus.tokens[places].tolist()))
        found: list[Example] = []
        columns = ((ends - stop + start), ends, positions - start, docs, positions - low)
        for interval, first, last, peak, doc, place in zip(intervals, *(column.tolist() for column in columns), strict=True):
            shown, here = f"document {doc}, token {place}", slice(first, last)
            found.append(Example(tokens=tuple(tokens[here]), activations=tuple(values[here]), peak=peak, interval=interval, origin=shown))
        return found


def _bars(values: Array) -> Bars:
    """50 equally wide bars from 0 to the maximum."""
    if not len(values):
        return Bars()
    heights, edges = np.histogram(values, bins=N_BARS, range=(0.0, float(values.max())))
    return Bars(values=tuple(((edges[1:] + edges[:-1]) / 2).tolist()), heights=tuple(map(float, heights)))


def _percentiles(values: Array) -> tuple[float, ...]:
    return tuple(np.quantile(values, np.arange(1, 101) / 100).tolist()) if len(values) else ()


@final
class _IndexCache:
    """Every activation of an index."""

    def __init__(self, store: Store, sources: Sequence[Source]) -> None:
        self._store = store
        self._starts = {source.id: store.numbering.span(member).start for member, source in enumerate(sources)}

    @property
    def tokens(self) -> Array:
        return self._store.corpus.tokens

    @property
    def context(self) -> int:
        return self._store.corpus.config.context_length

    @property
    def n_vocab(self) -> int:
        return len(self._store.vocabulary)

    def token_bytes(self, token: int) -> bytes:
        return self._store.vocabulary.bytes(token)

    def counts(self, source: Source) -> Array:
        first = self._starts[source.id]
        return np.diff(self._store.postings.indptr[first : first + (source.n_features or 0) + 1])

    def entries(self, source: Source, *, first: int, last: int) -> Entries:
        start = self._starts[source.id]
        parts = [self._store.postings.feature(start + number) for number in range(first, last + 1)]
        sizes = [len(part) for part in parts]
        positions = np.concatenate([part.positions for part in parts])
        order = np.argsort(positions, kind="stable")
        numbers = np.repeat(np.arange(first, last + 1), sizes)
        values = np.concatenate([part.values for part in parts])
        return Entries(positions=positions[order], numbers=numbers[order], values=values[order])
