"""Pooling: shards → one row for each turn, each span, or the last token of each turn.

The row of a turn or span is the mean over its tokens that count, m = (1/|T|) Σ_{t∈T} x_t, as for the turn-averaged sparse autoencoders of
arXiv 2606.28548. Tokens count when the shards keep them and they are neither special nor the chat template's own words, whatever the corpus
keeps for training by token; how many did not count is in the summary.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from microtome.activations.corpus import POSITION, ROLE_NAMES, SPECIAL, TEMPLATE, Corpus
from microtome.activations.pooled import Pooled, rows_name
from microtome.activations.rows import check_fit, check_roles
from microtome.activations.shards import Shards
from microtome.activations.shuffle import concat_ranges
from microtome.artifacts import Draft, existing
from microtome.errors import ConfigError, NotEnoughTokens
from microtome.models import Site, Tokenizer
from microtome.progress import Progress, Throttled
from microtome.shapes import Float, Tensor


@dataclass(frozen=True, kw_only=True)
class PoolingConfig:
    """What becomes one row."""

    over: Literal["turn", "span", "last"] = "turn"
    """The mean of each turn, the mean of each span given to `pool`, or the last token of each turn that counts."""
    roles: tuple[str, ...] = ()
    """Only turns of these roles (for spans: of the turn that holds their first token); empty takes all. Plain text is one turn of role `text`."""
    sites: tuple[Site, ...] = ()
    """Which of the shards' sites; empty takes all."""

    def __post_init__(self) -> None:
        if self.over not in ("turn", "span", "last"):
            raise ConfigError("PoolingConfig.over has an unfit value.", got=self.over, wanted="turn, span or last", do="Correct it.")
        check_roles(self.roles)


@dataclass(frozen=True, kw_only=True)
class _Units:
    """Disjoint runs of tokens in order of position, each to become a row."""

    doc: npt.NDArray[np.int64]
    turn: npt.NDArray[np.int64]
    role: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    outer_start: npt.NDArray[np.int64]
    """With the template's words before and after."""
    outer_end: npt.NDArray[np.int64]

    def only(self, chosen: npt.NDArray[np.bool_]) -> "_Units":
        return _Units(**{name: getattr(self, name)[chosen] for name in self.__dataclass_fields__})


def pool(
    shards: Shards,
    corpus: Corpus,
    *,
    config: PoolingConfig,
    out: str | Path,
    spans: npt.NDArray[np.int64] | None = None,
    progress: Progress | None = None,
) -> Pooled:
    """Make the pooled artifact at `out`, or open it when it is there already; resumes what was interrupted.

    `spans` [n, 2] are half-open ranges of global token positions for `over="span"`: in order, disjoint and each inside one document, as
    `window_spans` and `sentence_spans` make them. The summary says how many `turns` (or spans) there were and how many of them were `empty`,
    how many `tokens` count, and by reason how many are `excluded`: `special`, `template`, `position` (the first of a context) or `sink`.
    Raises `ShapeMismatch`, `SiteNotFound`, `ConfigError` for unfit spans, `NotEnoughTokens` when no row is left.
    """
    check_fit(shards, corpus)
    if (spans is not None) != (config.over == "span"):
        got = f"over={config.over!r} {'with' if spans is not None else 'without'} spans"
        do = "Give spans with over='span' alone; window_spans and sentence_spans make some."
        raise ConfigError("pooling over spans needs spans.", got=got, wanted="spans for over='span', else none", do=do)
    sites = tuple(map(shards.site, config.sites or shards.sites))
    inputs = {"corpus": corpus.id, "shards": shards.id}
    if spans is not None:
        inputs["spans"] = hashlib.sha256(np.ascontiguousarray(spans, dtype=np.int64).tobytes()).hexdigest()[:16]
    done = existing(out, "pooled", config=config, inputs=inputs)
    if done is not None:
        return Pooled(done)
    units = _turns(corpus) if spans is None else _spans(corpus, spans)
    if config.roles:
        units = units.only(np.isin(units.role, [ROLE_NAMES.index(role) for role in config.roles]))
    counts = counted_tokens(shards, corpus)
    tokens = _count(counts, units.start, units.end)
    rows = units.only(tokens > 0)
    if len(rows.doc) == 0:
        do = "Take other roles, or another corpus."
        raise NotEnoughTokens("there is no turn or span with a token that counts.", got=0, wanted="at least one row", do=do)
    report = Throttled(progress)
    with Draft.open(out, "pooled", config=config, inputs=inputs) as draft:
        for number in range(len(shards.ranges)):
            if not draft.has(rows_name(number)):
                with draft.place(rows_name(number)) as file:
                    save_file(_part(shards, number, sites=sites, rows=rows, counts=counts, last=config.over == "last"), file)
            report("pool", shards.ranges[number][1], shards.n_tokens, unit="tokens")
        with draft.place("rows.parquet") as file:
            pq.write_table(_table(rows, tokens[tokens > 0]), file)
        summary = {
            "sites": [str(site) for site in sites],
            "widths": {str(site): shards.width(site) for site in sites},
            "ranges": [[int(place) for place in np.searchsorted(rows.start, span)] for span in shards.ranges],
            "rows": len(rows.doc),
            "roles": {name: int((rows.role == code).sum()) for code, name in enumerate(ROLE_NAMES) if (rows.role == code).any()},
            "turns" if spans is None else "spans": len(units.doc),
            "empty": int((tokens == 0).sum()),
            **_excluded(units, corpus, counts),
        }
        return Pooled(draft.finish(summary=summary))


