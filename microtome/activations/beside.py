"""Two models side by side: the activations of both on the tokens of one corpus, for crosscoders that compare them."""

from typing import final

import numpy as np
import numpy.typing as npt

from microtome.activations.corpus import Corpus
from microtome.activations.shards import ShardBlock, Shards
from microtome.errors import ShapeMismatch, SiteNotFound, nearest
from microtome.models import Site


@final
class SideBySide:
    """Shards of two models read as one: the second model's sites have the suffix `#2`. A token is kept where both keep it.

    >>> both = SideBySide(Shards.open("ws/shards/base"), Shards.open("ws/shards/chat"))
    >>> both.sites
    (Site(kind='resid_post', layer=15, of=1), Site(kind='resid_post', layer=15, of=2))

    Both must be harvested from the same corpus, so the models share a tokenizer; else `ShapeMismatch`.
    """

    def __init__(self, first: Shards, second: Shards) -> None:
        if first.corpus_id != second.corpus_id or first.ranges != second.ranges:
            do = "Harvest both models on one corpus; it needs that they have the same tokenizer."
            what = f"{first.path.name} and {second.path.name} do not hold the same tokens."
            raise ShapeMismatch(what, got=f"corpus {second.corpus_id}", wanted=f"corpus {first.corpus_id}", do=do)
        self._parts = (first, second)
        self.sites: tuple[Site, ...] = tuple(Site(site.kind, site.layer, number) for number, part in enumerate(self._parts, 1) for site in part.sites)

    @property
    def id(self) -> str:
        return "+".join(part.id for part in self._parts)

    @property
    def corpus_id(self) -> str:
        return self._parts[0].corpus_id

    @property
    def ranges(self) -> list[tuple[int, int]]:
        return self._parts[0].ranges

    @property
    def model_fingerprint(self) -> str:
        """Of both: no one model has it."""
        return "+".join(part.model_fingerprint for part in self._parts)

    @property
    def model_ref(self) -> str:
        return " and ".join(part.model_ref for part in self._parts)

    @property
    def quantised(self) -> str | None:
        """Of either."""
        return next((part.quantised for part in self._parts if part.quantised), None)

    @property
    def keep(self) -> npt.NDArray[np.bool_]:
        return self._parts[0].keep & self._parts[1].keep

    def site(self, name: "str | Site") -> Site:
        """The stored site of that name; `SiteNotFound` names the nearest."""
        asked, names = Site.parse(str(name)), [str(site) for site in self.sites]
        if asked not in self.sites:
            what = f'the shards side by side do not hold the site "{name}".'
            raise SiteNotFound(what, got=name, wanted=", ".join(names), do=nearest(str(name), names))
        return asked

    def width(self, site: "str | Site") -> int:
        asked = self.site(site)
        return self._part(asked).width(_alone(asked))

    def block(self, shard: int, site: "str | Site") -> ShardBlock:
        """One site's rows of one shard."""
        asked = self.site(site)
        return self._part(asked).block(shard, _alone(asked))

    def docs(self, corpus: Corpus, rows: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The document of each token position."""
        return corpus.doc_of(rows)

    def rows_of_split(self, corpus: Corpus, split: str) -> npt.NDArray[np.bool_]:
        """True for tokens of the split's documents that both models keep, [n_tokens]."""
        return self.keep & corpus.in_split(split)

    def _part(self, site: Site) -> Shards:
        return self._parts[site.of - 1]


def _alone(site: Site) -> Site:
    """The site as its own model calls it."""
    return Site(site.kind, site.layer)
