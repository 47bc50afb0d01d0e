"""What a cluster is called: the terms that its features share and others do not, beside what as many features drawn at random share."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from microtome.features.arrays import Array
from microtome.features.geometry.records import Cluster, ClusterTerm
from microtome.features.store import Store
from microtome.features.text import quote

_DRAWS = 20
_TERMS = 4
_LEAST_SHARE, _LEAST = 0.1, 3
"""A term must be of a tenth of the cluster, and of three features."""
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)+)"')
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}
_NAMELESS = "no common rule"


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The terms of every feature on a map (CSR)."""

    names: tuple[tuple[str, str], ...]
    """Kind and text."""
    ids: Array
    starts: Array
    """int64 [features + 1]."""
    overall: Array
    """Share of all features, by term."""

    def counts(self, rows: Array) -> Array:
        """How many of some features have each term."""
        parts = [self.ids[self.starts[row] : self.starts[row + 1]] for row in rows.tolist()]
        return np.bincount(np.concatenate(parts) if parts else np.zeros(0, np.int64), minlength=len(self.names))

    def scores(self, rows: Array) -> Array:
        """share · log2(share / overall) of each term; 0 for terms of too few."""
        counts = self.counts(rows)
        share = counts / max(1, len(rows))
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.where(share > 0, share * np.log2(share / self.overall), 0.0)
        return np.where((share >= _LEAST_SHARE) & (counts >= _LEAST), found, 0.0)


def terms_of(store: Store, features: Array) -> Terms:
    """The terms of some features: tokens fold case and outer space, so that "The" and " the" are one."""
    texts, lift = store.rows.texts, store.rows.numbers["lift"]
    known: dict[tuple[str, str], int] = {}
    rows: list[list[int]] = []
    several = len(store.numbering.sites) > 1
    for feature in features.tolist():
        terms = {("fires on", _folded(texts["token"][feature])), ("raises", _folded(texts["top_logit"][feature]))}
        terms |= {("rule", _folded(_unquoted(word))) for word in _QUOTED.findall(texts["rule"][feature])}
        if texts["corpus_label"][feature] and lift[feature] > 2:
            terms.add(("corpus", texts["corpus_label"][feature]))
        if several:
            terms.add(("reads", store.sites[feature]))
        rows.append([known.setdefault(term, len(known)) for term in sorted(terms) if term[1]])
    ids = np.array([term for row in rows for term in row], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    overall = np.bincount(ids, minlength=len(known)) / max(1, len(rows))
    return Terms(names=tuple(known), ids=ids, starts=starts, overall=overall)


def named(terms: Terms, places: Array, clusters: Array, *, seed: int) -> tuple[Cluster, ...]:
    """Every cluster with its label; weak where features drawn anywhere share as much."""
    draw = np.random.default_rng(seed)
    found: list[Cluster] = []
    for number in range(int(clusters.max(initial=-1)) + 1):
        rows = np.flatnonzero(clusters == number)
        scores, counts = terms.scores(rows), terms.counts(rows)
        best = [term for term in np.argsort(-scores, kind="stable")[:_TERMS].tolist() if scores[term] > 0]
        null = max(float(terms.scores(draw.choice(len(places), len(rows), replace=False)).max(initial=0.0)) for _ in range(_DRAWS))
        made = tuple(
            ClusterTerm(
                kind=terms.names[term][0],
                text=terms.names[term][1],
                share=float(counts[term] / len(rows)),
                overall=float(terms.overall[term]),
                score=float(scores[term]),
            )
            for term in best
        )
        middle = np.median(places[rows], 0)
        weak = not made or made[0].score <= null
        label = _label([term for term in made if term.score > null])
        found.append(Cluster(number=number, label=label, size=len(rows), x=float(middle[0]), y=float(middle[1]), terms=made, null=null, is_weak=weak))
    return tuple(found)


def _label(terms: Sequence[ClusterTerm]) -> str:
    """The terms that chance does not give, the best first, each text once."""
    if not terms:
        return _NAMELESS
    told: dict[str, str] = {}
    for term in terms:
        told.setdefault(term.text, term.kind)
    parts: dict[str, list[str]] = {}
    for text, kind in list(told.items())[:3]:
        parts.setdefault(kind, []).append(text if kind in ("corpus", "reads") else quote(text))
    return "; ".join(f"{kind} {', '.join(some)}" for kind, some in parts.items())


def _unquoted(text: str) -> str:
    """What `quote` made visible as it was."""
    return re.sub(r"\\(.)", lambda match: _ESCAPED.get(match[1], match[1]), text)


def _folded(text: str) -> str:
    """Without case and outer space, unless it is nothing but space."""
    return text.strip().casefold() or text
