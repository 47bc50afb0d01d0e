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
from microtome.features.blocks import Block, places
from microtome.features.context import Context
from microtome.features.records import RuleLabel
from microtome.features.text import Vocabulary, decoded, quote

WEAK = 0.3
"""Below this F1, over the store or over its test documents, the label says that its rule is weak."""
_CANDIDATES = 8
_NO_KEY = -2
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

    def labels(self, block: Block) -> list[RuleLabel]:
        """The best rule for each feature; a feature without a firing gets `never fires`."""
        thresholds = self._thresholds(block)
        strong = block.values > thresholds[block.group]
        fires = _Fires.of(block.positions[strong], block.group[strong], n=len(block), context=self.context)
        merit, family_of = np.full(len(block), -np.inf), np.full(len(block), -1)
        keys = np.full((len(block), _CANDIDATES), _NO_KEY)
        for number, family in enumerate(self.families):
            picked = _pick(family, fires)
            better = picked.merit > merit
            merit[better], family_of[better], keys[better] = picked.merit[better], number, picked.keys[better]
        scores = self._scores(fires, family_of, keys)
        labels: list[RuleLabel] = []
        for i, (count, number, threshold) in enumerate(zip(block.counts.tolist(), family_of.tolist(), thresholds.tolist(), strict=True)):
            if not count:
                labels.append(_label("never fires", "dead", Score(), threshold=0.0))
            elif number < 0:
                labels.append(_label(f"fires on {count} tokens that share nothing simple", "none", Score(), threshold=threshold))
            else:
                chosen = [key for key in keys[i].tolist() if key != _NO_KEY]
                labels.append(_named(self.families[number], chosen, scores[i], threshold=threshold))
        return labels

    def _thresholds(self, block: Block) -> Array:
        """The activation that each feature has to exceed, float64; 0 for a dead one."""
        train = self.context.split[block.positions] == SPLITS.index("train")
        seen = train | (np.bincount(block.group[train], minlength=len(block)) == 0)[block.group]
        order = block.strongest_first
        order = order[seen[order]]
        counts = np.bincount(block.group[seen], minlength=len(block))
        ends, alive = np.cumsum(counts), np.flatnonzero(counts)
        found = np.zeros(len(block))
        weaker = np.floor((counts[alive] - 1) * 0.99).astype(np.int64)  # the quantile's lower neighbour
        found[alive] = self.fire_share * block.values[order[ends[alive] - 1 - weaker]].astype(np.float64)
        return found

    def _scores(self, fires: "_Fires", family_of: Array, keys: Array) -> "list[Score]":
        """Exact counts over the store. The null is exact too: with F and S fixed, random firings hit S·F/N times on average; F1 is linear in hits."""
        hits, sizes = np.zeros_like(fires.counts), np.zeros_like(fires.counts)
        for number, family in enumerate(self.families):
            mine = np.flatnonzero(family_of == number)
            its = np.flatnonzero((family_of == number)[fires.group])
            its = its[(keys[fires.group[its]] == family.keys[fires.positions[its]][:, None]).any(1)]
            hits += np.stack([np.bincount(fires.group[its[part[its]]], minlength=len(keys)) for part in fires.parts])
            sizes[:, mine] = np.where(keys[mine] == _NO_KEY, 0, family.totals[:, np.maximum(keys[mine], 0)]).sum(2)
        sums = fires.counts + sizes
        both, of_rule, of_fires = (np.maximum(each, 1) for each in (sums, sizes, fires.counts))
        f1, f1_test, precision, recall = 2 * hits[0] / both[0], 2 * hits[2] / both[2], hits[0] / of_rule[0], hits[0] / of_fires[0]
        null = 2 * (sizes[2] * fires.counts[2] / max(1, self.tokens[2])) / both[2]
        tested = (fires.counts[2] > 0) & fires.held_out
        columns = (each.tolist() for each in (f1, precision, recall, f1_test, null, tested))
        return [
            Score(f1=f1, precision=precision, recall=recall, f1_test=test if is_tested else None, f1_null=null)
            for f1, precision, recall, test, null, is_tested in zip(*columns, strict=True)
        ]


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
    """Where features fire, feature by feature."""

    positions: Array
    group: Array
    """Of each, its feature's place in the block."""
    parts: Array
    """Whether it is in all documents, in train, in test documents: bool [3, n]."""
    counts: Array
    """How many are, of each feature: int64 [3, features]."""

    @classmethod
    def of(cls, positions: Array, group: Array, *, n: int, context: Context) -> "_Fires":
        split = context.split[positions]
        parts = np.stack([np.ones(len(split), dtype=bool), split == SPLITS.index("train"), split == SPLITS.index("test")])
        return cls(positions=positions, group=group, parts=parts, counts=np.stack([np.bincount(group[part], minlength=n) for part in parts]))

    @property
    def picking(self) -> Array:
        """The part that a feature's rule is picked on: 1, train; or 0, all documents, when it fires on no train document."""
        return self.held_out.astype(np.int64)

    @property
    def held_out(self) -> Array:
        """Whether the test documents have no part in picking a feature's rule and its threshold."""
        return self.counts[1] > 0


