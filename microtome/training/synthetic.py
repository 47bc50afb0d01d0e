"""Rows whose true dictionary is known, and how much of it another dictionary found: the check that needs no interpretation."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from microtome.dictionaries import AbsTopK, Dictionary
from microtome.errors import ConfigError, ShapeMismatch
from microtome.shapes import Float, Tensor

_BLOCK_ROWS = 4096


@dataclass(frozen=True, kw_only=True)
class PlantedConfig:
    """A planted dictionary and how often its directions occur."""

    d: int = 128
    """Width of a row."""
    directions: int = 512
    """True directions, of norm 1, at random."""
    active: float = 8.0
    """Mean number of directions in a row."""
    power: float = 0.8
    """Rates fall with rank as (rank + 20)^-power, at most one half."""
    spread: float = 0.25
    """Standard deviation of the logarithm of a direction's size from row to row; the sizes' own is 0.3."""
    noise: float = 0.05
    """Standard deviation of the noise on every column."""
    signed: bool = False
    """Whether a direction comes with either sign, each half of the time."""
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.d, self.directions) < 1 or not 0 < self.active <= self.directions / 2:
            wanted = "d and directions of 1 or more, active above 0 and at most directions / 2"
            got = f"d {self.d}, directions {self.directions}, active {self.active}"
            raise ConfigError("a planted dictionary cannot be made so.", got=got, wanted=wanted, do="Correct the numbers.")


class Planted:
    """Rows x = sum_i on_i size_i direction_i + offset + noise, in which the directions come and go independently of each other."""

    def __init__(self, config: PlantedConfig) -> None:
        self.config = config
        generator = torch.Generator().manual_seed(config.seed * 2 + 1_000_003)  # no trainer's seed: its first rows would be the answer
        self.directions: Float[Tensor, "directions d"] = F.normalize(torch.randn(config.directions, config.d, generator=generator), dim=1)
        rate = (torch.arange(config.directions) + 20.0) ** -config.power
        for _ in range(8):  # capping some rates at one half leaves the others more to carry
            rate = (rate * (config.active / rate.sum())).clamp(max=0.5)
        self.rates: Float[Tensor, "directions"] = rate
        """Share of rows in which each direction occurs."""
        self._size = torch.exp(0.3 * torch.randn(config.directions, generator=generator))
        self._offset = 0.05 * torch.randn(config.d, generator=generator)

    def rows(self, n: int, *, part: int = 0) -> Float[Tensor, "n d"]:
        """`n` rows; every `part` has other ones, the same each time."""
        return torch.cat(list(self._blocks(n, part=part)))[:n]

    def _blocks(self, n: int, *, part: int) -> Iterator[Float[Tensor, "block d"]]:
        config = self.config
        generator = torch.Generator().manual_seed(config.seed * 1_000_033 + part * 7919 + 11)
        for _ in range(0, n, _BLOCK_ROWS):
            on = torch.rand(_BLOCK_ROWS, config.directions, generator=generator) < self.rates
            row, which = on.nonzero(as_tuple=True)
            value = self._size[which] * torch.exp(config.spread * torch.randn(len(which), generator=generator))
            if config.signed:
                value *= 1 - 2 * torch.randint(2, (len(which),), generator=generator)
            starts = torch.searchsorted(row, torch.arange(_BLOCK_ROWS))
            clean = F.embedding_bag(which, self.directions, starts, per_sample_weights=value, mode="sum")
            yield clean + self._offset + config.noise * torch.randn(_BLOCK_ROWS, config.d, generator=generator)


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """How much of a planted dictionary was found."""

    share: float
    """Of the true directions, those whose best cosine with a feature's direction is above 0.9."""
    weighted: float
    """The same, every direction counted by how often it occurs."""
    mean_cosine: float
    """Mean over the true directions of the best cosine."""


def recovered(dictionary: Dictionary, planted: Planted, *, threshold: float = 0.9) -> Recovered:
    """Match every true direction with its nearest feature (after Sharkey et al. 2022, mean max cosine similarity).

    Above 0.9 two true directions cannot share a feature unless they are nearly one, so no assignment is needed; a feature that doubles
    another adds nothing. Where directions are `signed`, or activations are (`AbsTopK`), a feature and its opposite are the same one, and the size of
    the cosine counts. A dictionary of another width raises `ShapeMismatch`.
    """
    found = dictionary.directions()
    if found.shape[1] != planted.config.d:
        do = "Train it on rows of this planted dictionary."
        raise ShapeMismatch("the dictionary is of another width than the rows.", got=found.shape[1], wanted=planted.config.d, do=do)
    cosine = planted.directions @ F.normalize(found.float().cpu(), dim=1).T
    either = planted.config.signed or isinstance(getattr(dictionary, "nonlinearity", None), AbsTopK)
    best = (cosine.abs() if either else cosine).amax(1)
    hit = (best > threshold).float()
    return Recovered(share=float(hit.mean()), weighted=float((hit * planted.rates).sum() / planted.rates.sum()), mean_cosine=float(best.mean()))
