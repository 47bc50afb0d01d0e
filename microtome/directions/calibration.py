"""Where the projections on a direction lie in a corpus, so that a strength can be said in percentiles."""

from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

import torch

from microtome.errors import ConfigError, NotEnoughTokens
from microtome.shapes import Float, Tensor

_POINTS = 101


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Percentiles of the coordinate ⟨x, v⟩/‖v‖ over tokens of a corpus."""

    source: str
    """What the tokens were of: an artifact id, or words."""
    n: int
    """How many tokens."""
    percentiles: tuple[float, ...]
    """The 0th, 1st, …, 100th percentile, in the model's units along the unit vector."""

    def __post_init__(self) -> None:
        values = self.percentiles
        if len(values) != _POINTS or not all(map(isfinite, values)) or any(b < a for a, b in pairwise(values)):
            wanted = f"{_POINTS} finite numbers that ascend"
            raise ConfigError("these are not percentiles.", got=f"{len(values)} numbers", wanted=wanted, do="Make them with Calibration.of.")

    @classmethod
    def of(cls, projections: Float[Tensor, "n"], *, source: str) -> "Calibration":
        """Percentiles with linear interpolation between the sorted values. No value raises `NotEnoughTokens`."""
        if projections.numel() == 0 or not bool(projections.isfinite().all()):
            do = "Project the kept tokens of a corpus."
            raise NotEnoughTokens("a calibration has nothing to rest on.", got=f"{projections.numel()} values", wanted="finite values", do=do)
        ordered = projections.detach().cpu().double().sort().values
        at = torch.linspace(0, len(ordered) - 1, _POINTS, dtype=torch.float64)
        low, high = at.floor().long(), at.ceil().long()
        values = torch.lerp(ordered[low], ordered[high], at - low)
        return cls(source=source, n=len(ordered), percentiles=tuple(values.cummax(0).values.tolist()))

    def at(self, percentile: float) -> float:
        """The value at a percentile from 0 to 100, linear between whole ones."""
        if not 0 <= percentile <= 100:
            raise ConfigError("there is no such percentile.", got=percentile, wanted="0 to 100", do="Give a number in that range.")
        below = min(int(percentile), _POINTS - 2)
        part = percentile - below
        return self.percentiles[below] * (1 - part) + self.percentiles[below + 1] * part

    @property
    def maximum(self) -> float:
        return self.percentiles[-1]

    def negated(self) -> "Calibration":
        """Of the opposite direction: the p-th percentile of −x is minus the (100 − p)-th of x."""
        return Calibration(source=self.source, n=self.n, percentiles=tuple(-value for value in reversed(self.percentiles)))
