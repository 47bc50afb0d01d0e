"""The report on odd features, from an index alone."""

from dataclasses import dataclass

import numpy as np
import torch

from microtome.activations import Shards
from microtome.errors import ArtifactMissing, ConfigError
from microtome.features.arrays import Array
from microtome.features.index import FeatureIndex
from microtome.features.odd.categories import Tokens, alphabet, classes_of, first_component, pc1, token_categories
from microtome.features.odd.records import Antipode, Category, DenseFeature, Duplicate, Odd, OddFeature
from microtome.features.odd.subspaces import side_by_side
from microtome.features.store import Store
from microtome.features.tables import DENSE, RARE
from microtome.shapes import Float, Tensor

_TOKENS = 1 << 18
"""Most tokens that a category test reads."""
_ROWS = 1 << 14
"""Most rows that the first principal component is made of."""
_SAME_DECODER, _SAME_TOKENS, _ANTIPODAL = 0.9, 0.5, 0.7
_COMPARED = 12
"""Dense features whose cosines with each other are in the report."""


@dataclass(frozen=True, kw_only=True)
class OddConfig:
    """What counts as odd, and how much of it is listed."""

    dense: float = DENSE
    """A feature of higher density is dense."""
    limit: int = 200
    """Most lines of each list; the counts are of all."""

    def __post_init__(self) -> None:
        if not 0 < self.dense < 1:
            raise ConfigError("OddConfig.dense is not a density.", got=self.dense, wanted="0 < dense < 1", do="Give 0.1, say.")
        if self.limit < 0:
            raise ConfigError("OddConfig.limit is negative.", got=self.limit, wanted="0 or more", do="Correct it.")


def odd_report(index: FeatureIndex, *, config: OddConfig = OddConfig()) -> Odd:
    """Dense features with what explains them, duplicates, dead, ultra-rare and one-token features.

    Antipodality (Sun et al. 2025): s_i = max over j of cos(encoder i, j) · cos(decoder i, j), here over those j alone whose cosines are both
    below 0, since for a duplicate the product is positive too; beside it the co-firing P(both) / min(P(i), P(j)). Sources of the other tests are in
    `categories.py`. Duplicates: decoder cosine ≥ 0.9 among the nearest neighbours that the index keeps, and Jaccard ≥ 0.5. The cosines between the
    densest are those of Ameisen et al. 2025 for cross-layer transcoders: of the decoder vectors of all sites side by side.
    """
    store = index.store
    numbers = store.rows.numbers
    tokens = _tokens(store)
    chosen = np.flatnonzero(numbers["density"] > config.dense)
    chosen = chosen[np.argsort(-numbers["density"][chosen], kind="stable")]
    component, source = _component(store)
    dense = [_dense(store, int(feature), tokens=tokens, component=component) for feature in chosen[: config.limit]]
    pairs = _duplicates(store)
    count = numbers["count"]
    dead, rare = np.flatnonzero(count == 0), np.flatnonzero((count > 0) & (count < RARE))
    one = np.flatnonzero((count >= RARE) & (numbers["distinct"] == 1))
    rare, one = rare[np.argsort(count[rare], kind="stable")], one[np.argsort(-count[one], kind="stable")]
    return Odd(
        index=store.name,
        n_features=store.n_features,
        kept=store.facts["kept"],
        tokens_read=len(tokens.positions),
        pc1=source,
        counts={
            "dense": len(chosen),
            "unexplained": sum(not each.explained for each in dense),
            "duplicates": len(pairs),
            "dead": len(dead),
            "rare": len(rare),
            "one_token": len(one),
        },
        dense=tuple(dense),
        cosines=_between(store, chosen[: min(config.limit, _COMPARED)].tolist()),
        duplicates=tuple(pairs[: config.limit]),
        dead=tuple(dead[: config.limit].tolist()),
        rare=tuple(_line(store, int(feature)) for feature in rare[: config.limit]),
        one_token=tuple(_line(store, int(feature)) for feature in one[: config.limit]),
    )


def _tokens(store: Store) -> Tokens:
    kept = np.flatnonzero(store.postings.keep())
    if len(kept) > _TOKENS:
        kept = kept[np.linspace(0, len(kept) - 1, _TOKENS).astype(np.int64)]
    starts = np.asarray(store.corpus.context_start)
    offset = kept - starts[np.searchsorted(starts, kept, side="right") - 1]
    return Tokens(positions=kept, offset=offset, classes=classes_of(store.vocabulary, np.asarray(store.corpus.tokens)[kept]))


