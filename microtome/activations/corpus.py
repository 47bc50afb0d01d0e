"""The corpus: token ids stored once, with the document, turn, role and split that each of them belongs to.

| file | holds |
|---|---|
| `tokens.safetensors` | `tokens` int32 [n_tokens], `doc_start` int64 [n_docs + 1], `context_start` int64 [n_contexts + 1], `flags` uint8 [n_tokens] |
| `docs.parquet` | a row a document: `doc, title, label, source, split, sha, n_tokens` |
| `turns.parquet` | a row a turn: `doc, turn, role, start, end, content_start, content_end`; positions are global token positions |

Documents stand in the order of their source; contexts are consecutive pieces of one document, none overlaps another and none crosses a
document's border. Strings are not stored: the tokenizer decodes the ids when they are shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import safe_open

from microtome.artifacts import Artifact, Opened
from microtome.config import from_dict
from microtome.errors import ConfigError, DocumentNotFound, nearest

SPLITS = ("train", "dev", "test")
ROLE_NAMES = ("text", "system", "user", "assistant", "tool", "none")
"""What a token can belong to: plain text, a turn of that role, or no turn (a template's own words, BOS)."""
SPECIAL, TEMPLATE, POSITION = 1, 2, 4
"""Bits of `flags`: a special token or BOS; a token that the chat template added; one of the first `skip_first` of its context."""


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """Which texts become the corpus, how they are cut, and which tokens are left out of training and statistics."""

    source: str
    """A file (.txt, .md, .jsonl, .parquet, also .gz), a folder of them, a packaged name (`wiki`, `chitchat`, `recipes`) or `org/name` on the hub."""
    text_key: str | None = None
    """Which field or column holds the text or the messages; None takes `messages` where there is one, else `text`."""
    label_key: str | None = None
    """Which field or column holds the label (packaged sources bring theirs)."""
    max_documents: int | None = None
    """At most this many documents, picked by a seeded hash so that the mixture stays; stored in source order."""
    max_tokens: int | None = None
    """At most this many tokens, whole documents picked in the same hash order; a document longer than all of it is cut to it."""
    context_length: int = 256
    """Tokens a context at most: what the model sees at once."""
    bos: Literal["none", "document", "context"] = "none"
    """Where the tokenizer's BOS token is put: nowhere, before each document, or before each context."""
    skip_first: int = 1
    """Tokens at the start of each context that are left out as attention sinks; the model still sees them."""
    sink_norm_ratio: float | None = 10.0
    """Tokens whose activation norm exceeds this multiple of their shard's median are left out at harvest; None keeps them."""
    special: Literal["drop", "keep"] = "drop"
    """Whether special tokens (BOS included) are left out."""
    template: Literal["drop", "keep"] = "drop"
    """Whether the words that a chat template adds around the turns are left out."""
    split: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Shares of documents in train, dev and test; a document's place depends on its text and the seed alone."""
    invalid: Literal["error", "skip"] = "error"
    """A record that cannot be read (broken UTF-8 or JSON, no text, a turn without role) stops the build, or is skipped and counted."""
    seed: int = 0

    def __post_init__(self) -> None:
        _require(self.context_length >= 2, "context_length", got=self.context_length, wanted="2 or more")
        _require(0 <= self.skip_first < self.context_length, "skip_first", got=self.skip_first, wanted="0 … context_length - 1")
        _require(self.max_documents is None or self.max_documents >= 1, "max_documents", got=self.max_documents, wanted="1 or more, or null")
        _require(self.max_tokens is None or self.max_tokens >= 16, "max_tokens", got=self.max_tokens, wanted="16 or more, or null")
        _require(self.sink_norm_ratio is None or self.sink_norm_ratio > 1, "sink_norm_ratio", got=self.sink_norm_ratio, wanted="above 1, or null")
        fits = len(self.split) == 3 and min(self.split) >= 0 and abs(sum(self.split) - 1) < 1e-9
        _require(fits, "split", got=self.split, wanted="three shares that sum to 1")


def _require(holds: bool, field: str, *, got: object, wanted: str) -> None:
    if not holds:
        raise ConfigError(f"CorpusConfig.{field} has an unfit value.", got=got, wanted=wanted, do="Correct it.")


@dataclass(frozen=True, kw_only=True)
class Span:
    """A half-open range of global token positions."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Roles of a list of positions: `names[codes[i]]` is the role of the i-th."""

    codes: npt.NDArray[np.int8]
    names: tuple[str, ...] = ROLE_NAMES


@final
class Corpus(Opened):
    """A finished corpus, memory-mapped. Make one with `build_corpus`, open one with `Corpus.open(path)`."""

    kind = "corpus"

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact)
        self.config: CorpusConfig = from_dict(CorpusConfig, artifact.manifest.config)
        with safe_open(artifact.file("tokens.safetensors"), framework="pt") as arrays:
            self.tokens: npt.NDArray[np.int32] = arrays.get_tensor("tokens").numpy()
            """Token ids, [n_tokens]."""
            self.doc_start: npt.NDArray[np.int64] = arrays.get_tensor("doc_start").numpy()
            """First position of each document, and n_tokens at the end, [n_docs + 1]."""
            self.context_start: npt.NDArray[np.int64] = arrays.get_tensor("context_start").numpy()
            """First position of each context, and n_tokens at the end, [n_contexts + 1]."""
            self.flags: npt.NDArray[np.uint8] = arrays.get_tensor("flags").numpy()
            """Bits `SPECIAL`, `TEMPLATE`, `POSITION`, [n_tokens]."""

    @property
    def tokenizer_fingerprint(self) -> str:
        return self._artifact.manifest.inputs["tokenizer"]

    @property
    def n_tokens(self) -> int:
        return len(self.tokens)

    @property
    def n_docs(self) -> int:
        return len(self.doc_start) - 1

    @property
    def n_contexts(self) -> int:
        return len(self.context_start) - 1

    @cached_property
    def docs(self) -> pa.Table:  # pyright: ignore[reportUnknownParameterType]  # pyarrow ships no types
        """`doc, title, label, source, split, sha, n_tokens`, a row a document in order."""
        return pq.ParquetFile(self._artifact.file("docs.parquet")).read()

    @cached_property
    def turns(self) -> pa.Table:  # pyright: ignore[reportUnknownParameterType]  # pyarrow ships no types
        """`doc, turn, role, start, end, content_start, content_end`, in order of position; plain text is one turn of role `text`."""
        return pq.ParquetFile(self._artifact.file("turns.parquet")).read()

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The distinct labels of its documents, sorted; empty when it has none."""
        return tuple(sorted(label for label in set(self.docs["label"].to_pylist()) if label))

    @cached_property
    def splits(self) -> npt.NDArray[np.int8]:
        """The split of every document as an index into `SPLITS`, [n_docs]."""
        names = self.docs["split"].to_pylist()
        return np.array([SPLITS.index(name) for name in names], dtype=np.int8)

    @cached_property
    def keep(self) -> npt.NDArray[np.bool_]:
        """False where the declared policy (special, template, skip_first) leaves a token out; harvest adds the norm rule, [n_tokens]."""
        drop = POSITION | (SPECIAL if self.config.special == "drop" else 0) | (TEMPLATE if self.config.template == "drop" else 0)
        return (self.flags & drop) == 0

    def doc_of(self, positions: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The document of each global token position."""
        return np.searchsorted(self.doc_start, self._positions(positions), side="right").astype(np.int64) - 1

    def context_of(self, positions: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The context of each global token position."""
        return np.searchsorted(self.context_start, self._positions(positions), side="right").astype(np.int64) - 1

    def role_of(self, positions: npt.ArrayLike) -> Roles:
        """The role of each global token position; tokens between turns, and a turn's template words, count as `none`."""
        wanted = self._positions(positions)
        starts, ends, codes = self._role_spans
        turn = np.searchsorted(starts, wanted, side="right") - 1
        inside = (turn >= 0) & (wanted < ends[np.maximum(turn, 0)])
        return Roles(codes=np.where(inside, codes[np.maximum(turn, 0)], np.int8(ROLE_NAMES.index("none"))).astype(np.int8))

    def in_split(self, split: str) -> npt.NDArray[np.bool_]:
        """True for the tokens of a split's documents, [n_tokens]."""
        return np.repeat(self.splits == split_code(split), np.diff(self.doc_start))

    def split_of(self, docs: npt.ArrayLike) -> npt.NDArray[np.int8]:
        """The split of each document as an index into `SPLITS`."""
        return self.splits[np.asarray(docs, dtype=np.int64)]

    def span(self, doc: int) -> Span:
        """The token positions of a document; `DocumentNotFound` outside the corpus."""
        if not 0 <= doc < self.n_docs:
            raise DocumentNotFound(f"the corpus {self.path.name} has no document {doc}.", got=doc, wanted=f"0 … {self.n_docs - 1}", do="Correct it.")
        return Span(start=int(self.doc_start[doc]), end=int(self.doc_start[doc + 1]))

    def title(self, doc: int) -> str:
        """The document's title, or `document N` when its source gave none."""
        self.span(doc)
        return self.docs["title"][doc].as_py() or f"document {doc}"

    @cached_property
    def _role_spans(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int8]]:
        roles: Sequence[str] = self.turns["role"].to_pylist()
        starts = self.turns["content_start"].to_numpy().astype(np.int64)
        ends = self.turns["content_end"].to_numpy().astype(np.int64)
        return starts, ends, np.array([ROLE_NAMES.index(role) for role in roles], dtype=np.int8)

    def _positions(self, positions: npt.ArrayLike) -> npt.NDArray[np.int64]:
        wanted = np.asarray(positions, dtype=np.int64)
        assert wanted.size == 0 or (wanted.min() >= 0 and wanted.max() < self.n_tokens), "a position outside the corpus"
        return wanted


def split_code(split: str) -> int:
    """The index of a split's name in `SPLITS`; an unknown name raises `ConfigError`."""
    if split not in SPLITS:
        raise ConfigError(f'there is no split "{split}".', got=split, wanted=", ".join(SPLITS), do=nearest(split, SPLITS))
    return SPLITS.index(split)
