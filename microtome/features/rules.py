"""A name for every feature without asking a language model: the simple rule that predicts its firings best, with its exact F1.

For rules a feature *fires* where its activation exceeds `fire_share` of the 99th percentile of its activations in the train documents (a share
of the maximum would hang on one outlier). Every rule is a set of keys of one
*family*: a key is what the family sees of a token (its id, its word, the pair it makes with the token before, its document's label, …), and
the rule holds on the tokens whose key is in the set. Rules are picked on the train documents; precision, recall and F1 are then counted over
all kept tokens, and over the test documents alone (not when the feature fires on no train document: its rule is picked on all of them).
Because the keys of a family split the tokens into disjoint cells, the best set of a given precision floor takes the cells in order of
precision; sets are kept short so that they can be read.

To add a kind of rule, add a function that returns a `Family` to `families`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from microtome.activations import SPLITS
from microtome.features.arrays import Array
from microtome.features.context import Context
from microtome.features.postings import Firings
from microtome.features.records import RuleLabel
from microtome.features.text import Vocabulary, quote

WEAK = 0.3
"""Below this F1, over the store or over its test documents, the label says that its rule is weak."""
_CANDIDATES = 8
_PER_KEY = 0.02
"""Train F1 that one more key in the set must earn."""

Describe = Callable[[Sequence[int]], str]


@dataclass(frozen=True, kw_only=True)
class Family:
    """One way to look at tokens."""

    kind: str
    keys: Array
    """Key of every token of the store, -1 where the family says nothing; int [n_tokens]."""
    totals: Array
    """Kept tokens by key: over all documents, train, test; int64 [3, n_keys]."""
    longest: int
    """Most keys in a rule."""
    handicap: float
    """Train F1 by which this family must beat the ones before it."""
    describe: Describe
    brief: Describe
    """As it reads after "often"."""


@dataclass(frozen=True, kw_only=True)
class Rulebook:
    """All families over one store."""

    families: tuple[Family, ...]
    context: Context
    tokens: Array
    """Kept tokens over all documents, train, test; int64 [3]."""
    fire_share: float

    def label(self, firings: Firings) -> RuleLabel:
        """The best rule for a feature; a feature without a firing gets `never fires`."""
        if not len(firings):
            return _label("never fires", "dead", Score(), threshold=0.0)
        train = self.context.split[firings.positions] == SPLITS.index("train")
        seen = firings.values[train] if train.any() else firings.values
        threshold = self.fire_share * float(np.quantile(seen, 0.99, method="lower"))
        strong = firings.values > threshold
        fires = _Fires.of(firings.positions[strong], self.context)
        best: tuple[float, Family, Array] | None = None
        for family in self.families:
            picked = _pick(family, fires)
            if picked is not None and (best is None or picked.merit > best[0]):
                best = (picked.merit, family, picked.keys)
        if best is None:
            return _label(f"fires on {len(firings)} tokens that share nothing simple", "none", Score(), threshold=threshold)
        _, family, keys = best
        score = _score(family, keys, fires=fires, tokens=self.tokens)
        chosen = [int(key) for key in keys]
        text = f"often {family.brief(chosen)} ({_weakness(score)})" if _is_weak(score) else family.describe(chosen)
        return _label(text, family.kind, score, threshold=threshold)


def rulebook(context: Context, vocabulary: Vocabulary, *, fire_share: float) -> Rulebook:
    """Prepare every family for a store."""
    groups = _groups(context)
    made = [build(context, vocabulary, groups) for build in (_tokens, _words, _classes, _topics, _roles, _pairs, _after, _places)]
    tokens = np.array([int(group.sum()) for group in groups])
    return Rulebook(families=tuple(family for family in made if family is not None), context=context, tokens=tokens, fire_share=fire_share)


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well a rule predicts; zeros for no rule."""

    f1: float = 0.0
    precision: float = 0.0
    recall: float = 0.0
    f1_test: float | None = None
    f1_null: float = 0.0


@dataclass(frozen=True, kw_only=True)
class _Fires:
    """Positions where a feature fires; weights 1 for all documents, train and test documents."""

    positions: Array
    groups: Array
    """bool [3, n]."""
    counts: Array
    """int64 [3]."""

    @classmethod
    def of(cls, positions: Array, context: Context) -> "_Fires":
        split = context.split[positions]
        groups = np.stack([np.ones(len(split), dtype=bool), split == SPLITS.index("train"), split == SPLITS.index("test")])
        return cls(positions=positions, groups=groups, counts=groups.sum(1))

    @property
    def picking(self) -> int:
        """The group that rules are picked on: train, or all documents when it fires on no train document."""
        return 1 if self.held_out else 0

    @property
    def held_out(self) -> bool:
        """Whether the test documents have no part in picking the rule and its threshold."""
        return bool(self.counts[1])


