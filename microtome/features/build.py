"""Building an index: one streaming pass over the shards, then everything that can be counted from the postings."""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from microtome.activations import Corpus, Shards
from microtome.artifacts import Artifact, Draft, Workspace, existing
from microtome.config import to_dict
from microtome.dictionaries import Dictionary, load_dictionary
from microtome.errors import ShapeMismatch, TokenOutOfRange
from microtome.features.config import IndexConfig
from microtome.features.context import Context, context_of
from microtome.features.index import FeatureIndex
from microtome.features.output import Block, direct_logits, neighbours
from microtome.features.postings import INVERTED, Postings, forward_name, write_forward, write_inverted
from microtome.features.rows import FILE, write_rows
from microtome.features.rules import Rulebook, rulebook
from microtome.features.statistics import Totals, breakdown_counts, example_columns, histogram, moments, token_profile, totals_of
from microtome.features.store import FACTS, VOCABULARY
from microtome.features.text import Vocabulary
from microtome.models import Model
from microtome.progress import Progress, Throttled

_THREADS = min(4, os.cpu_count() or 1)
"""Features are counted by several threads (numpy sorts without the interpreter's lock); the result does not depend on how many."""
QUALITY = "quality.json"
"""File of a dictionary artifact with its held-out figures."""


def build_index(
    dictionary: str | Path,
    shards: Shards,
    *,
    corpus: Corpus,
    model: Model,
    out: str | Path,
    config: IndexConfig = IndexConfig(),  # noqa: B008  frozen
    progress: Progress | None = None,
    workspace: Workspace | None = None,
) -> FeatureIndex:
    """Make the index artifact at `out` of a dictionary artifact over the activations it reads, or open it when it is there already.

    The shards are encoded one by one, each into its own file, so an interrupted build resumes behind the last finished shard; the result is
    byte-identical to that of an uninterrupted one. The model gives the unembedding and the vocabulary; it is not run. `workspace` (by default
    the one that `out` lies in) holds the catalogue that receives the rule labels.

    Raises `ShapeMismatch` when the four do not belong together, `SiteNotFound` when the shards lack the dictionary's site,
    `ActivationsNotFinite`, `ArtifactConflict`, `WorkspaceBusy` and `DiskFull`.
    """
    source = Artifact.open(dictionary, "dictionary")
    weights = load_dictionary(dictionary)
    _check_fit(weights, shards, corpus=corpus, model=model)
    inputs = {"corpus": corpus.id, "shards": shards.id, "dictionary": source.id, "model": model.fingerprint}
    if existing(out, "index", config=config, inputs=inputs) is None:
        tell = Throttled(progress)
        with Draft.open(out, "index", config=config, inputs=inputs) as draft:
            facts = _facts(weights, shards, model=model, source=source)
            _write_postings(draft, weights, shards, config=config, tell=tell)
            vocabulary = Vocabulary.of(_bytes_or_nothing(model), n_vocab=len(model.tokenizer))
            with draft.place(VOCABULARY) as file:
                vocabulary.write(file)
            postings = _postings(draft, shards)
            context = context_of(corpus, keep=postings.keep())
            totals = totals_of(context, n_vocab=max(model.n_vocab, len(vocabulary), int(context.tokens.max(initial=0)) + 1))
            rules = rulebook(context, vocabulary, fire_share=config.fire_share)
            describe = _Describe(postings=postings, context=context, totals=totals, rules=rules, vocabulary=vocabulary, config=config)
            with draft.place(FILE) as file:
                write_rows(file, describe.rows(weights, model, tell=tell))
            parts = {name: dict(zip(names, totals.parts[name].tolist(), strict=True)) for name, (_, names) in context.breakdowns.items()}
            facts |= {"tokens": shards.n_tokens, "kept": totals.kept, "documents": context.n_docs, "parts": parts}
            facts["offset_edges"] = totals.offset_edges.tolist()
            draft.write(FACTS, json.dumps(to_dict(facts), indent=1, sort_keys=True, ensure_ascii=False) + "\n")
            draft.finish(summary={"features": weights.d_dict, "tokens": totals.kept, "nonzeros": postings.nnz, "model": model.ref})
    return FeatureIndex.open(out, workspace)


def _check_fit(dictionary: Dictionary, shards: Shards, *, corpus: Corpus, model: Model) -> None:
    if shards.corpus_id != corpus.id:
        do = "Open the corpus that the shards were harvested from: Corpus.open(workspace.by_id('corpus', shards.corpus_id))."
        raise ShapeMismatch("the shards are of another corpus.", got=corpus.id, wanted=shards.corpus_id, do=do)
    if shards.model_fingerprint != model.fingerprint:
        do = f"Load the model that the shards were harvested from: {shards.model_ref}, in the same dtype."
        raise ShapeMismatch("the shards are of another model.", got=model.fingerprint, wanted=shards.model_fingerprint, do=do)
    if shards.width(dictionary.reads) != dictionary.d_in:
        do = "Use the shards that the dictionary was trained on."
        raise ShapeMismatch("the dictionary does not fit the shards.", got=dictionary.d_in, wanted=shards.width(dictionary.reads), do=do)


