"""One vector with a meaning."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from microtome.config import fingerprint, from_dict, to_dict
from microtome.directions.calibration import Calibration
from microtome.errors import DirectionForeign, DirectionInvalid, ShapeMismatch, ZeroDirection
from microtome.models import Model, Site
from microtome.shapes import Float, Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Direction:
    """A vector at a site. Two are equal when all they say is equal; their fingerprints then agree.

    A vector that is not finite raises `DirectionInvalid`, one of length 0 `ZeroDirection`.
    """

    name: str
    site: Site
    """Where it was read, and where edits write it unless they say otherwise."""
    vector: Float[Tensor, "width"]
    """fp32 on the CPU, in the model's units, of the length that it was measured with."""
    unit: str = "raw"
    """What the vector's length is: `raw` (a difference as measured), `unit` (1), or words."""
    sign: str = ""
    """What a positive coordinate means, in words: `towards the assistant`."""
    reference: str = ""
    """What was subtracted: the opposite class, the mean of other classes, a default persona …"""
    model: str | None = None
    """Fingerprint of the model it was read in; None fits any model of its width."""
    provenance: Mapping[str, Any] = field(default_factory=lambda: {})
    """What made it: recipe, config, ids of artifacts."""
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        vector = self.vector.detach().to(device="cpu", dtype=torch.float32).clone().contiguous()
        if vector.ndim != 1 or not bool(vector.isfinite().all()):
            got = f"shape {tuple(vector.shape)}, {int((~vector.isfinite()).sum())} values that are not finite"
            do = "Make the direction again from finite activations."
            raise DirectionInvalid(f'the direction "{self.name}" is not a finite vector.', got=got, wanted="one axis of finite numbers", do=do)
        if not bool(vector.any()):
            do = "Check that the two sets it separates are not the same."
            raise ZeroDirection(f'the direction "{self.name}" has length 0.', got="zeros", wanted="a vector with a length", do=do)
        object.__setattr__(self, "vector", vector)

    @property
    def width(self) -> int:
        return len(self.vector)

    @cached_property
    def norm(self) -> float:
        """The length of `vector`, in the model's units."""
        return float(self.vector.double().norm())

    @cached_property
    def unit_vector(self) -> Float[Tensor, "width"]:
        """v/‖v‖, fp32."""
        return (self.vector.double() / self.vector.double().norm()).float()

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that name all of it, the vector to the bit."""
        return fingerprint(self.to_json())

    def project(self, x: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows"]:
        """The coordinate ⟨x, v⟩/‖v‖ of each row, fp32."""
        if x.shape[-1] != self.width:
            do = f"Read activations at {self.site} of the model it was made for."
            raise ShapeMismatch(f'the rows do not fit the direction "{self.name}".', got=x.shape[-1], wanted=self.width, do=do)
        return x.float() @ self.unit_vector.to(x.device)

    def calibrated(self, projections: Float[Tensor, "n"], *, source: str) -> "Direction":
        """The same direction, knowing where coordinates of a corpus lie."""
        return replace(self, calibration=Calibration.of(projections, source=source))

    def negated(self) -> "Direction":
        """−v: what was high is low, and so is the calibration."""
        sign = self.sign.removeprefix("not ") if self.sign.startswith("not ") else f"not {self.sign}" if self.sign else ""
        turned = None if self.calibration is None else self.calibration.negated()
        return replace(self, vector=-self.vector, sign=sign, calibration=turned)

    def fits(self, model: Model, *, site: Site | None = None) -> None:
        """Raise unless it can be used at `site` (default: its own) of this model.

        `SiteNotFound` for a layer that is not there, `DirectionForeign` for another model's fingerprint, `ShapeMismatch` for another width.
        """
        place = model.site(site or self.site)
        if self.model is not None and self.model != model.fingerprint:
            do = "Load the model it was made with, or make the direction again with this one."
            raise DirectionForeign(f'the direction "{self.name}" is of another model.', got=self.model, wanted=model.fingerprint, do=do)
        if model.width(place) != self.width:
            do = "Use it at a site of its width."
            raise ShapeMismatch(f'the direction "{self.name}" does not fit {place}.', got=self.width, wanted=model.width(place), do=do)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values; the vector as base64 of little-endian fp32, so that nothing is lost."""
        plain = {item.name: to_dict(getattr(self, item.name)) for item in fields(self) if item.name != "vector"}
        return {**plain, "vector": base64.b64encode(self.vector.numpy().astype("<f4").tobytes()).decode()}

    @classmethod
    def from_json(cls, value: object) -> "Direction":
        """The inverse of `to_json`; a vector may also be a list of numbers. Raises `ConfigError`, `DirectionInvalid`, `ZeroDirection`."""
        if not isinstance(value, Mapping):
            wanted = "an object with name, site and vector"
            raise DirectionInvalid("this is not a direction.", got=type(value).__name__, wanted=wanted, do="Give its JSON form.")
        values = dict(value)
        if "vector" in values and not isinstance(values["vector"], Tensor):
            values["vector"] = _vector(values["vector"])
        return from_dict(cls, values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Direction) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)


def _vector(value: object) -> Tensor:
    try:
        if isinstance(value, str):
            return torch.from_numpy(np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4").copy())
        return torch.tensor(value, dtype=torch.float32)
    except (binascii.Error, ValueError, TypeError, RuntimeError) as error:
        wanted = "base64 of little-endian fp32, or a list of numbers"
        raise DirectionInvalid(f"the vector cannot be read: {error}.", got=type(value).__name__, wanted=wanted, do="Correct it.") from error
