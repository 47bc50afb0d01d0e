"""The control of every edit: a change of the same length at every token, in a random direction."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from microtome.errors import EditInvalid
from microtome.models import Site
from microtome.shapes import Tensor
from microtome.steering.cache_edit import KVEdit
from microtome.steering.component import Spots, Workshop
from microtome.steering.conditional import Conditional
from microtome.steering.edit import Change, Edit, Reading, registered
from microtome.steering.from_elsewhere import Swap
from microtome.steering.where import EVERYWHERE

_LEFT_OUT = (KVEdit, Conditional, Swap)


@registered("random")
@dataclass(frozen=True, kw_only=True)
class Turned(Edit):
    """x + ‖change(x)‖ r̂, with r̂ one random direction a site, by seed: what `of` does to lengths, and nothing of where it points.

    `where` and `dose` are this edit's own; those of `of` must be plain (`turned` moves them). If a random direction does as much as yours,
    yours is not why.
    """

    kind: ClassVar[str] = "random"
    may_skip: ClassVar[bool] = True

    of: Edit
    """The edit whose lengths these are."""
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.of, _LEFT_OUT):
            do = "Take the edit inside of a condition; give cache edits and swaps another control."
            raise EditInvalid(f"a {self.of.kind} edit has no random direction.", got=self.of.kind, wanted="an edit along a component", do=do)
        if self.of.where != EVERYWHERE or self.of.dose != 1:
            do = "Make it with turned(edit), which moves them outside."
            raise EditInvalid("a turned edit has two where-clauses or doses.", got="those of the edit inside", wanted="its own only", do=do)

    @property
    def is_off(self) -> bool:
        return super().is_off or self.of.is_off

    def places(self, workshop: Workshop) -> tuple[Site, ...]:
        return self.of.places(workshop)

    def readings(self, workshop: Workshop) -> tuple[Reading, ...]:
        return self.of.readings(workshop)

    def prepare(self, site: Site, workshop: Workshop) -> Change:
        inner = self.of.prepare(site, workshop)
        number = sorted(self.of.places(workshop)).index(site)
        drawn = torch.randn(workshop.model.width(site), generator=torch.Generator().manual_seed(1000 * self.seed + number))
        unit = torch.nn.functional.normalize(drawn, dim=0).to(workshop.device)

        def change(x: Tensor, spots: Spots) -> Tensor:
            return inner(x, spots).norm(dim=-1, keepdim=True) * unit

        return change


def turned(edit: Edit, *, seed: int = 0) -> Edit:
    """The same edit in a random direction; of a conditional edit, what happens where the condition holds."""
    if isinstance(edit, Conditional):
        return replace(edit, then=turned(edit.then, seed=seed))
    plain = replace(edit, where=EVERYWHERE, dose=1.0)
    return Turned(of=plain, seed=seed, where=edit.where, dose=edit.dose)
