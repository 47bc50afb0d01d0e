"""Any text: run the model up to the dictionary's site, encode, and hold the activations against the store."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from microtome.errors import QueryInvalid
from microtome.features.arrays import Array
from microtome.features.found import TextTests
from microtome.features.ranks import grouped, ranked, share_of_max
from microtome.features.records import Search, SearchHit, TextTest
from microtome.features.statistics import percentile, standing
from microtome.features.store import Store
from microtome.models import Model


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A text's tokens and the features active on each (CSR)."""

    tokens: list[int]
    pieces: list[str]
    kept: list[bool]
    indptr: Array
    ids: Array
    values: Array

    def row_of(self, feature: int) -> Array:
        """The feature's activation on every token, float32 [tokens]."""
        at = np.repeat(np.arange(len(self.tokens)), np.diff(self.indptr))
        found = np.zeros(len(self.tokens), dtype=np.float32)
        mine = self.ids == feature
        found[at[mine]] = self.values[mine]
        return found


def search(store: Store, model: Model, *, text: str, rank: str, limit: int) -> Search:
    """Features ranked by how they respond to the text."""
    encoded = encode(store, model, text)
    active = encoded.values > 0
    groups = grouped(encoded.ids[active], encoded.values[active], n_features=store.n_features)
    best = ranked(store, groups, rank=rank, limit=limit)
    labels, numbers = store.labels(), store.rows.numbers
    hits: list[SearchHit] = []
    for feature, score in best.pairs():
        activations = encoded.row_of(feature)
        peak = int(activations.argmax())
        strongest = float(activations[peak])
        known = float(numbers["max"][feature])
        hits.append(
            SearchHit(
                feature=feature,
                label=labels[feature],
                score=score,
                max=strongest,
                peak=peak,
                share_of_max=float(share_of_max(activations[peak : peak + 1], known)[0]),
                percentile=float(percentile(activations[peak : peak + 1], values=store.postings.values(feature))[0]),
                density=float(numbers["density"][feature]),
                activations=tuple(activations.tolist()),
            )
        )
    return Search(text=text, tokens=tuple(encoded.tokens), pieces=tuple(encoded.pieces), rank=rank, n_active=best.n_active, hits=tuple(hits))


def test(store: Store, model: Model, *, feature: int, text: str) -> TextTest:
    """One feature on the text."""
    encoded = encode(store, model, text)
    activations = encoded.row_of(feature)
    known = float(store.rows.numbers["max"][feature])
    peak = int(activations.argmax())
    return TextTest(
        feature=feature,
        label=store.labels()[feature],
        text=text,
        tokens=tuple(encoded.tokens),
        pieces=tuple(encoded.pieces),
        kept=tuple(encoded.kept),
        activations=tuple(activations.tolist()),
        shares_of_max=tuple(share_of_max(activations, known).tolist()),
        percentiles=tuple(percentile(activations, values=store.postings.values(feature)).tolist()),
        ranks=tuple(standing(activations, values=store.postings.values(feature)).tolist()),
        max=float(activations[peak]),
        peak=peak,
        above_store=float(activations[peak]) > known,
    )


def test_all(store: Store, model: Model, *, feature: int, texts: Sequence[str]) -> TextTests:
    """One feature on many prompts."""
    check_texts(texts, what="prompt")
    tests = tuple(test(store, model, feature=feature, text=text) for text in texts)
    return TextTests(
        feature=feature,
        label=store.labels()[feature],
        store_max=float(store.rows.numbers["max"][feature]),
        store_count=int(store.rows.numbers["count"][feature]),
        above_store=sum(one.above_store for one in tests),
        tests=tests,
    )


def check_texts(texts: Sequence[str], *, what: str) -> None:
    """Refuse no texts, and an empty one by its number."""
    if not texts:
        raise QueryInvalid(f"there is no {what}.", got="nothing", wanted=f"at least one {what}", do="Type a few words.")
    empty = [number for number, text in enumerate(texts, start=1) if not text]
    if empty:
        raise QueryInvalid(f"{what} {empty[0]} is empty.", got="''", wanted="at least one token of text", do="Fill it or leave it out.")


def encode(store: Store, model: Model, text: str) -> Encoded:
    """Activations of the text's own tokens, run after what `lead` gives, which is dropped again."""
    store.check_model(model)
    tokens = model.tokenizer.encode(text)
    if not tokens:
        raise QueryInvalid("the text is empty.", got=repr(text), wanted="at least one token of text", do="Type a few words.")
    before = lead(store)
    captured = model.capture(torch.tensor([before + tokens]), store.members.inputs)
    codes = store.members.encode({site: x[0, len(before) :] for site, x in captured.items()})
    special = set(store.facts["special"])
    return Encoded(
        tokens=tokens,
        pieces=store.vocabulary.pieces(tokens),
        kept=[token not in special for token in tokens],
        indptr=codes.indptr,
        ids=codes.ids,
        values=np.maximum(codes.values, 0).astype(store.config.values).astype(np.float32),
    )


def lead(store: Store) -> list[int]:
    """The tokens to put before a text: BOS if the corpus begins its contexts with it, then line breaks.

    The store leaves out the first `skip_first` tokens of a context (attention sinks) and has never seen them.
    """
    corpus = store.corpus.config
    begin = [store.facts["bos"]] if corpus.bos != "none" and store.facts["bos"] is not None else []
    return begin + (store.facts["break"] * corpus.skip_first)[: max(0, corpus.skip_first - len(begin))]
