"""What edits act along: a direction, or a feature of a dictionary; and the workshop that finds their vectors for one model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from typing import Any, TypeAlias

import torch

from microtome.config import from_dict
from microtome.dictionaries import Dictionary, SparseCodes
from microtome.directions import Calibration, Direction
from microtome.errors import EditInvalid, FeatureNeverActive, FeatureNotFound, ShapeMismatch, StrengthUncalibrated, ZeroDirection, nearest
from microtome.models import Model, Site
from microtome.shapes import Bool, Float, Int, Tensor
from microtome.steering.strength import Strength


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One feature of a dictionary that is given by name when edits are applied."""

    dictionary: str
    """Its name, or an artifact's id: a key of the mapping given on applying."""
    index: int
    max_activation: float | None = None
    """The feature's largest activation in a corpus (its card shows it); needed for strengths in its multiples."""

    def __post_init__(self) -> None:
        if self.max_activation is not None and not (isfinite(self.max_activation) and self.max_activation >= 0):
            got, do = self.max_activation, "Take it from the feature's card."
            raise EditInvalid(f"the maximum of {self} is no activation.", got=got, wanted="a finite number from 0", do=do)

    def __str__(self) -> str:
        return f"feature {self.index} of {self.dictionary}"


Component: TypeAlias = Direction | Feature


def component_from_json(value: object) -> Component:
    """A feature if it names a dictionary, else a direction."""
    if isinstance(value, Direction | Feature):
        return value
    if isinstance(value, Mapping) and "dictionary" in value:
        return from_dict(Feature, value)
    return Direction.from_json(value)


READ_COMPONENT: Mapping[str, Any] = {"from_json": component_from_json}
"""Metadata of a field that holds a component."""


@dataclass(kw_only=True, eq=False)
class Spots:
    """The tokens of one forward that an edit acts on."""

    rows: Int[Tensor, "n"]
    columns: Int[Tensor, "n"]
    """Of this forward, from 0."""
    first_column: int = 0
    """Which column of the batch the forward's first is."""
    starts: Int[Tensor, "batch"] = field(default_factory=lambda: torch.zeros(1, dtype=torch.int64))
    """The column of each row's first token."""
    mask: Bool[Tensor, "batch pos"] = field(default_factory=lambda: torch.zeros(1, 1, dtype=torch.bool))
    """What the edit selects in the whole batch."""
    is_all: bool = False
    """Whether these are all tokens of the forward, in order."""
    values: dict[str, Tensor] = field(default_factory=lambda: {})
    """What readings saw in this forward, by their key."""

    @property
    def positions(self) -> Int[Tensor, "n"]:
        """Of each, its number in its own row, padding not counted."""
        return self.columns + self.first_column - self.starts[self.rows]

    @property
    def ranks(self) -> Int[Tensor, "n"]:
        """Of each, its number among the tokens of its row that the edit selects."""
        return (self.mask.long().cumsum(1) - 1)[self.rows, self.columns + self.first_column]


@dataclass(frozen=True, kw_only=True, eq=False)
class Resolved:
    """A component at one site of one model."""

    label: str
    unit_vector: Float[Tensor, "width"]
    norm: float
    """Length of the vector that one unit of the component is."""
    peak: float | None
    """The largest coordinate in a corpus, along the unit vector."""
    calibration: Calibration | None
    feature: Feature | None

    def coordinate(self, x: Float[Tensor, "n width"]) -> Float[Tensor, "n"]:
        """⟨x, û⟩."""
        return x @ self.unit_vector

    def length(self, strength: Strength) -> float:
        """A strength that is the same at every token, as a coordinate along the unit vector: `max_activation`, `percentile`.

        Raises `StrengthUncalibrated`, `FeatureNeverActive`.
        """
        if strength.unit == "percentile":
            if self.calibration is None:
                do = "Calibrate the direction: direction.calibrated(projections, source=…)."
                what = f"the percentile {strength.value:g} of {self.label} is not known."
                raise StrengthUncalibrated(what, got="no calibration", wanted="percentiles of a corpus", do=do)
            return self.calibration.at(strength.value)
        assert strength.unit == "max_activation"
        if self.peak is None:
            do = "Give Feature(…, max_activation=…)." if self.feature else "Calibrate the direction: direction.calibrated(projections, source=…)."
            raise StrengthUncalibrated(f"the maximum of {self.label} is not known.", got="none", wanted="the maximum in a corpus", do=do)
        if self.feature is not None and self.peak == 0:
            what = f"{self.label} never fired, so multiples of its maximum mean nothing."
            raise FeatureNeverActive(what, got="maximum 0", wanted="a feature that fires", do="Choose another feature, or another unit.")
        return strength.value * self.peak


