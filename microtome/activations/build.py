"""Building a corpus: documents are picked, tokenised, cut into contexts and given their split.

Texts longer than 20,000 characters are stored as several documents ("part 2 of 5"), cut at the end of a paragraph, line, sentence or word, so
that one huge file still has a train, dev and test part and no shard grows without bound. The cut is made before a blank, where byte-level BPE
cuts anyway; at a place without any blank, or with another kind of tokenizer, the tokens beside a cut may differ from those of the whole text.
"""

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from microtome.activations.corpus import POSITION, ROLE_NAMES, SPECIAL, SPLITS, TEMPLATE, Corpus, CorpusConfig
from microtome.activations.sources import Document, Source, Unreadable, open_source
from microtome.artifacts import Draft, existing
from microtome.config import canonical_json
from microtome.conversation import Conversation
from microtome.errors import ChatNotRendered, ConfigError, MicrotomeError, NotEnoughTokens
from microtome.models import Model, Tokenizer, TurnSpan, render
from microtome.progress import Progress, Throttled

PART_CHARACTERS = 20_000
MIN_TOKENS = 4
"""A document with fewer tokens is near-empty: skipped and counted."""
_BATCH = 64
"""Documents tokenised at once."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A document as tokens, before it has its place in the corpus."""

    tokens: npt.NDArray[np.int32]
    flags: npt.NDArray[np.uint8]
    context_ends: tuple[int, ...]
    turns: tuple[TurnSpan, ...]
    sha: str
    """Of its text: documents that are equal share it, and with it their split."""
    title: str = ""
    label: str = ""
    source: str = ""


def build_corpus(model_or_tokenizer: Model | Tokenizer, config: CorpusConfig, *, out: str | Path, progress: Progress | None = None) -> Corpus:
    """Make the corpus artifact at `out`, or open it when it is there already.

    Raises `CorpusNotFound`, `CorpusInvalid`, `NotEnoughTokens` when nothing is left, `ConfigError` when BOS is asked of a tokenizer without one
    or a context is longer than the model's, `ArtifactConflict` and `WorkspaceBusy`.
    """
    tokenizer = model_or_tokenizer.tokenizer if isinstance(model_or_tokenizer, Model) else model_or_tokenizer
    if isinstance(model_or_tokenizer, Model) and config.context_length > model_or_tokenizer.max_context:
        limit = f"at most {model_or_tokenizer.max_context}"
        raise ConfigError("the contexts are longer than the model's.", got=config.context_length, wanted=limit, do="Lower context_length.")
    if config.bos != "none" and tokenizer.bos is None:
        raise ConfigError("this tokenizer has no BOS token.", got=f'bos="{config.bos}"', wanted='bos="none"', do='Set bos to "none".')
    source = open_source(config)
    inputs = {"source": source.fingerprint(), "tokenizer": tokenizer.fingerprint}
    done = existing(out, "corpus", config=config, inputs=inputs)
    if done is not None:
        return Corpus(done)
    with Draft.open(out, "corpus", config=config, inputs=inputs) as draft:
        try:
            picked = _pick(source, tokenizer, config=config, progress=progress)
        except MicrotomeError:
            draft.abandon()  # so that the name is free for a corrected config
            raise
        return Corpus(draft.finish(summary=write_corpus(draft, picked.in_order(), config=config, skipped=picked.skipped)))