def _facts(dictionary: Dictionary, shards: Shards, *, model: Model, source: Artifact) -> dict[str, Any]:
    """What the index says about its origin, for pages that open neither the model nor the dictionary."""
    quality = json.loads(source.file(QUALITY).read_bytes()) if QUALITY in source.manifest.files else {}
    return {
        "model": shards.model_ref,
        "quantised": model.quantised or "",
        "reads": str(dictionary.reads),
        "ranges": [list(span) for span in shards.ranges],
        "quality": quality,
        "bos": model.tokenizer.bos,
        "break": model.tokenizer.encode("\n"),
        "special": sorted(model.tokenizer.special_ids),
    }


def _write_postings(draft: Draft, dictionary: Dictionary, shards: Shards, *, config: IndexConfig, tell: Throttled) -> None:
    for shard, (_, end) in enumerate(shards.ranges):
        if not draft.has(forward_name(shard)):
            with draft.place(forward_name(shard)) as file:
                write_forward(file, shards.block(shard, dictionary.reads), dictionary=dictionary, values=config.values)
        tell("encode the activations", end, shards.n_tokens, unit="tokens")
    if not draft.has(INVERTED):
        with draft.place(INVERTED) as file:
            files = [draft.path / forward_name(shard) for shard in range(len(shards.ranges))]
            n = len(files)
            starts = [start for start, _ in shards.ranges]
            write_inverted(
                file, files, d_dict=dictionary.d_dict, starts=starts, tick=lambda shard: tell("invert the postings", shard + 1, n, unit="shards")
            )


def _postings(draft: Draft, shards: Shards) -> Postings:
    forward = [draft.path / forward_name(shard) for shard in range(len(shards.ranges))]
    return Postings(forward, draft.path / INVERTED, ranges=shards.ranges)


def _bytes_or_nothing(model: Model) -> Callable[[int], bytes]:
    """The bytes of a token, none for a place of the vocabulary that stands for nothing."""

    def look_up(token: int) -> bytes:
        try:
            return model.tokenizer.token_bytes(token)
        except TokenOutOfRange:
            return b""

    return look_up


class _Describe:
    """Makes the row of every feature."""

    def __init__(self, *, postings: Postings, context: Context, totals: Totals, rules: Rulebook, vocabulary: Vocabulary, config: IndexConfig) -> None:
        self._postings = postings
        self._context = context
        self._totals = totals
        self._rules = rules
        self._vocabulary = vocabulary
        self._config = config

    def rows(self, dictionary: Dictionary, model: Model, *, tell: Throttled) -> Iterator[dict[str, Any]]:
        """One row a feature, in order."""
        directions = dictionary.directions().detach().float().cpu()
        near = neighbours(directions, limit=self._config.neighbours)
        norms = {"decoder_norm": directions.norm(dim=1), "encoder_norm": dictionary.encoder_directions().detach().float().norm(dim=1).cpu()}
        with ThreadPoolExecutor(_THREADS) as pool:
            for block in self._logits(directions, model):
                features = range(block.first, block.first + len(block.top.ids))
                for i, (feature, stored) in enumerate(zip(features, pool.map(self._from_store, features), strict=True)):
                    row: dict[str, Any] = {"feature": feature} | {name: float(norm[feature]) for name, norm in norms.items()}
                    row |= {"neighbour_ids": near.ids[feature].tolist(), "neighbour_cosines": near.scores[feature].tolist()}
                    row["cosine"] = max(row["neighbour_cosines"], default=0.0)
                    row |= {"top_ids": block.top.ids[i].tolist(), "top_logits": block.top.scores[i].tolist()}
                    row |= {"bottom_ids": block.bottom.ids[i].tolist(), "bottom_logits": block.bottom.scores[i].tolist()}
                    row["top_logit"] = self._vocabulary.piece(row["top_ids"][0]) if row["top_ids"] else ""
                    yield row | stored
                    tell("describe the features", feature + 1, dictionary.d_dict, unit="features")

    def _logits(self, directions: torch.Tensor, model: Model) -> Iterator[Block]:
        """Direct logits by block; a dictionary that does not write the residual stream's width has none."""
        unembed = model.unembed().detach().float().cpu()
        mask = model.vocabulary_mask().cpu()
        if unembed.shape[1] != directions.shape[1]:
            unembed, mask = torch.zeros(len(mask), directions.shape[1]), torch.zeros_like(mask)
        yield from direct_logits(directions, unembed, mask=mask, limit=self._config.logits)

    def _from_store(self, feature: int) -> dict[str, Any]:
        firings = self._postings.feature(feature)
        edges, counts = histogram(firings.values)
        row = moments(firings, self._context, kept=self._totals.kept)
        row |= {"histogram_edges": edges.tolist(), "histogram_counts": counts.tolist()}
        row |= token_profile(firings, self._context, totals=self._totals, limit=self._config.best_tokens)
        row |= breakdown_counts(firings, self._context, totals=self._totals)
        row |= example_columns(firings, self._context, config=self._config)
        row["token"] = self._vocabulary.piece(row["token_ids"][0]) if row["token_ids"] else ""
        rule = self._rules.label(firings)
        names = ("f1", "precision", "recall", "f1_test", "f1_null", "threshold")
        return row | {"rule": rule.text, "rule_kind": rule.kind, "rule_weak": rule.weak} | {name: getattr(rule, name) for name in names}