class Workshop:
    """A model and the dictionaries by name: finds the vectors that edits need."""

    def __init__(self, model: Model, dictionaries: Mapping[str, Dictionary] | None = None) -> None:
        self.model = model
        self._given = dictionaries or {}
        self._ready: dict[str, Dictionary] = {}

    @cached_property
    def device(self) -> torch.device:
        return self.model.device

    def dictionary(self, feature: Feature) -> Dictionary:
        """The dictionary of a feature, on the model's device. Raises `FeatureNotFound`, `SiteNotFound`, `ShapeMismatch`."""
        name = feature.dictionary
        if name not in self._given:
            do = nearest(name, self._given) if self._given else "Give dictionaries={name: dictionary} on applying."
            raise FeatureNotFound(f'no dictionary "{name}" was given.', got=name, wanted=", ".join(self._given) or "dictionaries", do=do)
        if name not in self._ready:
            found = self._given[name]
            for site in (found.reads, *found.writes):
                self.model.site(site)
            if found.d_in != self.model.width(found.reads) and len(_inputs(found)) == 1:
                do = "Use the dictionary with the model it was made for."
                got, wanted = found.d_in, self.model.width(found.reads)
                raise ShapeMismatch(f'the dictionary "{name}" does not fit {found.reads}.', got=got, wanted=wanted, do=do)
            self._ready[name] = found if self.device.type == "cpu" else found.to(self.device)
        known = self._ready[name]
        if not 0 <= feature.index < known.d_dict:
            raise FeatureNotFound(f"there is no {feature}.", got=feature.index, wanted=f"0 to {known.d_dict - 1}", do="Give a number in that range.")
        return known

    def home(self, component: Component) -> tuple[Site, ...]:
        """Where a component is written unless an edit says otherwise."""
        return self.dictionary(component).writes if isinstance(component, Feature) else (component.site,)

    def resolve(self, component: Component, site: Site) -> Resolved:
        """The vector of a component at a site. Raises what `Direction.fits` raises, `FeatureNotFound`, `ZeroDirection`."""
        if isinstance(component, Direction):
            component.fits(self.model, site=site)
            unit, peak = component.unit_vector.to(self.device), component.calibration and component.calibration.maximum
            label = f'"{component.name}"'
            return Resolved(label=label, unit_vector=unit, norm=component.norm, peak=peak, calibration=component.calibration, feature=None)
        dictionary = self.dictionary(component)
        vector = dictionary.direction(component.index, write=site if site in dictionary.writes else None).detach().to(self.device).double()
        if len(vector) != self.model.width(site):
            got, do = len(vector), "Use it at a site of its width."
            raise ShapeMismatch(f"{component} does not fit {site}.", got=got, wanted=self.model.width(site), do=do)
        norm = float(vector.norm())
        if norm == 0:
            raise ZeroDirection(f"the direction of {component} has length 0.", got="zeros", wanted="a length", do="Choose another feature.")
        top = component.max_activation
        peak = None if top is None else top * norm
        return Resolved(label=str(component), unit_vector=(vector / norm).float(), norm=norm, peak=peak, calibration=None, feature=component)

    def reading_site(self, feature: Feature) -> Site:
        """Where a feature's activation is read. A dictionary of several inputs, or of rows that are not tokens, raises `EditInvalid`."""
        dictionary = self.dictionary(feature)
        if len(_inputs(dictionary)) != 1 or dictionary.pooling != "token":
            got = f"inputs {', '.join(map(str, _inputs(dictionary)))}, rows of a {dictionary.pooling}"
            do = "Use its direction: Direction(vector=dictionary.direction(i, write=site), …)."
            raise EditInvalid(f"{feature} cannot be read at a token.", got=got, wanted="one input, rows of a token", do=do)
        return dictionary.reads

    def activation(self, feature: Feature, x: Float[Tensor, "n width"], codes: dict[str, SparseCodes]) -> Float[Tensor, "n"]:
        """What a feature is on rows read at its site; `codes` keeps what was encoded."""
        dictionary = self.dictionary(feature)
        if feature.dictionary not in codes:
            codes[feature.dictionary] = dictionary.encode(x)
        found = codes[feature.dictionary]
        return torch.where(found.indices == feature.index, found.values, 0).sum(1).float()


def _inputs(dictionary: Any) -> tuple[Site, ...]:
    return tuple(dictionary.inputs)
