"""Edits that give a feature of a dictionary another activation, and keep all else.

With f the feature's activation as the dictionary reads it, W_dec what one unit of it writes, and e the reconstruction's error, x = x̂ + e:

| edit | f becomes | x becomes |
|---|---|---|
| `Clamp` | a | x + (a − f) W_dec |
| `Multiply` | m f | x + (m − 1) f W_dec |
"""

from dataclasses import dataclass
from typing import ClassVar

from microtome.errors import EditInvalid
from microtome.models import Site
from microtome.steering.along import refuse_unit
from microtome.steering.component import Feature, Workshop
from microtome.steering.edit import Change, Edit, Reading, activation_of, registered, sites_of
from microtome.steering.strength import Strength


@dataclass(frozen=True, kw_only=True)
class OfFeature(Edit):
    """An edit that gives a feature another activation and keeps all else, the reconstruction's error included: x + (new − f) W_dec.

    Nothing is decoded, so the error never enters. Written at every site that the dictionary writes.
    """

    is_additive: ClassVar[bool] = True

    feature: Feature
    sites: tuple[Site, ...] = ()
    """Some of the sites that the dictionary writes; none: all of them."""

    def places(self, workshop: Workshop) -> tuple[Site, ...]:
        writes = workshop.dictionary(self.feature).writes
        for site in self.sites:
            if site not in writes:
                wanted = ", ".join(map(str, writes))
                raise EditInvalid(f"{self.feature.dictionary} does not write {site}.", got=site, wanted=wanted, do="Choose a site that it writes.")
        return sites_of(self.feature, self.sites, workshop)

    def claim(self) -> str | None:
        return f"{self.feature.dictionary}/{self.feature.index}"

    def readings(self, workshop: Workshop) -> tuple[Reading, ...]:
        return (activation_of(self.feature, workshop),)


@registered("clamp")
@dataclass(frozen=True, kw_only=True)
class Clamp(OfFeature):
    """x + (a − f) W_dec: the feature becomes a, usually a multiple of its maximum ("Scaling Monosemanticity", −10 to 10; negative is allowed).

    a = 0 removes the feature; it is dose 0 that changes nothing.
    """

    kind: ClassVar[str] = "clamp"

    strength: Strength

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unit("Clamp", self.strength, allowed=("raw", "max_activation"))

    def prepare(self, site: Site, workshop: Workshop) -> Change:
        resolved = workshop.resolve(self.feature, site)
        wanted = self.strength.value if self.strength.unit == "raw" else resolved.length(self.strength) / resolved.norm
        vector, key = resolved.unit_vector * resolved.norm, activation_of(self.feature, workshop).key
        return lambda _, spots: (wanted - spots.values[key])[:, None] * vector


@registered("multiply")
@dataclass(frozen=True, kw_only=True)
class Multiply(OfFeature):
    """x + (m − 1) f W_dec: the feature times m, a strength of `current`; negative m turns it round (supernodes are suppressed with −1 … −10)."""

    kind: ClassVar[str] = "multiply"
    may_skip: ClassVar[bool] = True

    strength: Strength

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unit("Multiply", self.strength, allowed=("current",))

    @property
    def is_off(self) -> bool:
        return super().is_off or self.strength.value == 1

    def prepare(self, site: Site, workshop: Workshop) -> Change:
        resolved, factor = workshop.resolve(self.feature, site), self.strength.value - 1
        vector, key = resolved.unit_vector * resolved.norm, activation_of(self.feature, workshop).key
        return lambda _, spots: (factor * spots.values[key])[:, None] * vector
