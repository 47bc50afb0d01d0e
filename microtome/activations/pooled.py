"""Pooled: one row of activations for each turn or span, in the order of the corpus.

| file | holds |
|---|---|
| `rows-00000.safetensors` … | for every site a tensor of its name, float32 `[rows, d]`; a file for each shard that the rows were made from |
| `rows.parquet` | a row a row: `doc, turn, role, start, end, tokens` |

`start` and `end` are the global token positions of the turn's content or the span, `tokens` of them count. `turn` is -1 where a span begins in
no turn's content. A turn or span without a token that counts has no row.
"""

from functools import cached_property
from typing import final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import safe_open

from microtome.activations.corpus import Corpus, split_code
from microtome.activations.shards import ShardBlock
from microtome.activations.stored import StoredSites
from microtome.artifacts import Artifact
from microtome.models import Site


@final
class Pooled(StoredSites):
    """Finished pooled activations, opened for reading. Make them with `pool`; streams and held-out matrices read them like shards."""

    kind = "pooled"
    called = "pooled rows"

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact)
        self.sites: tuple[Site, ...] = tuple(map(Site.parse, artifact.manifest.summary["sites"]))
        self.n_rows: int = artifact.manifest.summary["rows"]
        """Turns or spans with a token that counts."""

    @property
    def over(self) -> str:
        """What a row is made of: `turn`, `span` or `last`."""
        return str(self._artifact.manifest.config["over"])

    @property
    def shards_id(self) -> str:
        return self._artifact.manifest.inputs["shards"]

    @cached_property
    def table(self) -> pa.Table:  # pyright: ignore[reportUnknownParameterType]  # pyarrow ships no types
        """Where each row comes from: `doc, turn, role, start, end, tokens`."""
        return pq.read_table(self._artifact.file("rows.parquet"))

    def block(self, shard: int, site: "str | Site") -> ShardBlock:
        """One site's rows of one shard: `start` is a row number, and every row is kept."""
        name = str(self.site(site))
        with safe_open(self._artifact.file(rows_name(shard)), framework="pt") as tensors:
            x = tensors.get_tensor(name)
        return ShardBlock(start=self.ranges[shard][0], x=x, keep=torch.ones(len(x), dtype=torch.bool))

    def docs(self, corpus: Corpus, rows: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The document of each row number."""
        return self.column("doc")[np.asarray(rows, dtype=np.int64)]

    def rows_of_split(self, corpus: Corpus, split: str) -> npt.NDArray[np.bool_]:
        """True for the rows of the split's documents, [n_rows]."""
        return corpus.splits[self.column("doc")] == split_code(split)

    def column(self, name: str) -> npt.NDArray[np.int64]:
        """A number column of `table`."""
        return self.table[name].to_numpy().astype(np.int64)


def rows_name(shard: int) -> str:
    """`rows-00000.safetensors`, …"""
    return f"rows-{shard:05d}.safetensors"
