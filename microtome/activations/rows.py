"""Rows: what shards and pooled activations have in common, so that streams and held-out matrices are made of either."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from microtome.activations.corpus import ROLE_NAMES, Corpus, split_code
from microtome.activations.shards import ShardBlock, Shards
from microtome.errors import ConfigError, NotEnoughTokens, ShapeMismatch, nearest
from microtome.models import Site
from microtome.shapes import Float, Int, Tensor


@runtime_checkable
class Rows(Protocol):
    """Stored activations of one corpus, row by row, in parts: a row is a token (`Shards`) or a turn or span (`Pooled`)."""

    @property
    def id(self) -> str: ...
    @property
    def corpus_id(self) -> str: ...
    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Half-open ranges of row numbers, one a part."""
        ...

    def site(self, name: "str | Site") -> Site: ...
    def width(self, site: "str | Site") -> int: ...
    def block(self, shard: int, site: "str | Site") -> ShardBlock: ...
    def docs(self, corpus: Corpus, rows: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The document of each row number."""
        ...

    def rows_of_split(self, corpus: Corpus, split: str) -> npt.NDArray[np.bool_]:
        """True for the rows that are kept and whose document is in the split, [n_rows]."""
        ...


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A fixed matrix of activations, rows in order of position."""

    x: Float[Tensor, "n d"]
    """In the storage type of the shards."""
    positions: Int[Tensor, "n"]
    """Row numbers: the global token position of each row, or its number in the table of a `Pooled`."""
    docs: Int[Tensor, "n"]
    """Document of each row: the unit of a bootstrap."""


def held_out(shards: Rows, corpus: Corpus, *, site: Site, n: int, split: str = "dev", seed: int = 0) -> HeldOut:
    """At most `n` kept rows of a split: whole documents in a seeded order until there are `n` rows (the last one cut), then sorted by position.

    The same arguments give the same rows. Fewer than `n` come back when the split has no more; none raises `NotEnoughTokens`.
    """
    found = shards.site(site)
    return held_out_sites(shards, corpus, sites=(found,), n=n, split=split, seed=seed)[found]


def held_out_sites(shards: Rows, corpus: Corpus, *, sites: Sequence[Site], n: int, split: str = "dev", seed: int = 0) -> dict[Site, HeldOut]:
    """`held_out` of several sites: the same rows of each."""
    picked, docs = pick_rows(shards, corpus, shards.rows_of_split(corpus, split), n=n, split=split, seed=seed)
    positions = torch.from_numpy(picked)
    return {site: HeldOut(x=rows_at(shards, site, picked), positions=positions, docs=torch.from_numpy(docs)) for site in map(shards.site, sites)}


def pick_rows(
    shards: Rows, corpus: Corpus, mask: npt.NDArray[np.bool_], *, n: int, split: str, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The rows of `held_out` among those that `mask` allows, sorted, and their documents."""
    check_fit(shards, corpus)
    rows = np.flatnonzero(mask)
    if len(rows) == 0:
        do = "Use a larger corpus, or other shares in `split`."
        raise NotEnoughTokens(f"the {split} split has no kept tokens.", got=0, wanted="at least one", do=do)
    rank = document_rank(corpus, split=split, seed=seed)
    picked = np.sort(rows[np.argsort(rank[shards.docs(corpus, rows)], kind="stable")[:n]])
    return picked, shards.docs(corpus, picked)


def document_rank(corpus: Corpus, *, split: str, seed: int) -> npt.NDArray[np.int64]:
    """The place of every document in the seeded order of held-out rows."""
    return np.random.default_rng([seed, split_code(split)]).permutation(corpus.n_docs)


def rows_at(shards: Rows, site: Site, rows: npt.NDArray[np.int64]) -> Float[Tensor, "n d"]:
    """One site's rows of the given numbers, which ascend (the same number may come again)."""
    parts: list[Tensor] = []
    for part, (start, end) in enumerate(shards.ranges):
        inside = rows[np.searchsorted(rows, start) : np.searchsorted(rows, end)]
        if len(inside):
            parts.append(shards.block(part, site).x[torch.from_numpy(inside - start)])
    return torch.cat(parts)


def check_fit(shards: Rows, corpus: Corpus) -> None:
    """Raise `ShapeMismatch` unless the shards were harvested from this corpus."""
    if shards.corpus_id != corpus.id:
        do = "Open the corpus that the shards were harvested from."
        raise ShapeMismatch("these shards are of another corpus.", got=f"corpus {corpus.id}", wanted=f"corpus {shards.corpus_id}", do=do)


def check_roles(roles: Sequence[str]) -> None:
    """Raise `ConfigError` for a role that no token can have."""
    for role in roles:
        if role not in ROLE_NAMES:
            raise ConfigError(f'there is no role "{role}".', got=role, wanted=", ".join(ROLE_NAMES), do=nearest(role, ROLE_NAMES))


@final
class RoleRows:
    """The rows of shards whose token is in the content of a turn of certain roles: `RoleRows(shards, roles=("assistant",))`."""

    def __init__(self, shards: Shards, *, roles: tuple[str, ...]) -> None:
        check_roles(roles)
        self._shards = shards
        self.roles = tuple(sorted(set(roles)))

    @property
    def id(self) -> str:
        return f"{self._shards.id} {','.join(self.roles)}"

    @property
    def corpus_id(self) -> str:
        return self._shards.corpus_id

    @property
    def ranges(self) -> list[tuple[int, int]]:
        return self._shards.ranges

    def site(self, name: "str | Site") -> Site:
        return self._shards.site(name)

    def width(self, site: "str | Site") -> int:
        return self._shards.width(site)

    def block(self, shard: int, site: "str | Site") -> ShardBlock:
        return self._shards.block(shard, site)

    def docs(self, corpus: Corpus, rows: npt.ArrayLike) -> npt.NDArray[np.int64]:
        return self._shards.docs(corpus, rows)

    def rows_of_split(self, corpus: Corpus, split: str) -> npt.NDArray[np.bool_]:
        mask = self._shards.rows_of_split(corpus, split)
        kept = np.flatnonzero(mask)
        mask[kept] = np.isin(corpus.role_of(kept).codes, [ROLE_NAMES.index(role) for role in self.roles])
        return mask
