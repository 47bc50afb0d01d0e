"""What components of an index have to do with each other: the part of `FeatureIndex` that is asked for links."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from microtome.activations import Corpus, Shards
from microtome.errors import QueryInvalid
from microtome.features import coactive, downstream, inhibition, summaries
from microtome.features.components import Component, component
from microtome.features.links import Coactive, Links
from microtome.features.store import Store
from microtome.features.summaries import Summary
from microtome.models import Model, Site
from microtome.progress import Progress
from microtome.shapes import Float, Tensor


class Linking:
    """Questions about links."""

    store: Store

    def component(
        self, site: Site | str, vector: Float[Tensor, "d_model"], *, source: Shards | Model, signed: bool = False, name: str = ""
    ) -> Component:
        """A direction as a component of this index: its activation is ReLU(h·u), or h·u if `signed`, with u = vector / |vector|, on all kept tokens.

        h is read from shards of the corpus that hold the site, or from a forward of the model over all of it. Raises `QueryInvalid` for a zero
        vector, `ShapeMismatch`, `SiteNotFound`.
        """
        where = Site.parse(site) if isinstance(site, str) else site
        return component(self.store, where, vector, source=source, signed=signed, name=name)

    def downstream(
        self,
        what: int | Component,
        *,
        rank: str = "twera",
        limit: int = 20,
        model: Model | None = None,
        sample: int = 64,
        over: Summary | None = None,
    ) -> Links:
        """The features that a component feeds along the residual stream: `downstream.py` has the formulas.

        `rank`: `twera` or `era`. With a `model` also the features that it keeps from firing (`would_suppress`), measured on `sample` of its
        firings in the index' corpus. `over`: on the corpus of that summary instead of the index' own. Raises `FeatureNotFound`, `QueryInvalid` (a
        model and a summary, too), `ShapeMismatch` (another model, or a summary of another dictionary).
        """
        if model is not None and over is not None:
            do = "Ask for one of them: what it silences is measured on the index' own corpus."
            raise QueryInvalid("links over a summary do not say what is silenced.", got="model= and over=", wanted="one of them", do=do)
        found = self._links(what, way="downstream", rank=rank, limit=limit, over=over)
        if model is None:
            return found
        released = inhibition.suppressed(self.store, what, model=model, sample=sample, limit=limit)
        return replace(found, would_suppress=released.features, sample=released.n_tokens)

    def upstream(self, what: int | Component, *, rank: str = "twera", limit: int = 20, over: Summary | None = None) -> Links:
        """The features that feed a component; as `downstream`. A signed direction raises `QueryInvalid`."""
        return self._links(what, way="upstream", rank=rank, limit=limit, over=over)

    def _links(self, what: int | Component, *, way: Literal["downstream", "upstream"], rank: str, limit: int, over: Summary | None) -> Links:
        if over is not None:
            over.check(self.store)
        return downstream.links(self.store, what, way=way, rank=rank, limit=limit, over=over)

    def summarise(
        self,
        what: Sequence[int | Component],
        *,
        corpus: Corpus,
        model: Model,
        out: str | Path,
        shards: Shards | None = None,
        progress: Progress | None = None,
    ) -> Summary:
        """What links of features and directions need to know of a corpus of which nothing else is kept: see `summaries.summarise`."""
        return summaries.summarise(self.store, what, corpus=corpus, model=model, out=out, shards=shards, progress=progress)

    def coactive(self, feature: int, *, rank: str = "jaccard", at_least: int = 5, limit: int = 20) -> tuple[Coactive, ...]:
        """The features that fire on the same tokens, `at_least` so many times; `rank`: `jaccard`, `pmi` or `count`. Raises as `downstream`."""
        return coactive.coactive(self.store, self.store.known(feature), rank=rank, at_least=at_least, limit=limit)
