"""What is counted for many features at once is what is counted for each alone; other statistics are checked by brute force in their own files."""

from collections.abc import Mapping

import numpy as np
import pytest

from microtome.features import FeatureIndex
from microtome.features.blocks import Block, Column, Ragged, places
from microtome.features.context import Context
from microtome.features.rules import Rulebook, rulebook
from microtome.features.statistics import Totals, breakdown_counts, example_columns, histogram, moments, token_profile, totals_of
from tests.features.small_store import CONFIG, D_DICT, Made


def _lists(columns: Mapping[str, Column]) -> dict[str, list[object]]:
    """A list of one entry a feature for every column."""
    found: dict[str, list[object]] = {}
    for name, column in columns.items():
        if isinstance(column, Ragged):
            ends = np.cumsum(column.counts)
            found[name] = [column.values[end - count : end].tolist() for end, count in zip(ends.tolist(), column.counts.tolist(), strict=True)]
        else:
            found[name] = list(column)
    return found


def _counted(block: Block, context: Context, *, totals: Totals, rules: Rulebook) -> dict[str, list[object]]:
    edges, counts = histogram(block)
    columns: dict[str, Column] = {
        **moments(block, context, kept=totals.kept),
        **token_profile(block, context, totals=totals, limit=5),
        **breakdown_counts(block, context, totals=totals),
        **example_columns(block, context, config=CONFIG),
        "edges": edges,
        "counts": counts,
    }
    return {**_lists(columns), "rules": list(rules.labels(block))}


def test_many_features_at_once_are_what_each_is_alone(index: FeatureIndex, made: Made) -> None:
    store = index.store
    totals = totals_of(store.context, n_vocab=made.model.n_vocab)
    rules = rulebook(store.context, store.vocabulary, fire_share=CONFIG.fire_share)
    together = _counted(Block.read(store.postings, 0, D_DICT), store.context, totals=totals, rules=rules)
    alone = [_counted(Block.read(store.postings, i, i + 1), store.context, totals=totals, rules=rules) for i in range(D_DICT)]
    for name, found in together.items():
        assert found == [each for one in alone for each in one[name]], name


@pytest.mark.parametrize("entries", [1, 50, 10**6])
def test_stretches_hold_every_feature_once(index: FeatureIndex, entries: int) -> None:
    postings = index.store.postings
    spans = postings.stretches(3, D_DICT - 1, entries=entries, most=7)
    assert [feature for span in spans for feature in range(*span)] == list(range(3, D_DICT - 1))
    assert max(last - first for first, last in spans) <= 7
    assert all(last - first == 1 or postings.indptr[last] - postings.indptr[first] <= entries for first, last in spans)


def test_places_in_runs() -> None:
    assert places(np.array([2, 2, 5, 7, 7, 7])).tolist() == [0, 1, 0, 0, 1, 2]
    assert places(np.zeros(0, np.int64)).tolist() == []
