"""Rows that are computed when they are due: the source of a training run whose activations would not fit on disk."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from microtome.activations import Corpus, ForwardConfig, ForwardStream
from microtome.config import fingerprint, to_dict
from microtome.errors import ConfigError, NotEnoughTokens
from microtome.models import Model, Site
from microtome.training.config import Pooling, TrainConfig
from microtome.training.measures import Held
from microtome.training.source import Batches

HELD_BYTES = {"train": 2**27, "dev": 2**28, "test": 2**29}
"""Held-out rows of all sites together take at most this much memory; fewer rows are measured where there are many sites. Those of the dev split
are held while training holds the most."""


@dataclass(frozen=True, kw_only=True)
class FromForward:
    """A corpus and the model that reads it. It stands in for shards: it has their figures, and computes their rows."""

    model: Model
    corpus: Corpus
    config: ForwardConfig = field(default_factory=ForwardConfig)

    @property
    def shards(self) -> "FromForward":
        """Itself: what says where rows are from."""
        return self

    @property
    def turns(self) -> None:
        """Rows of turns need stored activations."""
        return

    @cached_property
    def id(self) -> str:
        """What stands for the id of the shards that were not stored."""
        return fingerprint({"model": self.model.fingerprint, "corpus": self.corpus.id, "forward": to_dict(self.config)})

    @cached_property
    def _readers(self) -> dict[tuple[Site, ...], ForwardStream]:
        """What reads held-out rows, by sites."""
        return {}

    @cached_property
    def _limits(self) -> dict[Site, float]:
        """Norms of sinks, measured once."""
        return {}

    @property
    def corpus_id(self) -> str:
        return self.corpus.id

    @property
    def model_fingerprint(self) -> str:
        return self.model.fingerprint

    @property
    def model_ref(self) -> str:
        return self.model.ref

    @property
    def quantised(self) -> str | None:
        return self.model.quantised

    @property
    def keep(self) -> npt.NDArray[np.bool_]:
        """The tokens that the corpus' policy keeps; sinks by norm, which a harvest would leave out too, are not known beforehand."""
        return self.corpus.keep

    def site(self, name: "str | Site") -> Site:
        return self.model.site(name)

    def width(self, site: "str | Site") -> int:
        return self.model.width(self.model.site(site))

    def inputs(self) -> dict[str, str]:
        """What an artifact made from here depends on."""
        return {"corpus": self.corpus.id, "rows": self.id}

    def check(self, config: TrainConfig) -> None:
        """Raise `SiteNotFound` for a site that the model has not, `ConfigError` for rows that are no tokens."""
        for site in config.sites:
            self.model.site(site)
        if config.pooling != "token" or any(type(loss).__name__ == "Nested" for loss in config.losses):
            do = "Harvest shards, and pool them."
            raise ConfigError("rows of turns are made from stored activations.", got=config.pooling, wanted="token", do=do)

    def stream(self, config: TrainConfig) -> Batches:
        """The stream of the train split; `NotEnoughTokens` where it holds less than a batch."""
        made = ForwardStream(
            self.model,
            self.corpus,
            sites=config.sites,
            batch_size=config.batch_size,
            seed=config.seed,
            config=self.config,
            limits=self._limits,
        )
        if made.n_rows < config.batch_size:
            do = "Lower batch_size, or take a larger corpus."
            raise NotEnoughTokens("the train split holds less than one batch.", got=made.n_rows, wanted=config.batch_size, do=do)
        return made

    def held(self, sites: tuple[Site, ...], *, pooling: Pooling, n: int, split: str) -> Held:
        """At most `n` rows of a split, and no more than `HELD_BYTES` of it hold; always the same ones."""
        assert pooling == "token"
        row_bytes = sum(self.width(site) for site in sites) * torch.empty(0, dtype=getattr(torch, self.config.dtype)).element_size()
        if sites not in self._readers:
            self._readers[sites] = ForwardStream(self.model, self.corpus, sites=sites, batch_size=1, seed=0, config=self.config, limits=self._limits)
        found = self._readers[sites].fixed(min(n, max(1, HELD_BYTES[split] // row_bytes)), split=split)
        return Held(rows={site: each.x for site, each in found.items()}, docs=next(iter(found.values())).docs)
