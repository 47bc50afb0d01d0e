"""How strong an edit is: a number with its unit, never a bare one."""

import re
from dataclasses import dataclass
from math import isfinite
from typing import Literal, TypeAlias, get_args

from microtome.errors import EditInvalid, nearest

Unit: TypeAlias = Literal["raw", "max_activation", "current", "residual_norm", "percentile"]
UNITS: tuple[Unit, ...] = get_args(Unit)


@dataclass(frozen=True)
class Strength:
    """`value` × `unit`. A value that is not finite, or an unknown unit, raises `EditInvalid`."""

    value: float
    unit: Unit
    """`raw`: the model's own units (of `Add` and `Clamp`: multiples of the vector, activation units). `max_activation`: of the maximum in a
    corpus. `current`: of what the token has. `residual_norm`: of the length of the token's vector. `percentile`: of a calibration, 0 to 100."""

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise EditInvalid(f'there is no unit "{self.unit}".', got=self.unit, wanted=", ".join(UNITS), do=nearest(str(self.unit), UNITS))
        if not isfinite(self.value):
            raise EditInvalid("a strength is not finite.", got=self.value, wanted="a finite number", do="Correct it.")

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit}"

    @classmethod
    def parse(cls, text: str) -> "Strength":
        """`4` (raw), `0.1norm`, `5max`, `2current`, `p25`. Else `EditInvalid`."""
        match = re.fullmatch(r"(p)?([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(raw|norm|max|current)?", text.strip())
        if match is None or (match[1] and match[3]):
            wanted = "4 (raw), 0.1norm, 5max, 2current or p25"
            raise EditInvalid(f'"{text}" is no strength.', got=text, wanted=wanted, do="Write a number and its unit.")
        units: dict[str | None, Unit] = {None: "raw", "raw": "raw", "norm": "residual_norm", "max": "max_activation", "current": "current"}
        return cls(float(match[2]), "percentile" if match[1] else units[match[3]])


def raw(value: float) -> Strength:
    """In the model's own units."""
    return Strength(float(value), "raw")


def times_max(value: float) -> Strength:
    """Multiples of the maximum that the component reaches in a corpus."""
    return Strength(float(value), "max_activation")


def times_current(value: float) -> Strength:
    """Multiples of what the component is at the token."""
    return Strength(float(value), "current")


def of_norm(value: float) -> Strength:
    """A fraction of the length of the token's vector at the site."""
    return Strength(float(value), "residual_norm")


def percentile(value: float) -> Strength:
    """A percentile of the component's calibration."""
    return Strength(float(value), "percentile")
