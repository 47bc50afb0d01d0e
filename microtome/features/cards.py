"""One feature: its card, its examples and their windows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from microtome.activations import SPLITS
from microtome.errors import QueryInvalid, nearest
from microtome.features.arrays import Array
from microtome.features.blocks import Block
from microtome.features.examples import drawn, slice_of, strongest
from microtome.features.feature_card import Card
from microtome.features.postings import Firings
from microtome.features.records import (
    Breakdown,
    Histogram,
    LogitEntry,
    Logits,
    Neighbour,
    RuleLabel,
    Statistics,
    Stratum,
    TokenProfile,
    TokenStat,
    Window,
)
from microtome.features.store import Store


def card(store: Store, feature: int) -> Card:
    """Everything known about one feature."""
    row = store.rows.row(feature)
    firings = store.postings.feature(feature)
    shown = np.array([*row["top_positions"], *row["stratum_positions"]], dtype=np.int64)
    found = windows(store, firings, positions=shown, duplicates=[*row["top_duplicates"], *row["stratum_duplicates"]])
    n_top = len(row["top_positions"])
    return Card(
        index=store.name,
        feature=feature,
        site=store.sites[feature],
        number=store.numbering.place(feature).number,
        n_features=store.n_features,
        n_dictionaries=len(store.numbering.sites),
        label=store.label(feature),
        rule=rule_of(row),
        statistics=Statistics(
            count=row["count"],
            density=row["density"],
            documents=row["documents"],
            document_share=row["documents"] / max(1, store.corpus.n_docs),
            max=row["max"],
            mean=row["mean"],
            second_moment=row["second_moment"],
            decoder_norm=row["decoder_norm"],
            encoder_norm=row["encoder_norm"],
        ),
        histogram=Histogram(edges=tuple(row["histogram_edges"]), counts=tuple(row["histogram_counts"]), unit="activation", log=True),
        offsets=Histogram(
            edges=tuple(map(float, store.facts["offset_edges"])),
            counts=tuple(row["offset_counts"]),
            unit="offset in the document (tokens)",
            log=True,
        ),
        top=found[:n_top],
        strata=_strata(row, found[n_top:]),
        breakdowns=_breakdowns(store, row),
        tokens=_profile(store, row),
        logits=Logits(top=_logits(store, row, end="top"), bottom=_logits(store, row, end="bottom")),
        neighbours=_neighbours(store, row),
        notes=store.catalogue.notes(store.id, feature),
        verdict=store.labelled().verdicts.get(feature, ""),
        lists=store.labelled().lists.get(feature, ()),
    )


def examples(
    store: Store, feature: int, *, stratum: int | None, split: str | None, role: str | None, corpus_label: str | None, limit: int
) -> tuple[Window, ...]:
    """The strongest examples, or a draw from one slice, among the firings of one split, role and corpus label."""
    firings = store.postings.feature(feature)
    chosen = np.ones(len(firings), dtype=bool)
    if split is not None:
        chosen &= store.context.split[firings.positions] == _code(split, SPLITS, "split")
    if role is not None:
        chosen &= store.context.role[firings.positions] == _code(role, store.context.roles, "role")
    if corpus_label is not None:
        chosen &= store.context.label[firings.positions] == _code(corpus_label, store.context.labels, "corpus label")
    if stratum is None:
        part = Firings(positions=firings.positions[chosen], values=firings.values[chosen])
        top = strongest(Block.of(part), store.context, limit=limit)
        return windows(store, firings, positions=part.positions[top.rows], duplicates=top.duplicates.tolist())
    row = store.rows.row(feature)
    n_slices = len(row["stratum_counts"])
    if not 0 <= stratum < n_slices:
        wanted = f"0 … {n_slices - 1}" if n_slices else "none: it never fires"
        raise QueryInvalid(f"feature {feature} has no slice {stratum}.", got=stratum, wanted=wanted, do="0 is the weakest slice.")
    chosen &= slice_of(firings.values, np.array(row["stratum_edges"], dtype=np.float32)) == stratum
    rows = np.flatnonzero(chosen)
    draw = drawn(Block.of(firings), store.context, rows=rows, group=np.zeros_like(rows), limit=limit, seed=store.config.seed)
    return windows(store, firings, positions=firings.positions[draw.rows], duplicates=draw.duplicates.tolist())


def windows(store: Store, firings: Firings, *, positions: Array, duplicates: Sequence[int]) -> tuple[Window, ...]:
    """The window around each position, cut at its document's borders."""
    if not len(positions):
        return ()
    corpus, config = store.corpus, store.config
    docs = corpus.doc_of(positions)
    roles = corpus.role_of(positions)
    floors, ends = corpus.doc_start[docs], corpus.doc_start[docs + 1]
    starts = np.maximum(floors, positions - config.window_before)
    stops = np.minimum(ends, positions + config.window_after + 1)
    first, last = np.searchsorted(firings.positions, starts), np.searchsorted(firings.positions, stops)
    found: list[Window] = []
    for i, doc in enumerate(docs.tolist()):
        start, stop, peak = int(starts[i]), int(stops[i]), int(positions[i])
        activations = np.zeros(stop - start, dtype=np.float32)
        here = slice(int(first[i]), int(last[i]))
        activations[firings.positions[here] - start] = firings.values[here]
        pieces = store.vocabulary.window(corpus.tokens, start=start, end=stop, floor=int(floors[i]), ceiling=int(ends[i]))
        found.append(
            Window(
                doc=doc,
                title=store.titles[doc],
                corpus_label=store.corpus_labels[doc],
                split=SPLITS[int(corpus.splits[doc])],
                role=roles.names[int(roles.codes[i])],
                start=start,
                offset=start - int(floors[i]),
                peak=peak - start,
                activation=float(activations[peak - start]),
                pieces=tuple(pieces),
                activations=tuple(activations.tolist()),
                duplicates=int(duplicates[i]),
            )
        )
    return tuple(found)


