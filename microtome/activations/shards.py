"""Shards: activations on disk, one row a token, in the order of the corpus.

`shard-00000.safetensors` … each hold a consecutive range of global token positions that begins and ends on document borders: for every site
a tensor of its name `[tokens, d]` in the storage type, and `keep` bool `[tokens]`. A token that is not kept (special, template, attention
sink, by the corpus' declared policy) is stored too, so that every position has its row, but is left out of training and statistics.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import numpy.typing as npt
from safetensors import safe_open

from microtome.activations.corpus import Corpus
from microtome.activations.stored import StoredSites
from microtome.artifacts import Artifact
from microtome.models import Site
from microtome.shapes import Bool, Float, Tensor


@dataclass(frozen=True, kw_only=True)
class ShardBlock:
    """The rows of one site in one shard, memory-mapped; do not write into them."""

    start: int
    """Global token position of row 0."""
    x: Float[Tensor, "n d"]
    """Activations in the storage type."""
    keep: Bool[Tensor, "n"]
    """False for tokens that training and statistics leave out."""


@final
class Shards(StoredSites):
    """Finished activations, opened for reading. Make them with `harvest` or, from a matrix, with `shards_from_matrix`."""

    kind = "shards"
    called = "shards"

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact)
        self.sites: tuple[Site, ...] = tuple(Site.parse(name) for name in artifact.manifest.config["sites"])
        """In the order in which the harvest was asked for them."""
        self.n_tokens: int = artifact.manifest.summary["tokens"]
        self.n_kept: int = artifact.manifest.summary["kept"]
        """Tokens that training and statistics use."""

    @property
    def config(self) -> dict[str, Any]:
        """The `HarvestConfig` it was made with, as JSON-ready values."""
        return dict(self._artifact.manifest.config)

    @property
    def model_fingerprint(self) -> str:
        return self._artifact.manifest.inputs["model"]

    @property
    def model_ref(self) -> str:
        """The reference that `microtome.models.load` took, e.g. `demo`."""
        return self._artifact.manifest.summary["model"]

    @property
    def quantised(self) -> str | None:
        """The model's quantisation (`Q4_1`), to be shown beside its figures; None when it has none."""
        return self._artifact.manifest.summary["quantised"]

    def block(self, shard: int, site: "str | Site") -> ShardBlock:
        """One site's rows of one shard; the file's hash is checked the first time."""
        name = str(self.site(site))
        with safe_open(self._artifact.file(shard_name(shard)), framework="pt") as tensors:
            return ShardBlock(start=self.ranges[shard][0], x=tensors.get_tensor(name), keep=tensors.get_tensor("keep"))

    @cached_property
    def keep(self) -> npt.NDArray[np.bool_]:
        """`keep` of all tokens in order, [n_tokens]."""
        parts: list[npt.NDArray[np.bool_]] = []
        for shard in range(len(self.ranges)):
            with safe_open(self._artifact.file(shard_name(shard)), framework="pt") as tensors:
                parts.append(tensors.get_tensor("keep").numpy().copy())
        return np.concatenate(parts)

    def docs(self, corpus: Corpus, rows: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The document of each token position."""
        return corpus.doc_of(rows)

    def rows_of_split(self, corpus: Corpus, split: str) -> npt.NDArray[np.bool_]:
        """True for kept tokens of the split's documents, [n_tokens]."""
        return self.keep & corpus.in_split(split)


def shard_name(shard: int) -> str:
    """`shard-00000.safetensors`, …"""
    return f"shard-{shard:05d}.safetensors"
