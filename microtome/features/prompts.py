"""Features by prompts with and without something: intersect what fires on all positive prompts, subtract what fires on a negative one.

With s(f, p) = largest activation of feature f on prompt p / its maximum over the store (1 for a feature that never fires there):

    worst(f)   = the (misses + 1)-th smallest s(f, p) over the positive prompts          (intersect: their minimum, when none may be missed)
    against(f) = max s(f, n) over the negative prompts, 0 without any
    found      = all f with worst(f) > 0 and against(f) ≤ allow                          (subtract)
    score(f)   = worst(f) · ln((1 + documents) / (1 + documents f fires in))             by `specific`; worst(f) by `share`

(Templeton et al. 2024, "Scaling Monosemanticity", features found by several prompts; the score is ours.) Equal scores are ordered by feature.
"""

from dataclasses import dataclass

import numpy as np

from microtome.errors import QueryInvalid, nearest
from microtome.features.arrays import Array
from microtome.features.found import PromptHit, PromptSearch
from microtome.features.probe import Encoded, check_texts, encode
from microtome.features.ranks import share_of_max
from microtome.features.store import Store
from microtome.models import Model

RANKS = ("specific", "share")


@dataclass(frozen=True, kw_only=True)
class PromptQuery:
    """What is asked; see the module."""

    positive: tuple[str, ...]
    negative: tuple[str, ...] = ()
    rank: str = "specific"
    misses: int = 0
    allow: float = 0.0
    limit: int = 50

    def __post_init__(self) -> None:
        check_texts(self.positive, what="positive prompt")
        if self.negative:
            check_texts(self.negative, what="negative prompt")
        if self.rank not in RANKS:
            what = f'features found by prompts have no rank "{self.rank}".'
            raise QueryInvalid(what, got=self.rank, wanted=", ".join(RANKS), do=nearest(self.rank, RANKS))
        if not 0 <= self.misses < len(self.positive):
            wanted = f"0 … {len(self.positive) - 1}"
            raise QueryInvalid("a feature must fire on one positive prompt at least.", got=self.misses, wanted=wanted, do="Allow fewer misses.")
        if not self.allow >= 0:
            raise QueryInvalid("what is forgiven on a negative prompt is a share.", got=self.allow, wanted="0 or more", do="Give 0.1, say.")


def by_prompts(store: Store, model: Model, query: PromptQuery) -> PromptSearch:
    """Features that fire on the positive prompts and not on the negative ones."""
    encoded = [encode(store, model, text) for text in (*query.positive, *query.negative)]
    shares = np.stack([_shares(store, one) for one in encoded], 1)
    positive, negative = shares[:, : len(query.positive)], shares[:, len(query.positive) :]
    worst = np.sort(positive, 1)[:, query.misses]
    against = negative.max(1, initial=0.0)
    common = worst > 0
    left = np.flatnonzero(common & (against <= query.allow))
    rarity = np.log((1 + store.corpus.n_docs) / (1 + store.rows.numbers["documents"][left]))
    scores = worst[left] * (rarity if query.rank == "specific" else 1.0)
    best = np.argsort(-scores, kind="stable")[: max(0, query.limit)]
    labels, densities = store.labels(), store.rows.numbers["density"]
    hits: list[PromptHit] = []
    for at in map(int, best):
        feature = int(left[at])
        hits.append(
            PromptHit(
                feature=feature,
                label=labels[feature],
                score=float(scores[at]),
                worst=float(worst[feature]),
                against=float(against[feature]),
                positive=tuple(positive[feature].tolist()),
                negative=tuple(negative[feature].tolist()),
                peaks=tuple(_peak(one, feature) for one in encoded[: len(query.positive)]),
                density=float(densities[feature]),
            )
        )
    return PromptSearch(
        positive=query.positive,
        negative=query.negative,
        rank=query.rank,
        misses=query.misses,
        allow=query.allow,
        n_active=int((positive > 0).any(1).sum()),
        n_common=int(common.sum()),
        n_left=len(left),
        hits=tuple(hits),
    )


def _shares(store: Store, encoded: Encoded) -> Array:
    """s(f, p) of every feature on one prompt, float64 [features]."""
    largest = np.zeros(store.n_features, np.float32)
    np.maximum.at(largest, encoded.ids, encoded.values)
    return share_of_max(largest, store.rows.numbers["max"])


def _peak(encoded: Encoded, feature: int) -> str:
    activations = encoded.row_of(feature)
    return encoded.pieces[int(activations.argmax())] if activations.max() > 0 else ""
