"""Where rows come from: which stream trains a config, and which held-out rows measure it.

| pooling | a row |
|---|---|
| `token` | a kept token of the shards (with the loss `nested`, beside the mean of its turn) |
| `turn`, `span`, `last` | a row of the pooled activations |
| `residual` | a token less the mean of its turn: with a `turn` dictionary, the decoupled pair of Der et al. 2026 (arXiv 2606.28548) |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch

from microtome.activations import ActivationStream, Corpus, Pooled, Shards, SideBySide, TurnPairs, TurnPairStream, held_out_sites
from microtome.errors import ConfigError, NotEnoughTokens
from microtome.models import Site
from microtome.shapes import Tensor
from microtome.training.config import Pooling, TrainConfig
from microtome.training.losses import Nested
from microtome.training.measures import Held

Served = Tensor | Mapping[Site, Tensor] | TurnPairs
"""Rows of one site, the same rows of several, or rows beside their turns' means."""


@runtime_checkable
class Batches(Protocol):
    """An endless iterator of batches that can be put back where it was."""

    def __next__(self) -> Served: ...
    def state(self) -> dict[str, Any]: ...
    def restore(self, state: Mapping[str, Any]) -> None: ...


class BatchRows(NamedTuple):
    """A batch as training takes it."""

    rows: dict[Site, Tensor]
    turn_means: dict[Site, Tensor] | None = None


def rows_of(batch: Served, config: TrainConfig, *, device: torch.device) -> BatchRows:
    """The rows of the config's sites, on the device; residuals are taken here."""
    if isinstance(batch, TurnPairs):
        site, rows, means = config.reads[0], batch.rows.to(device).float(), batch.means.to(device)
        if config.pooling == "residual":
            return BatchRows({site: rows - means})
        return BatchRows({site: rows}, {site: means})
    by_site = {config.reads[0]: batch} if isinstance(batch, Tensor) else batch
    return BatchRows({site: by_site[site].to(device) for site in config.sites})


@dataclass(frozen=True, kw_only=True)
class StoredRows:
    """Shards and, where rows are of turns, the pooled activations made of them."""

    shards: Shards | SideBySide
    corpus: Corpus
    turns: Pooled | None = None

    def inputs(self) -> dict[str, str]:
        """What an artifact made from here depends on."""
        pooled = {} if self.turns is None else {"turns": self.turns.id}
        return {"shards": self.shards.id, "corpus": self.corpus.id, **pooled}

    def check(self, config: TrainConfig) -> None:
        """Raise `SiteNotFound` for a site that was not harvested, `ConfigError` where pooled rows are missing, too many or of another kind."""
        for site in config.sites:
            self.shards.site(site)
        if isinstance(self.shards, SideBySide) and (config.pooling != "token" or needs_pairs(config)):
            do = "Leave pooling out, or train on the shards of one model."
            raise ConfigError("two models side by side are read token by token.", got=f"pooling {config.pooling}", wanted="token", do=do)
        paired = needs_pairs(config)
        if paired and (config.kind != "sae" or self.turns is None):
            do = 'Pool the shards over turns first, and give the result as turns=; the kind is "sae".'
            raise ConfigError(
                "rows beside their turns' means are needed.", got=f"kind {config.kind}, turns {self.turns}", wanted="an sae, and turns", do=do
            )
        pooled = config.pooling in {"turn", "span", "last"}
        over = None if self.turns is None else self.turns.over
        if pooled and over != config.pooling:
            do = f'Make them with pool(shards, corpus, config=PoolingConfig(over="{config.pooling}"), …) and give them as turns=.'
            raise ConfigError(f"rows pooled over each {config.pooling} are needed.", got=over or "none", wanted=config.pooling, do=do)

    def stream(self, config: TrainConfig) -> Batches:
        """The stream of the train split; `NotEnoughTokens` where it holds less than a batch."""
        size, seed = config.batch_size, config.seed
        stream: ActivationStream[Any] | TurnPairStream
        if needs_pairs(config):
            assert self.turns is not None
            assert isinstance(self.shards, Shards)
            stream = TurnPairStream(self.shards, self.corpus, turns=self.turns, site=config.reads[0], batch_size=size, seed=seed)
        elif len(config.sites) == 1:
            stream = ActivationStream(self._rows(config.pooling), self.corpus, site=config.sites[0], batch_size=size, seed=seed)
        else:
            stream = ActivationStream(self._rows(config.pooling), self.corpus, sites=config.sites, batch_size=size, seed=seed)
        if stream.n_rows < config.batch_size:
            do = "Lower batch_size, or harvest a larger corpus."
            raise NotEnoughTokens("the train split holds less than one batch.", got=stream.n_rows, wanted=config.batch_size, do=do)
        return stream

    def held(self, sites: tuple[Site, ...], *, pooling: Pooling, n: int, split: str) -> Held:
        """At most `n` rows of a split, always the same ones."""
        if pooling == "residual":
            assert self.turns is not None
            assert isinstance(self.shards, Shards)
            stream = TurnPairStream(self.shards, self.corpus, turns=self.turns, site=sites[0], batch_size=1, seed=0, split=split)
            found = stream.fixed(n, split=split)
            return Held(rows={sites[0]: found.rows.x.float() - found.means}, docs=found.rows.docs)
        rows = held_out_sites(self._rows(pooling), self.corpus, sites=sites, n=n, split=split)
        return Held(rows={site: each.x for site, each in rows.items()}, docs=next(iter(rows.values())).docs)

    def _rows(self, pooling: Pooling) -> Shards | SideBySide | Pooled:
        return self.turns if self.turns is not None and pooling in {"turn", "span", "last"} else self.shards


def needs_turns(config: TrainConfig) -> Literal["turn", "last"] | None:
    """Over what the shards must be pooled before this can train; None where the shards do. (Spans are the caller's to choose.)"""
    if config.pooling == "last":
        return "last"
    return "turn" if config.pooling == "turn" or needs_pairs(config) else None


def needs_pairs(config: TrainConfig) -> bool:
    """Whether every row must stand beside the mean of its turn."""
    return config.pooling == "residual" or any(isinstance(loss, Nested) for loss in config.losses)
