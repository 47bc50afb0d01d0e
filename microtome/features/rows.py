"""`features.parquet`: one row a feature, in row groups of at most 4,096, so that one feature can be read without the others.

Number and text columns that the table shows are held in memory; lists (histogram, tokens, logits, neighbours, example positions) are read a
row group at a time when a card asks for them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from microtome.features.arrays import Array
from microtome.features.blocks import Column, Ragged

Arrow: TypeAlias = Any
"""A table or a column of pyarrow, which ships no types."""
FILE = "features.parquet"
GROUP = 4096
"""Most rows in a row group."""
_DECODED = 128
"""Rows made into Python's objects at once."""

NUMBERS: Mapping[str, pa.DataType] = {
    "feature": pa.int32(),
    "count": pa.int64(),
    "density": pa.float64(),
    "documents": pa.int32(),
    "max": pa.float32(),
    "mean": pa.float32(),
    "second_moment": pa.float64(),
    "entropy": pa.float32(),
    "distinct": pa.int32(),
    "decoder_norm": pa.float32(),
    "encoder_norm": pa.float32(),
    "f1": pa.float64(),
    "rule_weak": pa.bool_(),
    "cosine": pa.float32(),
    "lift": pa.float64(),
}
TEXTS: Mapping[str, pa.DataType] = dict.fromkeys(("rule", "rule_kind", "token", "top_logit", "corpus_label"), pa.string())
_REST: Mapping[str, pa.DataType] = {
    "precision": pa.float64(),
    "recall": pa.float64(),
    "f1_test": pa.float64(),
    "f1_null": pa.float64(),
    "threshold": pa.float64(),
    **dict.fromkeys(
        ("histogram_counts", "role_counts", "corpus_label_counts", "split_counts", "offset_counts", "token_counts", "stratum_counts"),
        pa.list_(pa.int64()),
    ),
    **dict.fromkeys(
        ("top_positions", "top_duplicates", "stratum_positions", "stratum_duplicates", "stratum_sizes"),
        pa.list_(pa.int64()),
    ),
    **dict.fromkeys(("token_ids", "top_ids", "bottom_ids", "neighbour_ids"), pa.list_(pa.int32())),
    **dict.fromkeys(("histogram_edges",), pa.list_(pa.float64())),
    **dict.fromkeys(("token_means", "token_rates", "top_logits", "bottom_logits", "neighbour_cosines", "stratum_edges"), pa.list_(pa.float32())),
}
SCHEMA = pa.schema([*NUMBERS.items(), *TEXTS.items(), *_REST.items()])


def arrow_of(name: str, column: Column) -> Arrow:
    """A column as it is stored."""
    kind = SCHEMA.field(name).type
    if not isinstance(column, Ragged):
        return pa.array(column if isinstance(column, list) else column.astype(kind.to_pandas_dtype()), kind)
    ends = np.concatenate([[0], np.cumsum(column.counts)]).astype(np.int32)
    values = pa.array(column.values.astype(kind.value_type.to_pandas_dtype()), kind.value_type)
    return pa.ListArray.from_arrays(pa.array(ends), values, type=kind)


def write_rows(path: Path, tables: Iterable[Arrow]) -> None:
    """Write rows as they come, a row group at a time."""
    waiting: list[Arrow] = []
    settings: dict[str, Any] = {"use_dictionary": list(TEXTS)}  # numbers hardly repeat
    with pq.ParquetWriter(path, SCHEMA, compression="zstd", **settings) as writer:
        for table in tables:
            waiting.append(table)
            if sum(map(len, waiting)) >= GROUP:
                whole = pa.concat_tables(waiting)
                full = len(whole) // GROUP * GROUP
                writer.write_table(whole.slice(0, full), row_group_size=GROUP)
                waiting = [whole.slice(full)]
        rest = pa.concat_tables([SCHEMA.empty_table(), *waiting])
        if len(rest):
            writer.write_table(rest, row_group_size=GROUP)


class FeatureRows:
    """The table, opened: `numbers` and `texts` by column, and the whole row of one feature."""

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path, memory_map=True)
        shown = self._file.read(columns=[*NUMBERS, *TEXTS])
        self.numbers: dict[str, Array] = {name: shown[name].to_numpy() for name in NUMBERS}
        self.texts: dict[str, list[str]] = {name: shown[name].to_pylist() for name in TEXTS}
        self._group = lru_cache(maxsize=16)(self._file.read_row_group)

    def __len__(self) -> int:
        return len(self.numbers["feature"])

    def row(self, feature: int) -> dict[str, Any]:
        """Every column of one feature."""
        return self._group(feature // GROUP).slice(feature % GROUP, 1).to_pylist()[0]

    def rows(self, features: Sequence[int], *, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Some columns of features in ascending order, many decoded at once."""
        for group, members in groupby(features, key=lambda feature: feature // GROUP):
            table, places = self._group(group).select(columns), [feature % GROUP for feature in members]
            for start in range(0, len(places), _DECODED):
                yield from table.take(places[start : start + _DECODED]).to_pylist()

    def label_texts(self, changed: Mapping[int, str]) -> Sequence[str]:
        """The rules' labels, with some replaced."""
        labels = list(self.texts["rule"])
        for feature, text in changed.items():
            labels[feature] = text
        return labels
