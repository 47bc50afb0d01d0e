"""What a dream can drive: a feature, a direction, or what a feature feeds."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import numpy as np
import torch

from microtome.errors import QueryInvalid
from microtome.features.components import Component
from microtome.features.index import FeatureIndex
from microtome.features.members import Members
from microtome.features.postings import Firings
from microtome.models import Site
from microtome.shapes import Float, Tensor


@runtime_checkable
class Target(Protocol):
    """A number for every token, and a slope towards it."""

    @property
    def name(self) -> str:
        """How it is called."""
        ...

    @property
    def feature(self) -> int | None:
        """The feature that it is about, if it is about one …"""
        ...

    @property
    def label(self) -> str:
        """… and that one's label."""
        ...

    @property
    def sites(self) -> tuple[Site, ...]:
        """What is read of the model."""
        ...

    @property
    def firings(self) -> Firings:
        """Where it is active in the store, and how strongly."""
        ...

    @property
    def key(self) -> str:
        """What it is, exactly: two targets of the same key give the same dream."""
        ...

    def climb(self, rows: Mapping[Site, Tensor]) -> Float[Tensor, "n"]:
        """What evolution maximises, with a gradient: the pre-activation up to a constant, so that a silent component can be climbed to."""
        ...

    def measure(self, rows: Mapping[Site, Tensor]) -> Float[Tensor, "n"]:
        """The activation itself."""
        ...


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureSum:
    """A weighted sum of features of an index: w · a."""

    name: str
    feature: int | None
    label: str
    sites: tuple[Site, ...]
    firings: Firings
    members: Members
    terms: tuple[tuple[int, float], ...]
    """Feature and weight."""

    @property
    def key(self) -> str:
        """See `Target`."""
        return " + ".join(f"{weight!r} {feature}" for feature, weight in self.terms)

    def climb(self, rows: Mapping[Site, Tensor]) -> Float[Tensor, "n"]:
        """See `Target`."""
        parts: list[Tensor] = []
        for feature, weight in self.terms:
            place = self.members.numbering.place(feature)
            dictionary = self.members.dictionaries[place.member]
            x = torch.cat([rows[site] for site in dictionary.inputs], 1)
            parts.append(weight * (x @ dictionary.encoder_direction(place.number).detach().to(x)))
        return torch.stack(parts).sum(0)

    @torch.no_grad()
    def measure(self, rows: Mapping[Site, Tensor]) -> Float[Tensor, "n"]:
        """See `Target`."""
        total = torch.zeros(len(next(iter(rows.values()))))
        for member in sorted({self.members.numbering.place(feature).member for feature, _ in self.terms}):
            csr = self.members.dictionaries[member].encode(self.members.rows(rows, member)).to_csr()
            at = torch.repeat_interleave(torch.arange(len(total)), torch.diff(csr.indptr).long())
            for feature, weight in self.terms:
                place = self.members.numbering.place(feature)
                if place.member == member:
                    mine = csr.indices == place.number
                    total.index_add_(0, at[mine], weight * csr.values[mine].float().clamp_min(0))
        return total


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """A direction: h·u, cut at 0 unless it is signed."""

    name: str
    feature: int | None
    label: str
    sites: tuple[Site, ...]
    firings: Firings
    vector: Float[Tensor, "d_model"]
    signed: bool

    @property
    def key(self) -> str:
        """See `Target`."""
        return f"{self.sites[0]} {self.signed} {hashlib.sha256(self.vector.float().cpu().numpy().tobytes()).hexdigest()[:16]}"

    def climb(self, rows: Mapping[Site, Tensor]) -> Float[Tensor, "n"]:
        """See `Target`."""
        x = rows[self.sites[0]]
        return x @ self.vector.to(x)

    @torch.no_grad()
    def measure(self, rows: Mapping[Site, Tensor]) -> Float[Tensor, "n"]:
        """See `Target`."""
        found = self.climb(rows).float().cpu()
        return found if self.signed else found.clamp_min(0)


def feature_target(index: FeatureIndex, feature: int) -> FeatureSum:
    """A feature. Raises `FeatureNotFound`, and `QueryInvalid` for one that never fires in the store: there is nothing to hold a dream against."""
    store = index.store
    known = store.known(feature)
    return _sum(index, [(known, 1.0)], name=f"feature {known}", feature=known)


def direction_target(component: Component) -> Projection:
    """A direction, as `FeatureIndex.component` makes it."""
    firings = Firings(positions=component.positions, values=component.values)
    _check(firings, component.name)
    return Projection(
        name=component.name,
        feature=None,
        label="",
        sites=(component.site,),
        firings=firings,
        vector=component.vector,
        signed=component.signed,
    )


def downstream_target(index: FeatureIndex, feature: int, *, limit: int = 8) -> FeatureSum:
    """What a feature feeds: the activations of the `limit` features that it promotes most, weighted by TWERA so that the weights sum to 1.

    Raises `QueryInvalid` for a feature that promotes nothing.
    """
    links = index.downstream(feature, limit=limit).promotes
    if not links:
        do = "Take a feature of an earlier layer in an index of several dictionaries."
        raise QueryInvalid(f"feature {feature} promotes no feature of this index.", got="no links", wanted="a feature that feeds others", do=do)
    total = sum(link.twera for link in links)
    return _sum(index, [(link.feature, link.twera / total) for link in links], name=f"what feature {feature} feeds", feature=feature)


def _sum(index: FeatureIndex, terms: list[tuple[int, float]], *, name: str, feature: int) -> FeatureSum:
    store = index.store
    at: dict[int, float] = {}
    for term, weight in terms:
        found = store.postings.feature(term)
        for position, value in zip(found.positions.tolist(), found.values.tolist(), strict=True):
            at[position] = at.get(position, 0.0) + weight * value
    positions = np.array(sorted(at), dtype=np.int64)
    firings = Firings(positions=positions, values=np.array([at[int(p)] for p in positions], dtype=np.float32))
    _check(firings, name)
    members = {store.numbering.place(term).member for term, _ in terms}
    sites = sorted({site for member in members for site in store.members.dictionaries[member].inputs})
    return FeatureSum(
        name=name,
        feature=feature,
        label=store.labels()[feature],
        sites=tuple(sites),
        firings=firings,
        members=store.members,
        terms=tuple(terms),
    )


def _check(firings: Firings, name: str) -> None:
    if not len(firings) or float(firings.values.max()) <= 0:
        do = "Take one that fires: `microtome show INDEX` counts the dead ones."
        raise QueryInvalid(f"{name} never fires in the store.", got="no activation above 0", wanted="a largest activation to compare with", do=do)