class Counted(NamedTuple):
    """Keys, ascending, and how often each occurs."""

    keys: Array
    counts: Array


@dataclass(frozen=True, kw_only=True)
class _Picked:
    merit: float
    keys: Array


def _pick(family: Family, fires: _Fires) -> _Picked | None:
    """The set of keys with the best F1 on the train documents, less what its length and its family must earn; the commonest key first."""
    group = fires.picking
    keys = family.keys[fires.positions[fires.groups[group]]]
    keys = keys[keys >= 0]
    if not len(keys):
        return None
    found, hits = _counted(keys, n_keys=family.totals.shape[1])
    most = np.argsort(-hits, kind="stable")[:_CANDIDATES]
    found, hits = found[most], hits[most]
    tokens = family.totals[group][found]
    order = np.argsort(-hits / tokens, kind="stable")
    sets = [order[:size] for size in range(1, family.longest + 1)] + [np.array([0])]
    best = _Picked(merit=-1.0, keys=found[:0])
    for chosen in sets:
        f1 = 2 * hits[chosen].sum() / (fires.counts[group] + tokens[chosen].sum())
        merit = float(f1) - _PER_KEY * (len(chosen) - 1) - family.handicap
        if merit > best.merit:
            best = _Picked(merit=merit, keys=found[np.sort(chosen)])
    return best


def _counted(keys: Array, *, n_keys: int) -> Counted:
    """The keys that occur and how often: by counting where the keys are few, else by sorting."""
    if n_keys > len(keys):
        return Counted(*np.unique(keys, return_counts=True))
    counts = np.bincount(keys, minlength=n_keys)
    found = np.flatnonzero(counts)
    return Counted(found, counts[found])


def _score(family: Family, keys: Array, *, fires: _Fires, tokens: Array) -> Score:
    """Exact counts over the store. The null is exact too: with F and S fixed, random firings hit S·F/N times on average, and F1 is linear in hits."""
    held = np.isin(family.keys[fires.positions], keys)
    hits = (fires.groups & held).sum(1)
    size = family.totals[:, keys].sum(1)
    sums = fires.counts + size
    null = 2 * (size[2] * fires.counts[2] / max(1, tokens[2])) / sums[2] if sums[2] else 0.0
    return Score(
        f1=float(2 * hits[0] / sums[0]),
        precision=float(hits[0] / size[0]),
        recall=float(hits[0] / fires.counts[0]),
        f1_test=float(2 * hits[2] / sums[2]) if fires.counts[2] and fires.held_out else None,
        f1_null=float(null),
    )


def _label(text: str, kind: str, score: Score, *, threshold: float) -> RuleLabel:
    return RuleLabel(
        text=text,
        kind=kind,
        f1=score.f1,
        precision=score.precision,
        recall=score.recall,
        f1_test=score.f1_test,
        f1_null=score.f1_null,
        threshold=threshold,
        weak=kind != "dead" and _is_weak(score),
    )


def _is_weak(score: Score) -> bool:
    """A rule has to hold on the test documents too, where it was not picked."""
    return min(score.f1, score.f1 if score.f1_test is None else score.f1_test) < WEAK


def _weakness(score: Score) -> str:
    test = "" if score.f1_test is None or score.f1 < WEAK else f", {score.f1_test:.2f} on test documents"
    return f"weak rule, F1 {score.f1:.2f}{test}"


Groups = tuple[Array, Array, Array]


def _groups(context: Context) -> Groups:
    return context.keep, context.keep & (context.split == SPLITS.index("train")), context.keep & (context.split == SPLITS.index("test"))


def _family(
    kind: str, keys: Array, groups: Groups, *, describe: Describe, brief: Describe | None = None, longest: int, handicap: float = 0.0
) -> Family | None:
    n_keys = int(keys.max(initial=-1)) + 1
    if n_keys == 0:
        return None
    totals = np.stack([np.bincount(keys[group & (keys >= 0)], minlength=n_keys) for group in groups])
    return Family(kind=kind, keys=keys, totals=totals, longest=longest, handicap=handicap, describe=describe, brief=brief or describe)


def _tokens(context: Context, vocabulary: Vocabulary, groups: Groups) -> Family | None:
    def names(keys: Sequence[int]) -> str:
        return listed([quote(vocabulary.piece(key)) for key in keys])

    def describe(keys: Sequence[int]) -> str:
        return f"the token{'s' if len(keys) > 1 else ''} {names(keys)}"

    return _family("token", context.tokens.astype(np.int32), groups, describe=describe, brief=names, longest=4)


