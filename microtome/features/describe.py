"""The row of every feature in `features.parquet`: what can be counted from its postings, and what its directions say."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

from microtome.dictionaries import Dictionary
from microtome.features.config import IndexConfig
from microtome.features.context import Context
from microtome.features.members import Members
from microtome.features.output import direct_logits, neighbours, output_directions
from microtome.features.postings import Postings
from microtome.features.rules import Rulebook
from microtome.features.statistics import Totals, breakdown_counts, example_columns, histogram, moments, token_profile
from microtome.features.text import Vocabulary
from microtome.models import Model
from microtome.progress import Throttled
from microtome.shapes import Tensor

T = TypeVar("T")
_THREADS = min(4, os.cpu_count() or 1)
"""Features are counted by several threads (numpy sorts without the interpreter's lock); the result does not depend on how many."""


class Describe:
    """Makes the row of every feature."""

    def __init__(self, *, postings: Postings, context: Context, totals: Totals, rules: Rulebook, vocabulary: Vocabulary, config: IndexConfig) -> None:
        self._postings = postings
        self._context = context
        self._totals = totals
        self._rules = rules
        self._vocabulary = vocabulary
        self._config = config

    def rows(self, members: Members, model: Model, *, tell: Throttled) -> Iterator[dict[str, Any]]:
        """One row a feature, in order."""
        unembed, mask = model.unembed().detach().float().cpu(), model.vocabulary_mask().cpu()
        n = len(members.numbering)
        with ThreadPoolExecutor(_THREADS) as pool:
            for dictionary, first in zip(members.dictionaries, members.numbering.starts.tolist(), strict=False):
                directions = output_directions(dictionary)
                for row in self._member(dictionary, directions, unembed, mask=mask, first=first, pool=pool):
                    yield row
                    tell("describe the features", row["feature"] + 1, n, unit="features")

    def _member(
        self, dictionary: Dictionary, directions: Tensor, unembed: Tensor, *, mask: Tensor, first: int, pool: ThreadPoolExecutor
    ) -> Iterator[dict[str, Any]]:
        """The rows of one dictionary, whose first feature has the id `first`; neighbours are sought within it."""
        near = neighbours(directions, limit=self._config.neighbours)
        norms = {"decoder_norm": directions.norm(dim=1), "encoder_norm": dictionary.encoder_directions().detach().float().norm(dim=1).cpu()}
        if unembed.shape[1] != directions.shape[1]:  # it does not write the residual stream: no direct logits
            unembed, mask = torch.zeros(len(mask), directions.shape[1]), torch.zeros_like(mask)
        for block in _ahead(direct_logits(directions, unembed, mask=mask, limit=self._config.logits), pool):
            numbers = range(block.first, block.first + len(block.top.ids))
            for i, (at, stored) in enumerate(zip(numbers, pool.map(self._from_store, [first + at for at in numbers]), strict=True)):
                row: dict[str, Any] = {"feature": first + at} | {name: float(norm[at]) for name, norm in norms.items()}
                row |= {"neighbour_ids": (near.ids[at] + first).tolist(), "neighbour_cosines": near.scores[at].tolist()}
                row["cosine"] = max(row["neighbour_cosines"], default=0.0)
                row |= {"top_ids": block.top.ids[i].tolist(), "top_logits": block.top.scores[i].tolist()}
                row |= {"bottom_ids": block.bottom.ids[i].tolist(), "bottom_logits": block.bottom.scores[i].tolist()}
                row["top_logit"] = self._vocabulary.piece(row["top_ids"][0]) if row["top_ids"] else ""
                yield row | stored

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


def _ahead(coming: Iterator[T], pool: ThreadPoolExecutor) -> Iterator[T]:
    """The same, each made while the one before it is used."""
    following = pool.submit(next, coming, None)
    while (found := following.result()) is not None:
        following = pool.submit(next, coming, None)
        yield found
