"""Edits along one component: add, ablate, scale, set and cap its coordinate. With û the unit vector and c = ⟨x, û⟩:

| edit | becomes |
|---|---|
| `Add` | x + a û |
| `Ablate` | x − c û |
| `Scale` | x + γ c û |
| `SetCoordinate` | x + (a − c) û |
| `Cap` (floor) | x − min(c − τ, 0) û |
| `Cap` (ceil) | x − max(c − τ, 0) û |
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch

from microtome.errors import EditInvalid
from microtome.models import Site
from microtome.shapes import Tensor
from microtome.steering.component import READ_COMPONENT, Component, Feature, Resolved, Spots, Workshop
from microtome.steering.edit import Change, Edit, Reading, activation_of, registered, sites_of
from microtome.steering.strength import UNITS, Strength, Unit

Amount = Callable[[Tensor, Spots], Tensor]
"""For the tokens `[n, width]` a coordinate along the unit vector: `[n]`, or `[]` where it is the same for all."""


def refuse_unit(kind: str, strength: Strength, *, allowed: tuple[Unit, ...]) -> None:
    """Raise `EditInvalid` unless the operation knows the strength's unit."""
    if strength.unit not in allowed:
        do = "Give the strength in one of these units."
        raise EditInvalid(f'{kind} takes no strength "{strength.unit}".', got=strength, wanted=", ".join(allowed), do=do)


def amount_of(strength: Strength, resolved: Resolved, *, raw_unit: float, key: str | None = None) -> Amount:
    """The coordinate that a strength means; `raw_unit` is the coordinate of one raw unit, `key` the reading of a feature's activation."""
    value = strength.value
    if strength.unit == "residual_norm":
        return lambda x, _: value * x.norm(dim=-1)
    if strength.unit == "current":
        if key is not None:
            return lambda _, spots: value * resolved.norm * spots.values[key]
        return lambda x, _: value * resolved.coordinate(x)
    fixed = torch.tensor(value * raw_unit if strength.unit == "raw" else resolved.length(strength), device=resolved.unit_vector.device)
    return lambda _, __: fixed


@dataclass(frozen=True, kw_only=True)
class Along(Edit):
    """An edit along one component."""

    component: Component = field(metadata=READ_COMPONENT)
    sites: tuple[Site, ...] = ()
    """Where; none: the component's own sites."""

    def places(self, workshop: Workshop) -> tuple[Site, ...]:
        return sites_of(self.component, self.sites, workshop)


_NONE = torch.empty(0, dtype=torch.int64)
_NOWHERE = Spots(rows=_NONE, columns=_NONE)


@registered("add")
@dataclass(frozen=True, kw_only=True)
class Add(Along):
    """x + a û. A strength of `raw` 1 adds the vector as it is stored; of a feature, `max_activation` 5 adds five times what it adds at most.

    With `residual_norm` a is that share of |x| (as emotion vectors are steered), with `current` a multiple of what is there.
    """

    kind: ClassVar[str] = "add"
    is_additive: ClassVar[bool] = True

    strength: Strength

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unit("Add", self.strength, allowed=UNITS)

    @property
    def is_off(self) -> bool:
        return super().is_off or (self.strength.value == 0 and self.strength.unit != "percentile")

    def readings(self, workshop: Workshop) -> tuple[Reading, ...]:
        if isinstance(self.component, Feature) and self.strength.unit == "current":
            return (activation_of(self.component, workshop),)
        return ()

    def prepare(self, site: Site, workshop: Workshop) -> Change:
        resolved = workshop.resolve(self.component, site)
        key = next((reading.key for reading in self.readings(workshop)), None)
        amount = amount_of(self.strength, resolved, raw_unit=resolved.norm, key=key)
        if self.strength.unit in ("raw", "max_activation", "percentile"):
            fixed = amount(resolved.unit_vector, _NOWHERE) * resolved.unit_vector
            return lambda x, _: fixed.expand_as(x)
        return lambda x, spots: amount(x, spots)[..., None] * resolved.unit_vector


@registered("ablate")
@dataclass(frozen=True, kw_only=True)
class Ablate(Along):
    """x − ⟨x, û⟩ û: nothing is left along the component (directional ablation, Arditi et al. 2024, eq. 4). Dose 2 reflects.

    `ablated_weights` is the same as an edit of the weights, where every write to the residual stream is edited.
    """

    kind: ClassVar[str] = "ablate"

    def prepare(self, site: Site, workshop: Workshop) -> Change:
        resolved = workshop.resolve(self.component, site)
        return lambda x, _: -resolved.coordinate(x)[:, None] * resolved.unit_vector


@registered("scale")
@dataclass(frozen=True, kw_only=True)
class Scale(Along):
    """x + γ ⟨x, û⟩ û: the coordinate times (1 + γ), with γ a strength of `current`."""

    kind: ClassVar[str] = "scale"

    strength: Strength

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unit("Scale", self.strength, allowed=("current",))

    @property
    def is_off(self) -> bool:
        return super().is_off or self.strength.value == 0

    def prepare(self, site: Site, workshop: Workshop) -> Change:
        resolved, gamma = workshop.resolve(self.component, site), self.strength.value
        return lambda x, _: (gamma * resolved.coordinate(x))[:, None] * resolved.unit_vector


@registered("set")
@dataclass(frozen=True, kw_only=True)
class SetCoordinate(Along):
    """x + (a − ⟨x, û⟩) û: the coordinate becomes a. `raw` is in the model's units along the unit vector."""

    kind: ClassVar[str] = "set"

    strength: Strength

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unit("SetCoordinate", self.strength, allowed=("raw", "max_activation", "residual_norm", "percentile"))

    def prepare(self, site: Site, workshop: Workshop) -> Change:
        resolved = workshop.resolve(self.component, site)
        amount = amount_of(self.strength, resolved, raw_unit=1.0)
        return lambda x, spots: (amount(x, spots) - resolved.coordinate(x))[:, None] * resolved.unit_vector


@registered("cap")
@dataclass(frozen=True, kw_only=True)
class Cap(Along):
    """Keeps the coordinate c = ⟨x, û⟩ at or above (`floor`) or at or below (`ceil`) the threshold τ, and changes nothing inside.

    floor: x − min(c − τ, 0) û.  ceil: x − max(c − τ, 0) û.  floor(v, τ) and ceil(−v, −τ) are the same; beware of published vectors whose sign
    is turned. τ is `raw` in the model's units along û, or a `percentile` of the direction's calibration ("The Assistant Axis", 2601.10387:
    a floor at the 25th on a band of layers). Of the negated direction, the p-th percentile is minus the (100 − p)-th.
    """

    kind: ClassVar[str] = "cap"
    may_skip: ClassVar[bool] = True

    strength: Strength
    side: Literal["floor", "ceil"]

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unit("Cap", self.strength, allowed=("raw", "max_activation", "residual_norm", "percentile"))
        if self.side not in ("floor", "ceil"):
            raise EditInvalid("a cap has no such side.", got=self.side, wanted="floor, ceil", do="Say whether it bounds from below or from above.")

    def prepare(self, site: Site, workshop: Workshop) -> Change:
        resolved = workshop.resolve(self.component, site)
        amount = amount_of(self.strength, resolved, raw_unit=1.0)

        def change(x: Tensor, spots: Spots) -> Tensor:
            beyond = resolved.coordinate(x) - amount(x, spots)
            beyond = beyond.clamp(max=0) if self.side == "floor" else beyond.clamp(min=0)
            return -beyond[:, None] * resolved.unit_vector

        return change
