"""The row of every feature in `features.parquet`: what can be counted from its postings, and what its directions say."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import pyarrow as pa

from microtome.dictionaries import Dictionary
from microtome.features.blocks import Block, Column, Ragged
from microtome.features.config import IndexConfig
from microtome.features.context import Context
from microtome.features.members import Members
from microtome.features.output import direct_logits, neighbours, output_directions
from microtome.features.postings import Postings
from microtome.features.rows import SCHEMA, Arrow, arrow_of
from microtome.features.rules import Rulebook
from microtome.features.statistics import Totals, breakdown_counts, example_columns, histogram, moments, token_profile
from microtome.features.text import Vocabulary
from microtome.models import Model
from microtome.progress import Throttled

T = TypeVar("T")
_THREADS = min(4, os.cpu_count() or 1)
"""Blocks of features are counted by several threads (numpy sorts without the interpreter's lock); the result does not depend on how many."""
_FIRINGS = 1 << 15
"""In one block, at most, unless a single feature has more."""


class Describe:
    """Makes the row of every feature."""

    def __init__(self, *, postings: Postings, context: Context, totals: Totals, rules: Rulebook, vocabulary: Vocabulary, config: IndexConfig) -> None:
        self._postings = postings
        self._context = context
        self._totals = totals
        self._rules = rules
        self._vocabulary = vocabulary
        self._config = config

    def tables(self, members: Members, model: Model, *, tell: Throttled) -> Iterator[Arrow]:
        """The rows of all features in order, some hundreds at a time."""
        n, done = len(members.numbering), 0
        with ThreadPoolExecutor(_THREADS) as pool:
            for dictionary, first in zip(members.dictionaries, members.numbering.starts.tolist(), strict=False):
                for table in self._member(dictionary, model, first=first, pool=pool):
                    yield table
                    done += len(table)
                    tell("describe the features", done, n, unit="features")

    def _member(self, dictionary: Dictionary, model: Model, *, first: int, pool: ThreadPoolExecutor) -> Iterator[Arrow]:
        """The rows of one dictionary, whose first feature has the id `first`; neighbours are sought within it."""
        directions, mask = output_directions(dictionary), model.vocabulary_mask()
        near = neighbours(directions, limit=self._config.neighbours)
        norms = {"decoder_norm": directions.norm(dim=1), "encoder_norm": dictionary.encoder_directions().detach().float().norm(dim=1).cpu()}
        writes_stream = directions.shape[1] == model.d_model  # else it has no direct logits
        logits = direct_logits(directions, model, mask=mask & writes_stream, limit=self._config.logits)
        for block in _ahead(logits, pool):
            last = block.first + len(block.top.ids)
            ids, cosines = near.ids[block.first : last].numpy() + first, near.scores[block.first : last].numpy()
            columns: dict[str, Column] = {"feature": np.arange(first + block.first, first + last)}
            columns |= {name: norm[block.first : last].numpy() for name, norm in norms.items()}
            columns |= {"neighbour_ids": Ragged.even(ids), "neighbour_cosines": Ragged.even(cosines), "cosine": cosines[:, :1].sum(1)}
            columns |= {"top_ids": Ragged.even(block.top.ids.numpy()), "top_logits": Ragged.even(block.top.scores.numpy())}
            columns |= {"bottom_ids": Ragged.even(block.bottom.ids.numpy()), "bottom_logits": Ragged.even(block.bottom.scores.numpy())}
            columns["top_logit"] = [self._vocabulary.piece(each[0]) if each else "" for each in block.top.ids[:, :1].tolist()]
            made = {name: arrow_of(name, column) for name, column in columns.items()}
            stored = list(pool.map(self._from_store, self._postings.stretches(first + block.first, first + last, entries=_FIRINGS)))
            made |= {name: pa.chunked_array([part[name] for part in stored]) for name in stored[0]}
            yield pa.table({name: made[name] for name in SCHEMA.names}, schema=SCHEMA)

    def _from_store(self, span: tuple[int, int]) -> dict[str, Arrow]:
        block = Block.read(self._postings, *span)
        edges, counts = histogram(block)
        profile = token_profile(block, self._context, totals=self._totals, limit=self._config.best_tokens)
        rules = self._rules.labels(block)
        columns: dict[str, Column] = {
            **moments(block, self._context, kept=self._totals.kept),
            **profile,
            **breakdown_counts(block, self._context, totals=self._totals),
            **example_columns(block, self._context, config=self._config),
            "histogram_edges": edges,
            "histogram_counts": counts,
            "token": self._commonest(profile["token_ids"]),
            "rule": [rule.text for rule in rules],
        }
        names = {"rule_kind": "kind", "rule_weak": "weak"} | {name: name for name in ("f1", "precision", "recall", "f1_test", "f1_null", "threshold")}
        columns |= {name: [getattr(rule, field) for rule in rules] for name, field in names.items()}
        return {name: arrow_of(name, column) for name, column in columns.items()}

    def _commonest(self, ids: Column) -> list[str]:
        """The text of the first token of each feature, nothing for a dead one."""
        assert isinstance(ids, Ragged)
        firsts = np.cumsum(ids.counts) - ids.counts
        return [self._vocabulary.piece(int(ids.values[first])) if n else "" for first, n in zip(firsts.tolist(), ids.counts.tolist(), strict=True)]


def _ahead(coming: Iterator[T], pool: ThreadPoolExecutor) -> Iterator[T]:
    """The same, each made while the one before it is used."""
    following = pool.submit(next, coming, None)
    while (found := following.result()) is not None:
        following = pool.submit(next, coming, None)
        yield found
