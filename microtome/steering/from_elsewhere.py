"""Edits whose values come from elsewhere: another prompt, or a seeded generator."""

import hashlib
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from microtome.conversation import Conversation
from microtome.errors import EditInvalid
from microtome.models import Site
from microtome.shapes import Tensor
from microtome.steering.along import refuse_unit
from microtome.steering.component import Component, Spots, Workshop, component_from_json
from microtome.steering.edit import Change, Edit, registered
from microtome.steering.layout import row_of
from microtome.steering.strength import Strength
from microtome.steering.where import EVERYWHERE, Where


def _need_sites(kind: str, sites: tuple[Site, ...]) -> None:
    if not sites:
        raise EditInvalid(f"{kind} names no site.", got="none", wanted="at least one site", do='Give sites=(Site.parse("L5.resid_post"),).')


def _component_or_none(value: object) -> Component | None:
    return None if value is None else component_from_json(value)


@registered("swap")
@dataclass(frozen=True, kw_only=True)
class Swap(Edit):
    """The values of another prompt's tokens take the place of these (interchange intervention); with `along`, only along that component.

    The k-th token selected gets the value of the k-th token that `source_where` selects in `source`, which the unedited model runs; a single one
    serves for all. Only prompt tokens can be selected, unless a single one is the source.
    """

    kind: ClassVar[str] = "swap"

    sites: tuple[Site, ...]
    source: str | Conversation
    source_where: Where = EVERYWHERE
    where: Where = field(default_factory=lambda: Where(phases=("prompt",)))
    along: Component | None = field(default=None, metadata={"from_json": _component_or_none})

    def __post_init__(self) -> None:
        super().__post_init__()
        _need_sites("Swap", self.sites)

    def places(self, workshop: Workshop) -> tuple[Site, ...]:
        del workshop
        return self.sites

    def n_source(self, workshop: Workshop) -> int:
        """How many tokens of the source are selected. None raises `EditInvalid`."""
        return len(self._picked(workshop))

    def prepare(self, site: Site, workshop: Workshop) -> Change:
        picked = self._picked(workshop)
        tokens = torch.tensor([row_of(workshop.model, self.source).tokens])
        values = workshop.model.capture(tokens, [site])[site][0, picked].float()
        unit = None if self.along is None else workshop.resolve(self.along, site).unit_vector

        def change(x: Tensor, spots: Spots) -> Tensor:
            ranks = torch.zeros_like(spots.ranks) if len(values) == 1 else spots.ranks
            moved = values[ranks.to(values.device)] - x
            return moved if unit is None else (moved @ unit)[:, None] * unit

        return change

    def _picked(self, workshop: Workshop) -> list[int]:
        chosen = self.source_where.select(row_of(workshop.model, self.source), workshop.model.tokenizer)
        picked = [i for i, keep in enumerate(chosen) if keep]
        if not picked:
            raise EditInvalid("a swap selects no token of its source.", got=self.source_where, wanted="at least one", do="Widen source_where.")
        return picked


@registered("noise")
@dataclass(frozen=True, kw_only=True)
class Noise(Edit):
    """A random direction for each token and site, of the length that `strength` says: `raw`, or a share of the token's norm.

    It depends on the seed, the site and the token's number in its row alone: the same with and without a cache, alone and in a batch.
    """

    kind: ClassVar[str] = "noise"
    is_additive: ClassVar[bool] = True

    sites: tuple[Site, ...]
    strength: Strength
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _need_sites("Noise", self.sites)
        refuse_unit("Noise", self.strength, allowed=("raw", "residual_norm"))

    @property
    def is_off(self) -> bool:
        return super().is_off or self.strength.value == 0

    def places(self, workshop: Workshop) -> tuple[Site, ...]:
        del workshop
        return self.sites

    def prepare(self, site: Site, workshop: Workshop) -> Change:
        width, device, known = workshop.model.width(site), workshop.device, dict[int, Tensor]()

        def drawn(position: int) -> Tensor:
            if position not in known:
                digest = hashlib.sha256(f"{self.seed} {site} {position}".encode()).digest()
                generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
                known[position] = torch.nn.functional.normalize(torch.randn(width, generator=generator), dim=0).to(device)
            return known[position]

        def change(x: Tensor, spots: Spots) -> Tensor:
            directions = torch.stack([drawn(position) for position in spots.positions.tolist()])
            length = x.norm(dim=-1, keepdim=True) if self.strength.unit == "residual_norm" else 1.0
            return self.strength.value * length * directions

        return change