def _dense(store: Store, feature: int, *, tokens: Tokens, component: Array | None) -> DenseFeature:
    firings = store.postings.feature(feature)
    at = np.searchsorted(tokens.positions, firings.positions)
    inside = (at < len(tokens.positions)) & (tokens.positions[np.minimum(at, len(tokens.positions) - 1)] == firings.positions)
    values = np.zeros(len(tokens.positions), np.float32)
    values[at[inside]] = firings.values[inside]
    top = [store.vocabulary.piece(token) for token in store.rows.row(feature)["top_ids"]]
    found: list[Category | None] = [*token_categories(values, tokens), alphabet(top)]
    if component is not None:
        member = store.members.dictionaries[store.numbering.place(feature).member]
        found.append(pc1(member.direction(store.numbering.place(feature).number).detach().float().cpu().numpy(), component))
    categories = tuple(each for each in found if each is not None)
    antipode = _antipode(store, feature)
    explained = [each.name for each in categories if each.holds]
    if antipode is not None and antipode.score > _ANTIPODAL:
        explained.append("antipodal")
    return DenseFeature(
        feature=feature,
        site=store.sites[feature],
        label=store.labels()[feature],
        density=float(store.rows.numbers["density"][feature]),
        mean=float(store.rows.numbers["mean"][feature]),
        antipode=antipode,
        categories=categories,
        explained=tuple(explained),
    )


def _antipode(store: Store, feature: int) -> Antipode | None:
    """The feature of the same dictionary with the largest product of two cosines that are both below 0."""
    place = store.numbering.place(feature)
    dictionary = store.members.dictionaries[place.member]
    encoders = _cosines(dictionary.encoder_directions(), place.number)
    decoders = _cosines(torch.cat([dictionary.directions(write=site) for site in dictionary.writes], 1), place.number)
    products = np.where((encoders < 0) & (decoders < 0), encoders * decoders, 0.0)
    best = int(products.argmax())
    if products[best] <= 0:
        return None
    other = int(store.numbering.starts[place.member]) + best
    count = store.rows.numbers["count"]
    rarer = int(min(count[feature], count[other]))
    return Antipode(
        feature=other,
        label=store.labels()[other],
        score=float(products[best]),
        encoder_cosine=float(encoders[best]),
        decoder_cosine=float(decoders[best]),
        cofire=_both(store, feature, other) / rarer if rarer else 0.0,
        density=float(store.rows.numbers["density"][other]),
    )


def _cosines(directions: Float[Tensor, "d_dict d"], number: int) -> Array:
    unit = torch.nn.functional.normalize(directions.detach().float().cpu(), dim=1)
    return (unit @ unit[number]).double().numpy()


def _between(store: Store, features: list[int]) -> tuple[tuple[float, ...], ...]:
    """Cosines of all decoder vectors side by side."""
    unit = torch.nn.functional.normalize(side_by_side(store, features).double(), dim=1)
    return tuple(tuple(row) for row in (unit @ unit.T).clamp(-1, 1).tolist())


def _both(store: Store, feature: int, other: int) -> int:
    positions = (store.postings.feature(each).positions for each in (feature, other))
    return len(np.intersect1d(*positions, assume_unique=True))


def _duplicates(store: Store) -> list[Duplicate]:
    """Pairs, each once, the most alike firings first."""
    labels, count = store.labels(), store.rows.numbers["count"]
    found: dict[tuple[int, int], Duplicate] = {}
    for feature in np.flatnonzero((store.rows.numbers["cosine"] >= _SAME_DECODER) & (count > 0)).tolist():
        row = store.rows.row(feature)
        for other, cosine in zip(row["neighbour_ids"], row["neighbour_cosines"], strict=True):
            pair = (min(feature, other), max(feature, other))
            if cosine < _SAME_DECODER or pair in found or not count[other]:
                continue
            if (same := _between(store, list(pair))[0][1]) < _SAME_DECODER:
                continue
            both = _both(store, feature, other)
            jaccard = both / (int(count[feature]) + int(count[other]) - both)
            if jaccard >= _SAME_TOKENS:
                one, two = (store.wiring.encoder(each) for each in pair)
                found[pair] = Duplicate(
                    feature=pair[0],
                    other=pair[1],
                    label=labels[pair[0]],
                    other_label=labels[pair[1]],
                    decoder_cosine=same,
                    encoder_cosine=float(torch.nn.functional.cosine_similarity(one, two, dim=0)),
                    jaccard=jaccard,
                )
    return sorted(found.values(), key=lambda pair: (-pair.jaccard, pair.feature, pair.other))


def _component(store: Store) -> tuple[Array | None, str]:
    """The first principal component of what a dictionary reads and writes, from its shards, and where it is from."""
    dictionaries = store.members.dictionaries
    one = dictionaries[0]
    if len(dictionaries) > 1 or one.writes != one.inputs or "shards" not in store.inputs:
        return None, ""
    try:
        shards = Shards.open(store.workspace.by_id("shards", store.inputs["shards"]))
    except ArtifactMissing:
        return None, ""
    rows: list[Array] = []
    for number in range(len(shards.ranges)):
        block = shards.block(number, one.reads)
        rows.append(block.x[block.keep].float().numpy())
        if sum(map(len, rows)) >= _ROWS:
            break
    first = np.concatenate(rows)[:_ROWS]
    return (first_component(first), f"{len(first)} tokens at {one.reads}") if len(first) else (None, "")


def _line(store: Store, feature: int) -> OddFeature:
    numbers = store.rows.numbers
    return OddFeature(
        feature=feature,
        site=store.sites[feature],
        label=store.labels()[feature],
        count=int(numbers["count"][feature]),
        documents=int(numbers["documents"][feature]),
        token=store.rows.texts["token"][feature],
        max=float(numbers["max"][feature]),
    )
