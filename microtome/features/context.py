"""What the statistics need to know of every token: its document, split, role, corpus label and place; computed once."""

from dataclasses import dataclass

import numpy as np

from microtome.activations import SPLITS, Corpus
from microtome.features.arrays import Array

_BEFORE, _AFTER = 6, 2
"""Two windows are near-duplicates when these many tokens before and after their peaks are the same (and the peaks themselves)."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """Arrays over all tokens of a corpus, and the names that their codes stand for."""

    tokens: Array
    keep: Array
    doc: Array
    """int32 [n_tokens]."""
    offset: Array
    """Tokens from the document's start, int32 [n_tokens]."""
    split: Array
    """Index into `SPLITS`, int8 [n_tokens]."""
    role: Array
    """Index into `roles`, int8 [n_tokens]."""
    label: Array
    """Index into `labels`, int32 [n_tokens]."""
    surroundings: Array
    """Hash of the tokens around each position, uint64 [n_tokens]."""
    roles: tuple[str, ...]
    labels: tuple[str, ...]
    """"" stands for documents without a label."""
    n_docs: int

    @property
    def breakdowns(self) -> dict[str, tuple[Array, tuple[str, ...]]]:
        """Codes and names by which counts are broken down."""
        return {"role": (self.role, self.roles), "corpus_label": (self.label, self.labels), "split": (self.split, SPLITS)}


def context_of(corpus: Corpus, *, keep: Array) -> Context:
    """Read a corpus into memory, about 30 bytes a token."""
    lengths = np.diff(corpus.doc_start)
    doc = np.repeat(np.arange(corpus.n_docs, dtype=np.int32), lengths)
    offset = (np.arange(corpus.n_tokens) - np.repeat(corpus.doc_start[:-1], lengths)).astype(np.int32)
    names = [label or "" for label in corpus.docs["label"].to_pylist()]
    labels = tuple(sorted(set(names)))
    by_doc = np.array([labels.index(name) for name in names], dtype=np.int32)
    roles = corpus.role_of(np.arange(corpus.n_tokens))
    return Context(
        tokens=np.asarray(corpus.tokens),
        keep=np.asarray(keep),
        doc=doc,
        offset=offset,
        split=np.asarray(corpus.splits)[doc],
        role=roles.codes,
        label=by_doc[doc],
        surroundings=surroundings(np.asarray(corpus.tokens), doc),
        roles=roles.names,
        labels=labels,
        n_docs=corpus.n_docs,
    )


def surroundings(tokens: Array, doc: Array) -> Array:
    """A 64-bit hash of the tokens around each position; positions beyond the document count as one further token id."""
    found = np.zeros(len(tokens), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for shift in range(-_BEFORE, _AFTER + 1):
            near = np.zeros(len(tokens), dtype=np.uint64)
            here = slice(max(0, -shift), len(tokens) - max(0, shift))
            there = slice(max(0, shift), len(tokens) - max(0, -shift))
            near[here] = np.where(doc[there] == doc[here], tokens[there].astype(np.uint64) + 1, 0)
            found = mix(found * np.uint64(0x9E3779B97F4A7C15) + near)
    return found


def mix(values: Array) -> Array:
    """Scramble 64-bit integers (the finaliser of splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))
