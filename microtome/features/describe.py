"""The row of every feature in `features.parquet`: what can be counted from its postings, and what its directions say."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import torch

from microtome.devices import Scratch, core_workers
from microtome.dictionaries import Dictionary
from microtome.features.blocks import Block, Column, Ragged
from microtome.features.config import IndexConfig
from microtome.features.context import Context
from microtome.features.members import Members
from microtome.features.output import Ranked, direct_logits, neighbours, output_directions
from microtome.features.postings import Postings
from microtome.features.rows import SCHEMA, Arrow, arrow_of
from microtome.features.rules import Rulebook
from microtome.features.statistics import Totals, breakdown_counts, example_columns, histogram, moments, token_profile
from microtome.features.text import Vocabulary
from microtome.models import Model
from microtome.progress import Throttled
from microtome.shapes import Bool, Float, Tensor

_FEATURES, _LOGITS_BYTES = 128, 1 << 25
"""Described at once by one thread, at most, whose logits are a product of at most so many bytes."""
_FIRINGS = 1 << 15
"""Counted at once, unless a single feature has more."""
_COUNTS = 1 << 18
"""Counts by label, or by role, of all features that are counted at once: a corpus can have a label for each document."""


@dataclass(frozen=True, kw_only=True)
class _Member:
    """What one dictionary says of its features."""

    first: int
    """Id of its first feature."""
    directions: Float[Tensor, "d_dict d_out"]
    encoder_norms: Float[Tensor, "d_dict"]
    near: Ranked
    """Neighbours, sought within the dictionary."""
    shown: Bool[Tensor, "vocab"]
    """Tokens whose logits are listed."""

    @classmethod
    def of(cls, dictionary: Dictionary, model: Model, *, first: int, limit: int) -> "_Member":
        directions, mask = output_directions(dictionary), model.vocabulary_mask()
        return cls(
            first=first,
            directions=directions,
            encoder_norms=dictionary.encoder_directions().detach().float().norm(dim=1).cpu(),
            near=neighbours(directions, limit=limit),
            shown=mask & (directions.shape[1] == model.d_model),  # one that does not write the residual stream has no direct logits
        )


class Describe:
    """Makes the row of every feature."""

    def __init__(self, *, postings: Postings, context: Context, totals: Totals, rules: Rulebook, vocabulary: Vocabulary, config: IndexConfig) -> None:
        self._postings = postings
        self._context = context
        self._totals = totals
        self._rules = rules
        self._vocabulary = vocabulary
        self._config = config
        self._scratch = Scratch()

    def tables(self, members: Members, model: Model, *, tell: Throttled) -> Iterator[Arrow]:
        """The rows of all features in order, some hundreds at a time, made on every core; they do not depend on how many there are."""
        n, done = len(members.numbering), 0
        with core_workers(torch.device("cpu")) as run_all:
            for dictionary, first in zip(members.dictionaries, members.numbering.starts.tolist(), strict=False):
                member = _Member.of(dictionary, model, first=first, limit=self._config.neighbours)
                step = max(1, min(_FEATURES, _LOGITS_BYTES // (4 * len(member.shown))))
                n_own, ready = len(member.directions), dict[int, Arrow]()
                spans = [slice(start, min(start + step, n_own)) for start in range(0, n_own, step)]
                coming = run_all(partial(self._table, member, model), spans)
                for span in spans:
                    while span.start not in ready:
                        ready |= [next(coming)]
                    table = ready.pop(span.start)
                    yield table
                    done += len(table)
                    tell("describe the features", done, n, unit="features")

    def _table(self, member: _Member, model: Model, here: slice) -> tuple[int, Arrow]:
        """The rows of some features of one dictionary, by their numbers there, and the first number."""
        directions, first, last = member.directions[here], member.first + here.start, member.first + here.stop
        like = torch.empty(0, dtype=torch.float32, device=model.device)
        room = self._scratch.take("logits", len(directions), len(member.shown), like=like) if member.shown.any() else None
        ends = direct_logits(directions, model, mask=member.shown, limit=self._config.logits, room=room)
        cosines = member.near.scores[here].numpy()
        columns: dict[str, Column] = {
            "feature": np.arange(first, last),
            "decoder_norm": directions.norm(dim=1).numpy(),
            "encoder_norm": member.encoder_norms[here].numpy(),
            "neighbour_ids": Ragged.even(member.near.ids[here].numpy() + member.first),
            "neighbour_cosines": Ragged.even(cosines),
            "cosine": cosines[:, :1].sum(1),
            "top_logit": [self._vocabulary.piece(each[0]) if each else "" for each in ends.top.ids[:, :1].tolist()],
        }
        for name, end in zip(("top", "bottom"), ends, strict=True):
            columns |= {f"{name}_ids": Ragged.even(end.ids.numpy()), f"{name}_logits": Ragged.even(end.scores.numpy())}
        made = {name: arrow_of(name, column) for name, column in columns.items()}
        most = max(1, _COUNTS // max(len(codes[1]) for codes in self._context.breakdowns.values()))
        stored = [self._from_store(span) for span in self._postings.stretches(first, last, entries=_FIRINGS, most=most)]
        made |= {name: pa.chunked_array([part[name] for part in stored]) for name in stored[0]}
        return here.start, pa.table({name: made[name] for name in SCHEMA.names}, schema=SCHEMA)

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