class Counted(NamedTuple):
    """Keys, ascending, and how often each occurs."""

    keys: Array
    counts: Array


@dataclass(frozen=True, kw_only=True)
class _Picked:
    """The best set of a family for each feature."""

    merit: Array
    """−∞ where the family says nothing of it."""
    keys: Array
    """[features, candidates], the commonest first, `_NO_KEY` behind the last."""


def _pick(family: Family, fires: _Fires) -> _Picked:
    """The set of keys with the best F1 on the train documents, less what its length and its family must earn."""
    table = _commonest(family, fires)
    n_fires = np.take_along_axis(fires.counts, fires.picking[None], 0)[0][:, None]
    there = table.keys != _NO_KEY
    order = np.argsort(np.where(there, -table.hits / np.maximum(table.tokens, 1), np.inf), axis=1, kind="stable")[:, : family.longest]
    hits, tokens, usable = (np.take_along_axis(each, order, 1) for each in (table.hits, table.tokens, there))
    longer = np.arange(family.longest)
    merit = 2 * np.cumsum(hits, 1) / np.maximum(n_fires + np.cumsum(tokens, 1), 1) - _PER_KEY * longer - family.handicap
    alone = 2 * table.hits[:, :1] / np.maximum(n_fires + table.tokens[:, :1], 1) - family.handicap
    merit = np.where(np.concatenate([usable, there[:, :1]], 1), np.concatenate([merit, alone], 1), -np.inf)
    best = merit.argmax(1)[:, None]
    chosen = np.zeros_like(there)
    np.put_along_axis(chosen, order, (longer <= best) & (best < family.longest), 1)
    chosen[:, :1] |= best == family.longest
    in_front = np.argsort(~chosen, axis=1, kind="stable")
    keys = np.take_along_axis(np.where(chosen, table.keys, _NO_KEY), in_front, 1)
    return _Picked(merit=np.take_along_axis(merit, best, 1)[:, 0], keys=keys)


class _Common(NamedTuple):
    """The keys that each feature fires on most in the part that its rule is picked on, [features, candidates]; behind the last `_NO_KEY`."""

    keys: Array
    hits: Array
    tokens: Array
    """Kept tokens of that part that have the key."""


def _commonest(family: Family, fires: _Fires) -> _Common:
    picking, n = fires.picking, len(fires.counts[0])
    picked = np.flatnonzero(fires.parts[1] | ~fires.held_out[fires.group])
    keys = family.keys[fires.positions[picked]]
    picked, keys = picked[keys >= 0], keys[keys >= 0]
    n_keys = family.totals.shape[1]
    found = _counted(fires.group[picked] * n_keys + keys, n_keys=n * n_keys)
    of, key = np.divmod(found.keys, n_keys)
    order = np.lexsort((-found.counts, of))
    place = places(of[order])
    order, place = order[place < _CANDIDATES], place[place < _CANDIDATES]
    of, key = of[order], key[order]
    table = _Common(np.full((n, _CANDIDATES), _NO_KEY), *np.zeros((2, n, _CANDIDATES), dtype=np.int64))
    table.keys[of, place], table.hits[of, place], table.tokens[of, place] = key, found.counts[order], family.totals[picking[of], key]
    return table


def _counted(keys: Array, *, n_keys: int) -> Counted:
    """The keys that occur and how often: by counting where the keys are few, else by sorting."""
    if n_keys > 4 * len(keys):
        return Counted(*np.unique(keys, return_counts=True))
    counts = np.bincount(keys, minlength=n_keys)
    found = np.flatnonzero(counts)
    return Counted(found, counts[found])


def _named(family: Family, keys: Sequence[int], score: Score, *, threshold: float) -> RuleLabel:
    text = f"often {family.brief(keys)} ({_weakness(score)})" if _is_weak(score) else family.describe(keys)
    return _label(text, family.kind, score, threshold=threshold)


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


def _occurring(context: Context) -> Array:
    """The token ids of the store, ascending."""
    return np.flatnonzero(np.bincount(context.tokens))


def _by_token(context: Context, tokens: Array, keys: Sequence[int]) -> Array:
    """The key of every token of the store, from one for each id that occurs."""
    table = np.full(int(tokens.max(initial=-1)) + 1, -1, dtype=np.int32)
    table[tokens] = keys
    return table[context.tokens]


def _words(context: Context, vocabulary: Vocabulary, groups: Groups) -> Family | None:
    """Tokens that differ only in case or in the space before them are one word; parts of a character are none."""
    tokens = _occurring(context)
    words = [(decoded(vocabulary.bytes(token)) or "").strip().casefold() for token in tokens.tolist()]
    known = {word: key for key, word in enumerate(sorted({word for word in words if any(map(str.isalpha, word))}))}
    names = list(known)
    keys = _by_token(context, tokens, [known.get(word, -1) for word in words])

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
    tokens = _occurring(context)
    keys = _by_token(context, tokens, [class_of(vocabulary.piece(token)) for token in tokens.tolist()])
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