def rule_of(row: Mapping[str, Any]) -> RuleLabel:
    """The rule label in a row of the table."""
    return RuleLabel(
        text=row["rule"],
        kind=row["rule_kind"],
        f1=row["f1"],
        precision=row["precision"],
        recall=row["recall"],
        f1_test=row["f1_test"],
        f1_null=row["f1_null"],
        threshold=row["threshold"],
        weak=row["rule_weak"],
    )


def _strata(row: Mapping[str, Any], found: tuple[Window, ...]) -> tuple[Stratum, ...]:
    strata: list[Stratum] = []
    at = 0
    for index, (count, size) in enumerate(zip(row["stratum_counts"], row["stratum_sizes"], strict=True)):
        low, high = row["stratum_edges"][index : index + 2]
        strata.append(Stratum(index=index, low=low, high=high, count=count, examples=found[at : at + size]))
        at += size
    return tuple(reversed(strata))


def _breakdowns(store: Store, row: Mapping[str, Any]) -> dict[str, tuple[Breakdown, ...]]:
    found: dict[str, tuple[Breakdown, ...]] = {}
    for by, parts in store.facts["parts"].items():
        entries: list[Breakdown] = []
        for name, count in zip(store.part_names[by], row[f"{by}_counts"], strict=True):
            tokens = parts[name]
            if tokens:
                density = count / tokens
                lift = density / row["density"] if row["density"] else 0.0
                entries.append(Breakdown(name=name, count=count, tokens=tokens, density=density, lift=lift))
        found[by] = tuple(sorted(entries, key=lambda entry: (-entry.density, entry.name)))
    return found


def _profile(store: Store, row: Mapping[str, Any]) -> TokenProfile:
    columns = (row["token_ids"], row["token_counts"], row["token_means"], row["token_rates"])
    tokens = [
        TokenStat(token=token, piece=store.vocabulary.piece(token), count=count, share=count / row["count"], mean=mean, rate=rate)
        for token, count, mean, rate in zip(*columns, strict=True)
    ]
    return TokenProfile(entropy=row["entropy"], distinct=row["distinct"], tokens=tuple(tokens))


def _logits(store: Store, row: Mapping[str, Any], *, end: str) -> tuple[LogitEntry, ...]:
    pairs = zip(row[f"{end}_ids"], row[f"{end}_logits"], strict=True)
    return tuple(LogitEntry(token=token, piece=store.vocabulary.piece(token), logit=logit) for token, logit in pairs)


def _neighbours(store: Store, row: Mapping[str, Any]) -> tuple[Neighbour, ...]:
    labels, densities = store.labels(), store.rows.numbers["density"]
    ids: list[int] = row["neighbour_ids"]
    pairs = zip(ids, row["neighbour_cosines"], strict=True)
    return tuple(Neighbour(feature=near, cosine=cosine, label=labels[near], density=float(densities[near])) for near, cosine in pairs)


def _code(name: str, names: Sequence[str], what: str) -> int:
    if name not in names:
        raise QueryInvalid(f'there is no {what} "{name}".', got=name, wanted=", ".join(names), do=nearest(name, names))
    return names.index(name)