def counted_tokens(shards: Shards, corpus: Corpus) -> npt.NDArray[np.bool_]:
    """True for tokens that are averaged: kept by the shards, not special, not of the template, [n_tokens]."""
    return shards.keep & ((corpus.flags & (SPECIAL | TEMPLATE)) == 0)


def window_spans(corpus: Corpus, *, tokens: int) -> npt.NDArray[np.int64]:
    """Every turn's content cut into windows of `tokens` tokens, the last one shorter, [n, 2]."""
    if tokens < 1:
        raise ConfigError("a window holds at least one token.", got=tokens, wanted="1 or more", do="Correct tokens.")
    start, end = (corpus.turns[name].to_numpy().astype(np.int64) for name in ("content_start", "content_end"))
    lengths = -(-(end - start) // tokens)
    number = concat_ranges(np.zeros_like(lengths), lengths)
    first = np.repeat(start, lengths) + number * tokens
    return np.stack([first, np.minimum(first + tokens, np.repeat(end, lengths))], axis=1)


def sentence_spans(corpus: Corpus, tokenizer: Tokenizer) -> npt.NDArray[np.int64]:
    """Every turn's content cut into sentences, by rule: behind a token with a line break, behind one that ends in `。！？`, and behind one that ends
    in `.!?…` (closing quotes and brackets may follow) where the next token begins with white space, [n, 2]. Abbreviations are not known to it.
    """
    ids, which = np.unique(corpus.tokens, return_inverse=True)
    texts = [tokenizer.token_bytes(int(token)).decode("utf-8", errors="replace") for token in ids]
    bare = [text.rstrip().rstrip("\"'”’»)]") for text in texts]
    always = np.array(["\n" in text or bare[i].endswith(("。", "！", "？")) for i, text in enumerate(texts)])[which]
    maybe = np.array([text.endswith((".", "!", "?", "…")) for text in bare])[which]
    closer = np.array([bool(text.strip()) and not bare[i] for i, text in enumerate(texts)])[which]
    maybe |= closer & np.append(np.False_, maybe[:-1])
    blank = np.array([text[:1].isspace() for text in texts])[which]
    ends = always | (maybe & np.append((blank & ~always)[1:], np.True_))  # a line break of its own belongs to the sentence before it
    spans: list[tuple[int, int]] = []
    content = (corpus.turns[name].to_pylist() for name in ("content_start", "content_end"))
    for start, end in zip(*content, strict=True):
        cuts = [start, *(start + 1 + np.flatnonzero(ends[start : max(start, end - 1)])).tolist(), end]
        spans += [(low, high) for low, high in pairwise(cuts) if low < high]
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def _turns(corpus: Corpus) -> _Units:
    table = corpus.turns
    names = {"doc": "doc", "turn": "turn", "start": "content_start", "end": "content_end", "outer_start": "start", "outer_end": "end"}
    columns = {field: table[name].to_numpy().astype(np.int64) for field, name in names.items()}
    return _Units(role=np.array([ROLE_NAMES.index(role) for role in table["role"].to_pylist()], dtype=np.int64), **columns)


def _spans(corpus: Corpus, spans: npt.NDArray[np.int64]) -> _Units:
    """Spans with the turn in whose content they begin."""
    start, end = spans.astype(np.int64).reshape(-1, 2).T
    inside = len(start) > 0 and bool(start[0] >= 0 and end.max() <= corpus.n_tokens and (start < end).all() and (end[:-1] <= start[1:]).all())
    if not inside or bool((corpus.doc_of(start) != corpus.doc_of(end - 1)).any()):
        wanted = "one or more half-open ranges, in order, disjoint, each inside a document"
        raise ConfigError("these spans do not fit the corpus.", got=f"{len(start)} spans", wanted=wanted, do="Correct them.")
    turns = _turns(corpus)
    at = np.searchsorted(turns.start, start, side="right") - 1
    held = (at >= 0) & (start < turns.end[np.maximum(at, 0)])
    turn, role = np.where(held, turns.turn[at], -1), np.where(held, turns.role[at], ROLE_NAMES.index("none"))
    return _Units(doc=corpus.doc_of(start), turn=turn, role=role, start=start, end=end, outer_start=start, outer_end=end)


def _part(
    shards: Shards, number: int, *, sites: tuple[Site, ...], rows: _Units, counts: npt.NDArray[np.bool_], last: bool
) -> dict[str, Float[Tensor, "n d"]]:
    """The rows whose tokens are in one shard. (A shard ends with a document, so no turn is in two.)"""
    begin, stop = shards.ranges[number]
    here = slice(*np.searchsorted(rows.start, (begin, stop)))
    start, end = rows.start[here], rows.end[here]
    if len(start) == 0:
        return {str(site): torch.empty(0, shards.width(site)) for site in sites}
    inside = concat_ranges(start, end - start)
    inside = inside[counts[inside]] - begin
    after = np.cumsum(_count(counts, start, end))
    if last:
        chosen = torch.from_numpy(inside[after - 1])
        return {str(site): shards.block(number, site).x[chosen].float() for site in sites}
    chosen, offsets = torch.from_numpy(inside), torch.from_numpy(np.append(0, after[:-1]))
    return {str(site): F.embedding_bag(chosen, shards.block(number, site).x.float(), offsets, mode="mean") for site in sites}


def _count(mask: npt.NDArray[np.bool_], start: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many of `mask` are True from `start` to `end`."""
    before = np.append(0, np.cumsum(mask))
    return (before[end] - before[start]).astype(np.int64)


def _excluded(units: _Units, corpus: Corpus, counts: npt.NDArray[np.bool_]) -> Mapping[str, Any]:
    """Tokens of the turns or spans, with their template words: how many count, and how many do not for which reason (the first that holds)."""
    places = concat_ranges(units.outer_start, units.outer_end - units.outer_start)
    out, flags = ~counts[places], corpus.flags[places]
    excluded: dict[str, int] = {}
    for reason, bit in (("special", SPECIAL), ("template", TEMPLATE), ("position", POSITION)):
        hit = out & ((flags & bit) != 0)
        excluded[reason] = int(hit.sum())
        out &= ~hit
    return {"tokens": int(counts[places].sum()), "excluded": {**excluded, "sink": int(out.sum())}}


def _table(rows: _Units, tokens: npt.NDArray[np.int64]) -> pa.Table:  # pyright: ignore[reportUnknownParameterType]  # pyarrow ships no types
    return pa.table(
        {
            "doc": pa.array(rows.doc, pa.int64()),
            "turn": pa.array(rows.turn, pa.int32()),
            "role": pa.array([ROLE_NAMES[code] for code in rows.role], pa.string()),
            "start": pa.array(rows.start, pa.int64()),
            "end": pa.array(rows.end, pa.int64()),
            "tokens": pa.array(tokens, pa.int64()),
        }
    )