def encode_document(document: Document, tokens: list[int] | None, *, tokenizer: Tokenizer, config: CorpusConfig) -> Encoded:
    """Tokens, flags, contexts and turns of one document; `tokens` are those of a plain text, a conversation renders its own."""
    if isinstance(document.content, Conversation):
        text = canonical_json(document.content.to_messages())
        rendered = render(tokenizer, document.content)
        ids, turns = list(rendered.tokens), rendered.turns
    else:
        assert tokens is not None
        text = document.content
        ids = tokens
        turns = (TurnSpan(turn=0, role="text", start=0, end=len(ids), content_start=0, content_end=len(ids)),)
    if config.max_tokens is not None:
        bos_tokens = {"none": 0, "document": 1, "context": -(-config.max_tokens // config.context_length)}[config.bos]
        ids = ids[: config.max_tokens - bos_tokens]
    flags = np.full(len(ids), TEMPLATE, dtype=np.uint8)
    for turn in turns:
        flags[turn.content_start : turn.content_end] = 0
    flags[np.isin(ids, list(tokenizer.special_ids))] |= SPECIAL
    body = Encoded(
        tokens=np.array(ids, dtype=np.int32),
        flags=flags,
        context_ends=(),
        turns=turns,
        sha=hashlib.sha256(text.encode()).hexdigest()[:16],
        title=document.title,
        label=document.label,
        source=document.source,
    )
    return _with_contexts(body, tokenizer.bos, config)


def write_corpus(draft: Draft, documents: Iterable[Encoded], *, config: CorpusConfig, skipped: Counter[str]) -> dict[str, Any]:
    """Write the three files of a corpus and give its summary."""
    all_docs = list(documents)
    doc_start = np.cumsum([0, *(len(doc.tokens) for doc in all_docs)], dtype=np.int64)
    contexts = np.concatenate([np.zeros(1, np.int64), *(start + np.array(doc.context_ends) for start, doc in zip(doc_start, all_docs, strict=False))])
    tensors = {
        "tokens": torch.from_numpy(np.concatenate([doc.tokens for doc in all_docs])),
        "flags": torch.from_numpy(np.concatenate([doc.flags for doc in all_docs])),
        "doc_start": torch.from_numpy(doc_start),
        "context_start": torch.from_numpy(contexts.astype(np.int64)),
    }
    with draft.place("tokens.safetensors") as file:
        save_file(tensors, file)
    splits = [_split(doc.sha, config) for doc in all_docs]
    rows = {
        "doc": pa.array(range(len(all_docs)), pa.int64()),
        **{name: pa.array([getattr(doc, name) for doc in all_docs], pa.string()) for name in ("title", "label", "source")},
        "split": pa.array(splits, pa.string()),
        "sha": pa.array([doc.sha for doc in all_docs], pa.string()),
        "n_tokens": pa.array(np.diff(doc_start), pa.int64()),
    }
    with draft.place("docs.parquet") as file:
        pq.write_table(pa.table(rows), file)
    with draft.place("turns.parquet") as file:
        pq.write_table(_turn_table(all_docs, doc_start), file)
    return {
        "documents": len(all_docs),
        "tokens": int(doc_start[-1]),
        "contexts": len(contexts) - 1,
        "splits": {name: splits.count(name) for name in SPLITS},
        "skipped": dict(sorted(skipped.items())),
    }


def parts_of(text: str) -> list[str]:
    """Cut a text into pieces of at most `PART_CHARACTERS`, each break in the later half of a piece at the best place there is."""
    parts: list[str] = []
    start = 0
    while len(text) - start > PART_CHARACTERS:
        middle, limit = start + PART_CHARACTERS // 2, start + PART_CHARACTERS
        for mark, before in (("\n\n", 0), ("\n", 0), (". ", 1), (" ", 0)):
            found = text.rfind(mark, middle, limit)
            if found > 0:
                limit = found + before
                break
        parts.append(text[start:limit])
        start = limit
    return [*parts, text[start:]]


class _Picked:
    """The documents with the smallest hashes that fit `max_documents` and `max_tokens`, found in one pass.

    What a full sort would pick: going up the hashes, every document until the first that does not fit. Once one was pushed out, nothing with
    a larger hash can come in, so it is not even tokenised.
    """

    def __init__(self, config: CorpusConfig) -> None:
        self._config = config
        self._heap: list[tuple[int, int]] = []
        self._bound = (2**64, 0)
        self._kept: dict[int, Encoded] = {}
        self.skipped: Counter[str] = Counter()
        self.seen = 0
        self.n_tokens = 0

    def offer(self, documents: list[Document], tokenizer: Tokenizer) -> None:
        numbered = [(self.seen + i, document) for i, document in enumerate(documents)]
        self.seen += len(documents)
        near = [(place, document) for number, document in numbered if (place := (self._hash(document), number)) < self._bound]
        texts = [document.content for _, document in near if isinstance(document.content, str)]
        encoded = iter(tokenizer.encode_batch(texts) if texts else [])
        for place, document in near:
            tokens = next(encoded) if isinstance(document.content, str) else None
            try:
                ready = encode_document(document, tokens, tokenizer=tokenizer, config=self._config)
            except ChatNotRendered:
                if self._config.invalid == "error":
                    raise
                self.skipped["not renderable"] += 1
                continue
            self._add(place, ready)

    def in_order(self) -> Iterator[Encoded]:
        """The picked documents in the order of their source."""
        for number in sorted(self._kept):
            yield self._kept[number]

    def _add(self, place: tuple[int, int], document: Encoded) -> None:
        if np.count_nonzero((document.flags & SPECIAL) == 0) < MIN_TOKENS:
            self.skipped["near-empty"] += 1
            return
        if place >= self._bound:
            return
        heapq.heappush(self._heap, (-place[0], -place[1]))
        self._kept[place[1]] = document
        self.n_tokens += len(document.tokens)
        most, longest = self._config.max_documents or 2**62, self._config.max_tokens or 2**62
        while len(self._heap) > most or self.n_tokens > longest:
            key, number = heapq.heappop(self._heap)
            self._bound = (-key, -number)
            self.n_tokens -= len(self._kept.pop(-number).tokens)

    def _hash(self, document: Document) -> int:
        if self._config.max_documents is None and self._config.max_tokens is None:
            return 0
        return _hash64("pick", self._config.seed, _text_of(document))


def _pick(source: Source, tokenizer: Tokenizer, *, config: CorpusConfig, progress: Progress | None) -> _Picked:
    picked = _Picked(config)
    report = Throttled(progress)
    documents = _readable(source.documents(progress=progress), config, picked.skipped)
    total = source.count()
    while batch := list(islice(documents, _BATCH)):
        picked.offer(batch, tokenizer)
        report("tokenise", picked.seen, max(total or 0, picked.seen + 1), unit="documents", note=f"{picked.n_tokens:,} tokens")
    report("tokenise", picked.seen, picked.seen, unit="documents", note=f"{picked.n_tokens:,} tokens")
    if not picked.n_tokens:
        reasons = ", ".join(f"{n} × {reason}" for reason, n in sorted(picked.skipped.items())) or "no documents at all"
        do = "Check the source and its text_key."
        raise NotEnoughTokens(f'the corpus "{config.source}" is empty.', got=reasons, wanted="at least one document with text", do=do)
    return picked


def _readable(records: Iterable[Document | Unreadable], config: CorpusConfig, skipped: Counter[str]) -> Iterator[Document]:
    """Documents, long texts as their parts; unreadable ones stop or are counted."""
    for record in records:
        if isinstance(record, Unreadable):
            if config.invalid == "error" and record.reason != "file type":
                raise record.error
            skipped[record.reason] += 1
        elif isinstance(record.content, str):
            parts = parts_of(record.content)
            for number, part in enumerate(parts, 1):
                title = f"{record.title} (part {number} of {len(parts)})".strip() if len(parts) > 1 else record.title
                yield replace(record, content=part, title=title)
        else:
            yield record


def _with_contexts(body: Encoded, bos: int | None, config: CorpusConfig) -> Encoded:
    """Put BOS where the policy wants it, cut into contexts, mark the skipped positions, and move the turns accordingly."""
    lost = int(config.bos != "none" and len(body.tokens) > 0 and body.tokens[0] == bos)
    tokens, flags = body.tokens[lost:], body.flags[lost:]
    room = config.context_length - (config.bos == "context")
    first = config.context_length - (config.bos != "none")
    starts = np.array([0, *range(first, len(tokens), room)][: len(tokens)], dtype=np.int64)
    headed = starts if config.bos == "context" else starts[: int(config.bos == "document")]
    added = np.searchsorted(headed, np.arange(len(tokens)), side="right")
    place = np.arange(len(tokens)) + added
    cut_tokens = np.insert(tokens, headed, bos or 0).astype(np.int32)
    cut_flags = np.insert(flags, headed, SPECIAL).astype(np.uint8)
    context_starts = place[starts] - np.isin(starts, headed)
    for start in context_starts:
        cut_flags[start : start + config.skip_first] |= POSITION

    def moved(position: int) -> int:
        old = min(max(position - lost, 0), len(tokens))
        return int(place[old - 1]) + 1 if old > 0 else 0

    def from_to(start: int, end: int) -> tuple[int, int]:
        low, high = max(start - lost, 0), min(end - lost, len(tokens))
        return (int(place[low]), moved(end)) if low < high else (moved(start), moved(start))

    turns: list[TurnSpan] = []
    for turn in body.turns:
        (start, end), (content_start, content_end) = from_to(turn.start, turn.end), from_to(turn.content_start, turn.content_end)
        if end > start:
            turns.append(replace(turn, start=start, end=end, content_start=content_start, content_end=content_end))
    ends = (*context_starts[1:].tolist(), len(cut_tokens)) if len(tokens) else ()
    return replace(body, tokens=cut_tokens, flags=cut_flags, context_ends=tuple(ends), turns=tuple(turns))


def _turn_table(documents: list[Encoded], doc_start: npt.NDArray[np.int64]) -> pa.Table:  # pyright: ignore[reportUnknownParameterType]  # pyarrow ships no types
    rows = [(doc, span.turn, span) for doc, document in enumerate(documents) for span in document.turns]
    assert all(span.role in ROLE_NAMES for _, _, span in rows)
    places = ("start", "end", "content_start", "content_end")
    return pa.table(
        {
            "doc": pa.array([doc for doc, _, _ in rows], pa.int64()),
            "turn": pa.array([turn for _, turn, _ in rows], pa.int32()),
            "role": pa.array([span.role for _, _, span in rows], pa.string()),
            **{name: pa.array([int(doc_start[doc]) + getattr(span, name) for doc, _, span in rows], pa.int64()) for name in places},
        }
    )


def _split(sha: str, config: CorpusConfig) -> str:
    share = _hash64("split", config.seed, sha) / 2**64
    train, dev, _ = config.split
    return "train" if share < train else "dev" if share < train + dev else "test"


def _text_of(document: Document) -> str:
    content = document.content
    return content if isinstance(content, str) else canonical_json(content.to_messages())


def _hash64(purpose: str, seed: int, text: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{purpose}\0{seed}\0{text}".encode()).digest()[:8], "big")
