"""Features that may be parts of one concept: split between them, or one absorbed by another. Suspicions from the postings and the weights alone.

*Splitting* (Bricken et al. 2023, "Towards monosemanticity": a feature of a small dictionary becomes several in a larger one): i and j write nearly
the same, fire on the same words, and never together. With n_i(w) the firings of i on the word (token id) w, of n(w) kept occurrences:

    expected = sum_w n_i(w) n_j(w) / n(w)      what they would share if on each word they knew nothing of each other
    split    : cos(d_i, d_j) >= 0.3, expected >= 5, together <= expected / 10

*Absorption* (Chanin et al. 2024, "A is for absorption"; limits as in SAEBench 0.6): a general feature p is silent on tokens of its concept, because a
rarer one, c, fires there and writes p's direction as well. They find it with a probe of the concept; here p's own decoder direction stands for it:

    absorption : cos(d_c, d_p) >= 0.3, 2 n_c <= n_p, together <= n_c / 10,
                 strength = mean a_c · <d_c, d_p / |d_p|> / (mean a_p · |d_p|) >= 0.4,   cos(e_c, e_p) <= cos(d_c, d_p) / 2

The last says that c writes p's direction and does not read it: that is how absorbed features differ from look-alikes, whose encoders are as
near as their decoders. It is our own addition. Both are suspicions: p may be silent on c's tokens because its concept is not there.
"""

from dataclasses import dataclass

import numpy as np

from microtome.features.alike import cosines, counts_together
from microtome.features.arrays import Array
from microtome.features.links import Suspect
from microtome.features.store import Store

COSINE = 0.3
"""Least cosine of the decoder directions."""
SILENT = 0.1
"""Largest share of the firings (or of what is expected) that may be together."""
STRENGTH = 0.4
"""Least part of the parent's usual write that the absorbing feature makes."""
EXPECTED = 5.0
"""Fewest tokens that two parts of a split feature would be expected to share."""
FIRINGS = 10
"""A feature that fires less often suspects nobody."""
_CANDIDATES = 256


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two features of a dictionary, the asked one first, and what was counted of them."""

    decoder: float
    encoder: float
    counts: tuple[int, int]
    together: int
    expected: float
    strength: float
    """Of the rarer one."""

    @property
    def kind(self) -> str | None:
        """What the figures speak for."""
        rarer = min(self.counts)
        if self.decoder < COSINE or rarer < FIRINGS:
            return None
        if self.expected >= EXPECTED and self.together <= SILENT * self.expected:
            return "split"
        silent = self.together <= SILENT * rarer and 2 * rarer <= max(self.counts)
        if silent and self.strength >= STRENGTH and self.encoder <= self.decoder / 2:
            return "absorbs" if self.counts[1] == rarer else "absorbed by"
        return None


def suspects(store: Store, feature: int, *, limit: int) -> tuple[Suspect, ...]:
    """The suspects among the features of the same dictionary, the likest decoder first."""
    encoder, decoder = cosines(store, feature)
    span = store.numbering.span(store.numbering.place(feature).member)
    likely = np.flatnonzero(decoder >= COSINE)
    likely = likely[(likely != feature - span.start) & (store.rows.numbers["count"][likely + span.start] >= FIRINGS)]
    likely = likely[np.argsort(-decoder[likely], kind="stable")][:_CANDIDATES]
    if not len(likely) or store.rows.numbers["count"][feature] < FIRINGS:
        return ()
    together = counts_together(store, feature)
    words = _Words(store, feature)
    found: list[Suspect] = []
    for at in likely.tolist():
        other = at + span.start
        pair = Pair(
            decoder=float(decoder[at]),
            encoder=float(encoder[at]),
            counts=(int(store.rows.numbers["count"][feature]), int(store.rows.numbers["count"][other])),
            together=int(together[other]),
            expected=words.expected(other),
            strength=_strength(store, feature, other, cosine=float(decoder[at])),
        )
        if pair.kind is not None:
            found.append(_suspect(store, other, pair, kind=pair.kind))
    return tuple(found[: max(0, limit)])


class _Words:
    """On which words a feature fires, beside others."""

    def __init__(self, store: Store, feature: int) -> None:
        self._store = store
        self._share = np.divide(self._on(feature), store.token_counts, where=store.token_counts > 0, out=np.zeros(len(store.token_counts)))

    def expected(self, other: int) -> float:
        """Tokens that both would fire on, were they independent on each word."""
        tokens = self._store.corpus.tokens[self._store.postings.feature(other).positions]
        return float(self._share[tokens].sum())

    def _on(self, feature: int) -> Array:
        tokens = self._store.corpus.tokens[self._store.postings.feature(feature).positions]
        return np.bincount(tokens, minlength=len(self._store.token_counts)).astype(np.float64)


def _strength(store: Store, feature: int, other: int, *, cosine: float) -> float:
    """mean a_c · |d_c| cos / (mean a_p · |d_p|), with c the rarer of the two."""
    numbers = store.rows.numbers
    child, parent = (other, feature) if numbers["count"][other] <= numbers["count"][feature] else (feature, other)
    usual = float(numbers["mean"][parent]) * float(numbers["decoder_norm"][parent])
    return float(numbers["mean"][child]) * float(numbers["decoder_norm"][child]) * cosine / usual if usual else 0.0


def _suspect(store: Store, other: int, pair: Pair, *, kind: str) -> Suspect:
    place = store.numbering.place(other)
    return Suspect(
        kind=kind,
        feature=other,
        site=str(place.site),
        number=place.number,
        label=store.labels()[other],
        decoder=pair.decoder,
        encoder=pair.encoder,
        count=pair.counts[1],
        together=pair.together,
        expected=pair.expected,
        strength=pair.strength,
    )