def _words(context: Context, vocabulary: Vocabulary, groups: Groups) -> Family | None:
    """Tokens that differ only in case or in the space before them are one word."""
    words = [vocabulary.piece(token).strip().casefold() for token in range(len(vocabulary))]
    known = {word: key for key, word in enumerate(sorted({word for word in words if any(map(str.isalpha, word))}))}
    names = list(known)
    keys = np.array([known.get(word, -1) for word in words], dtype=np.int32)[context.tokens]

    def describe(keys: Sequence[int]) -> str:
        return f"the word{'s' if len(keys) > 1 else ''} {listed([quote(names[key]) for key in keys])}, however written"

    def brief(keys: Sequence[int]) -> str:
        return listed([quote(names[key]) for key in keys])

    return _family("word", keys, groups, describe=describe, brief=brief, longest=4, handicap=0.005)


CLASSES: tuple[tuple[str, str], ...] = (
    ("line breaks", r"\s*\n\s*"),
    ("years", r"\s?(1[0-9]|20)\d\d"),
    ("numbers", r"\s?\d+"),
    ("opening brackets and quotes", r"\s*[(\[{“‘«]+\s*"),
    ("closing brackets and quotes", r"\s*[)\]}”’»]+[.,;:]*\s*"),
    ("commas", r","),
    ("ends of sentences", r"[.!?]+"),
    ("other punctuation", r"\s*[^\w\s]+\s*"),
    ("spaces", r"\s+"),
    ("words in capitals", r"\s?[A-Z]{2,}"),
    ("capitalised words", r"\s[A-Z][a-z’']*"),
    ("pieces inside words", r"[A-Za-z’']+"),
    ("lowercase words", r"\s[a-z’']+"),
    ("text in other alphabets", r"\s?[^\x00-\x7f]+"),
)
"""Classes of tokens, the first that matches whole."""


def class_of(piece: str) -> int:
    """Index into `CLASSES`, -1 for none."""
    return next((i for i, (_, pattern) in enumerate(CLASSES) if re.fullmatch(pattern, piece)), -1)


def _classes(context: Context, vocabulary: Vocabulary, groups: Groups) -> Family | None:
    keys = np.array([class_of(vocabulary.piece(token)) for token in range(len(vocabulary))], dtype=np.int32)[context.tokens]
    return _family("class", keys, groups, describe=lambda keys: listed([CLASSES[key][0] for key in keys]), longest=3, handicap=0.01)


def _topics(context: Context, vocabulary: Vocabulary, groups: Groups) -> Family | None:
    if sum(map(bool, context.labels)) < 2:
        return None
    blank = context.labels.index("") if "" in context.labels else -2
    keys = np.where(context.label == blank, -1, context.label)
    return _family("topic", keys, groups, describe=lambda keys: f"text about {listed([context.labels[key] for key in keys], 'or')}", longest=2)


def _roles(context: Context, vocabulary: Vocabulary, groups: Groups) -> Family | None:
    keys = context.role.astype(np.int32)
    if len(np.unique(keys[context.keep])) < 2:
        return None
    return _family("role", keys, groups, describe=lambda keys: f"turns of {listed([context.roles[key] for key in keys], 'or')}", longest=1)


def _pairs(context: Context, vocabulary: Vocabulary, groups: Groups) -> Family | None:
    inside = np.flatnonzero(context.keep & (context.offset > 0))
    joint = context.tokens[inside - 1].astype(np.int64) * len(vocabulary) + context.tokens[inside]
    known, codes = np.unique(joint, return_inverse=True)
    keys = np.full(len(context.tokens), -1, dtype=np.int32)
    keys[inside] = codes

    def describe(keys: Sequence[int]) -> str:
        pairs = [divmod(int(known[key]), len(vocabulary)) for key in keys]
        return listed([f"{quote(vocabulary.piece(first))} + {quote(vocabulary.piece(second))}" for first, second in pairs], "or")

    return _family("pair", keys, groups, describe=describe, longest=3, handicap=0.02)


def _after(context: Context, vocabulary: Vocabulary, groups: Groups) -> Family | None:
    keys = np.full(len(context.tokens), -1, dtype=np.int32)
    inside = np.flatnonzero(context.offset > 0)
    keys[inside] = context.tokens[inside - 1]

    def describe(keys: Sequence[int]) -> str:
        return f"what follows {listed([quote(vocabulary.piece(key)) for key in keys], 'or')}"

    return _family("after", keys, groups, describe=describe, longest=3, handicap=0.02)


_PLACES = (0, 4, 16, 64, 256)


def _places(context: Context, vocabulary: Vocabulary, groups: Groups) -> Family | None:
    keys = (np.searchsorted(_PLACES, context.offset, side="right") - 1).astype(np.int32)

    def describe(keys: Sequence[int]) -> str:
        key = keys[0]
        if key == 0:
            return f"the start of a text (its first {_PLACES[1]} tokens)"
        if key == len(_PLACES) - 1:
            return f"far into a text (after {_PLACES[key]} tokens)"
        return f"tokens {_PLACES[key] + 1} to {_PLACES[key + 1]} of a text"

    return _family("position", keys, groups, describe=describe, longest=1, handicap=0.02)


def listed(names: Sequence[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"
