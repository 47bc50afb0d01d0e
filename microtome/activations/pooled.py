"""Pooled: one row of activations for each turn or span, in the order of the corpus.

| file | holds |
|---|---|
| `rows-00000.safetensors` … | for every site a tensor of its name, float32 `[rows, d]`; a file for each shard that the rows were made from |
| `rows.parquet` | a row a row: `doc, turn, role, start, end, tokens` |

`start` and `end` are the global token positions of the turn's content or the span, `tokens` of them count. `turn` is -1 where a span begins in
no turn's content. A turn or span without a token that counts has no row.
"""

from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import safe_open

from microtome.activations.corpus import Corpus, split_code
from microtome.activations.shards import ShardBlock
from microtome.artifacts import Artifact
from microtome.errors import SiteNotFound, nearest
from microtome.models import Site


@final
class Pooled:
    """Finished pooled activations, opened for reading. Make them with `pool`; streams and held-out matrices read them like shards."""

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact
        summary = artifact.manifest.summary
        self._widths: dict[str, int] = dict(summary["widths"])
        self.sites: tuple[Site, ...] = tuple(map(Site.parse, summary["sites"]))
        self._ranges: list[tuple[int, int]] = [(int(start), int(end)) for start, end in summary["ranges"]]
        self.n_rows: int = summary["rows"]
        """Turns or spans with a token that counts."""

    @classmethod
    def open(cls, path: str | Path) -> "Pooled":
        """Open the pooled artifact at `path`; raises `ArtifactMissing`, `ArtifactForeign` or `ArtifactDamaged`."""
        return cls(Artifact.open(path, "pooled"))

    @property
    def id(self) -> str:
        return self._artifact.id

    @property
    def path(self) -> Path:
        return self._artifact.path

    @property
    def summary(self) -> dict[str, Any]:
        """Rows, tokens that count, and how many tokens do not for which reason; see `pool`."""
        return dict(self._artifact.manifest.summary)

    @property
    def over(self) -> str:
        """What a row is made of: `turn`, `span` or `last`."""
        return str(self._artifact.manifest.config["over"])

    @property
    def corpus_id(self) -> str:
        return self._artifact.manifest.inputs["corpus"]

    @property
    def shards_id(self) -> str:
        return self._artifact.manifest.inputs["shards"]

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Half-open ranges of row numbers, one for each shard that they were made from."""
        return self._ranges

    @cached_property
    def table(self) -> pa.Table:  # pyright: ignore[reportUnknownParameterType]  # pyarrow ships no types
        """Where each row comes from: `doc, turn, role, start, end, tokens`."""
        return pq.read_table(self._artifact.file("rows.parquet"))

    def site(self, name: "str | Site") -> Site:
        """The pooled site of that name; `SiteNotFound` names the nearest."""
        names = list(self._widths)
        if str(name) not in names:
            what = f'the pooled rows {self.path.name} do not hold the site "{name}".'
            raise SiteNotFound(what, got=name, wanted=", ".join(names), do=nearest(str(name), names))
        return Site.parse(str(name))

    def width(self, site: "str | Site") -> int:
        """Length of a site's rows."""
        return self._widths[str(self.site(site))]

    def block(self, shard: int, site: "str | Site") -> ShardBlock:
        """One site's rows of one shard: `start` is a row number, and every row is kept."""
        name = str(self.site(site))
        with safe_open(self._artifact.file(rows_name(shard)), framework="pt") as tensors:
            x = tensors.get_tensor(name)
        return ShardBlock(start=self._ranges[shard][0], x=x, keep=torch.ones(len(x), dtype=torch.bool))

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
