"""Shards made from a matrix in memory: for tests, benchmarks, and activations that were computed elsewhere."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from microtome.activations.build import Encoded, write_corpus
from microtome.activations.corpus import POSITION, Corpus, CorpusConfig
from microtome.activations.harvest import HarvestConfig, shard_ranges
from microtome.activations.shards import Shards, shard_name
from microtome.artifacts import Draft
from microtome.devices import pick_dtype
from microtome.errors import NotEnoughTokens
from microtome.models import Site, TurnSpan
from microtome.shapes import Float, Tensor


@dataclass(frozen=True, kw_only=True)
class FromMatrix:
    """Shards and the corpus they claim to be of."""

    shards: Shards
    corpus: Corpus


def shards_from_matrix(
    x: Float[Tensor, "n d"],
    out: str | Path,
    *,
    site: Site | None = None,
    doc_tokens: int = 128,
    shard_tokens: int = 65_536,
    dtype: str = "bfloat16",
    skip_first: int = 0,
    seed: int = 0,
) -> FromMatrix:
    """Store the rows of `x` as finished artifacts `out/corpus` and `out/shards` (site `L0.resid_post` unless given).

    Row i becomes token i; every `doc_tokens` rows are a document (labelled "even" or "odd" by its number) and one context, whose first
    `skip_first` rows are not kept. The token ids are i modulo 256 and mean nothing.
    """
    if len(x) == 0:
        raise NotEnoughTokens("the matrix has no rows.", got=tuple(x.shape), wanted="at least one row", do="Give some.")
    place = site or Site("resid_post", 0)
    config = CorpusConfig(source="matrix", context_length=max(2, doc_tokens), skip_first=min(skip_first, doc_tokens - 1), seed=seed)
    with Draft.open(Path(out) / "corpus", "corpus", config=config, inputs={"source": f"{len(x)} rows", "tokenizer": "none"}) as draft:
        documents = [_document(first, min(first + doc_tokens, len(x)), config) for first in range(0, len(x), doc_tokens)]
        corpus = Corpus(draft.finish(summary=write_corpus(draft, documents, config=config, skipped=Counter())))
    harvest = HarvestConfig(sites=(place,), dtype=dtype, shard_tokens=shard_tokens)
    with Draft.open(Path(out) / "shards", "shards", config=harvest, inputs={"corpus": corpus.id, "model": "none"}) as draft:
        ranges = shard_ranges(corpus, shard_tokens)
        for number, (start, end) in enumerate(ranges):
            keep = (corpus.flags[start:end] & POSITION) == 0
            with draft.place(shard_name(number)) as file:
                save_file({str(place): x[start:end].to(pick_dtype(dtype)).contiguous(), "keep": torch.from_numpy(keep)}, file)
        summary = {
            "model": "matrix",
            "quantised": None,
            "widths": {str(place): x.shape[1]},
            "dtype": dtype,
            "ranges": ranges,
            "tokens": len(x),
            "kept": int(((corpus.flags & POSITION) == 0).sum()),
        }
        return FromMatrix(shards=Shards(draft.finish(summary=summary)), corpus=corpus)


def _document(start: int, end: int, config: CorpusConfig) -> Encoded:
    length, number = end - start, start // config.context_length
    flags = np.zeros(length, dtype=np.uint8)
    flags[: config.skip_first] = POSITION
    return Encoded(
        tokens=(np.arange(start, end) % 256).astype(np.int32),
        flags=flags,
        context_ends=(length,),
        turns=(TurnSpan(turn=0, role="text", start=0, end=length, content_start=0, content_end=length),),
        sha=f"{number:016x}",
        title=f"rows {start} to {end - 1}",
        label="odd" if number % 2 else "even",
        source="matrix",
    )
