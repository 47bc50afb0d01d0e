"""What every edit is: a frozen value with a kind, a where-clause and a dose, JSON both ways, and its fingerprint as identity."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from math import isfinite
from typing import Any, ClassVar, TypeAlias, TypeVar

from microtome.config import fingerprint, from_dict, to_dict
from microtome.dictionaries import SparseCodes
from microtome.errors import EditInvalid
from microtome.models import Site
from microtome.registry import Registry
from microtome.shapes import Tensor
from microtome.steering.component import Component, Feature, Spots, Workshop
from microtome.steering.where import EVERYWHERE, Where

Change: TypeAlias = Callable[[Tensor, Spots], Tensor]
"""Takes the values of the tokens `[n, width]` in fp32 and gives what is to be added to each at dose 1."""
Read: TypeAlias = Callable[[Tensor, dict[str, SparseCodes]], Tensor]
"""Takes the values of the tokens `[n, width]` in fp32 and gives one number each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """A number per token that is read at one site and used there or later."""

    key: str
    """Equal keys read the same."""
    site: Site
    read: Read


def activation_of(feature: Feature, workshop: Workshop) -> Reading:
    """Reads what a feature is."""
    site = workshop.reading_site(feature)
    return Reading(key=f"{feature.dictionary}/{feature.index}", site=site, read=lambda x, codes: workshop.activation(feature, x, codes))


@dataclass(frozen=True, kw_only=True)
class Edit(ABC):
    """A change of activations: x ← x + dose · change(x) at the tokens of `where`.

    A subclass is a frozen dataclass under `@EDITS.register("kind")` with that `kind`, and defines `places` and `prepare`. Dose 0 changes no bit.
    """

    kind: ClassVar[str]
    is_additive: ClassVar[bool] = False
    """Whether the change does not depend on other edits of the set: it is read from what the model computed. Such edits never conflict."""

    may_skip: ClassVar[bool] = False
    """Whether the change is exactly zero at some of the tokens selected; those are not counted as edited."""

    where: Where = EVERYWHERE
    dose: float = 1.0
    """The share of the change that is made: 0 none, 1 all of it, 2 twice (an ablation becomes a reflection). For sliders and dose curves."""

    def __post_init__(self) -> None:
        if not isfinite(self.dose):
            raise EditInvalid(f"the dose of {self.kind} is not finite.", got=self.dose, wanted="a finite number", do="Correct it.")

    @property
    def is_off(self) -> bool:
        """Whether it changes nothing, by its own fields."""
        return self.dose == 0

    @abstractmethod
    def places(self, workshop: Workshop) -> tuple[Site, ...]:
        """The sites it changes."""

    @abstractmethod
    def prepare(self, site: Site, workshop: Workshop) -> Change:
        """The change at one of `places`, with everything that can be looked up looked up, and all that can be refused refused."""

    def readings(self, workshop: Workshop) -> tuple[Reading, ...]:
        """Numbers it needs from this or earlier sites; a change finds them in `spots.values`."""
        del workshop
        return ()

    def claim(self) -> str | None:
        """What only one edit of a set may decide at a token, if there is such a thing: the value of a feature."""
        return None

    def check(self, workshop: Workshop) -> None:
        """Raise if it does not fit the model: a layer that is not there, another width, a maximum that is not known."""
        for site in self.places(workshop):
            workshop.model.site(site)
            self.prepare(site, workshop)
        self.readings(workshop)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits: equal edits, equal fingerprints."""
        return fingerprint(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """`{"edit": kind, …fields}`."""
        return {"edit": self.kind, **{item.name: to_dict(getattr(self, item.name)) for item in fields(self)}}

    @staticmethod
    def from_json(value: object) -> "Edit":
        """The inverse of `to_json` for every registered kind. Raises `EditInvalid`, `NotRegistered`, `ConfigError`."""
        return edit_from_json(value)


EDITS: Registry[type[Edit]] = Registry("edit")
E = TypeVar("E", bound=Edit)


def registered(kind: str) -> Callable[[type[E]], type[E]]:
    """`EDITS.register(kind)` for a class that stays known by its own type."""

    def add(cls: type[E]) -> type[E]:
        EDITS.register(kind)(cls)
        return cls

    return add


def edit_from_json(value: object) -> Edit:
    """An edit from `{"edit": kind, …}`."""
    if isinstance(value, Edit):
        return value
    if not isinstance(value, Mapping) or not isinstance(value.get("edit"), str):
        got = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
        raise EditInvalid("this is not an edit.", got=got, wanted='{"edit": kind, …}', do=f"Name its kind: {', '.join(EDITS)}.")
    kind = EDITS.get(str(value["edit"]))
    given = {str(name): item for name, item in value.items() if name != "edit"}
    return from_dict(kind, given, where=str(value["edit"]))


def sites_of(component: Component, sites: tuple[Site, ...], workshop: Workshop) -> tuple[Site, ...]:
    """`sites` if any are given, else the component's own."""
    return sites or workshop.home(component)
