"""Edits that happen only when something is so: a feature fires, a projection or a probe crosses a threshold."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch

from microtome.config import fingerprint
from microtome.directions import Direction
from microtome.errors import EditInvalid
from microtome.models import Site
from microtome.shapes import Tensor
from microtome.steering.along import refuse_unit
from microtome.steering.component import READ_COMPONENT, Component, Feature, Workshop
from microtome.steering.edit import Change, Edit, Reading, activation_of, registered
from microtome.steering.strength import Strength
from microtome.steering.where import EVERYWHERE, Where


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A number per token, a threshold, and how far a crossing reaches.

    The number is a feature's activation, a direction's coordinate ⟨x, v⟩/‖v‖, or, with `bias`, a probe's probability σ(⟨x, v⟩ + bias). It is
    read before the set's own edits at that site. Every row of a batch is judged by itself.
    """

    component: Component = field(metadata=READ_COMPONENT)
    site: Site | None = None
    """Where a direction is read; None: its own site. A feature is read where its dictionary reads."""
    bias: float | None = None
    """Makes the direction a logistic probe."""
    when: Literal["above", "below"] = "above"
    threshold: Strength
    """`raw` in the units of the number, `percentile` of a calibrated direction, `max_activation` of a feature with a known maximum."""
    scope: Literal["token", "turn", "conversation"] = "token"
    """`token`: the token itself. `turn`: from the token that crosses to the end of its turn. `conversation`: from it on. Never backwards:
    what was read before cannot be changed any more, so the result is the same with and without a cache."""
    where: Where = EVERYWHERE
    """Tokens that are looked at."""

    def __post_init__(self) -> None:
        if self.when not in ("above", "below") or self.scope not in ("token", "turn", "conversation"):
            wanted = "above or below; token, turn or conversation"
            raise EditInvalid("a condition has an unknown word.", got=f"{self.when}, {self.scope}", wanted=wanted, do="Correct it.")
        refuse_unit("a condition", self.threshold, allowed=("raw",) if self.bias is not None else ("raw", "percentile", "max_activation"))
        if isinstance(self.component, Feature) and (self.bias is not None or self.site is not None):
            what = "a feature is read by its own dictionary."
            raise EditInvalid(what, got="a bias or a site", wanted="neither", do="Leave it out, or give the direction of a probe.")

    def reading(self, workshop: Workshop) -> Reading:
        """The number, as something to read."""
        if isinstance(self.component, Feature):
            return activation_of(self.component, workshop)
        return _reading_of(self.component, self.site or self.component.site, bias=self.bias, workshop=workshop)

    def level(self, workshop: Workshop) -> float:
        """The threshold in the units of the number."""
        if self.threshold.unit == "raw":
            return self.threshold.value
        reading = self.reading(workshop)
        resolved = workshop.resolve(self.component, workshop.home(self.component)[0] if isinstance(self.component, Feature) else reading.site)
        return resolved.length(self.threshold) / (resolved.norm if isinstance(self.component, Feature) else 1.0)


def _reading_of(direction: Direction, site: Site, *, bias: float | None, workshop: Workshop) -> Reading:
    resolved = workshop.resolve(direction, site)

    def read(x: Tensor, _: object) -> Tensor:
        along = resolved.coordinate(x)
        return along if bias is None else torch.sigmoid(along * resolved.norm + bias)

    return Reading(key=fingerprint([direction.fingerprint, site, bias]), site=site, read=read)


@registered("conditional")
@dataclass(frozen=True, kw_only=True)
class Conditional(Edit):
    """`then`, at those of its tokens at which `condition` holds. `where` narrows the edit's own, the doses multiply.

    A condition must be read before what it decides is written: the same site or an earlier one, else `EditInvalid`.
    """

    kind: ClassVar[str] = "conditional"

    condition: Condition
    then: Edit
    """What is done where it holds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.then.kind == "kv":
            do = "Condition an edit of activations."
            raise EditInvalid("a KV edit cannot be conditional.", got="kv", wanted="an edit of activations", do=do)

    @property
    def is_off(self) -> bool:
        return super().is_off or self.then.is_off

    def places(self, workshop: Workshop) -> tuple[Site, ...]:
        return self.then.places(workshop)

    def prepare(self, site: Site, workshop: Workshop) -> Change:
        read_at = self.condition.reading(workshop).site
        if site < read_at:
            do = "Read the condition at the site of the edit or before it."
            raise EditInvalid(f"the condition reads {read_at}, after {site}.", got=read_at, wanted=f"{site} or earlier", do=do)
        return self.then.prepare(site, workshop)

    def readings(self, workshop: Workshop) -> tuple[Reading, ...]:
        return self.then.readings(workshop)

    def check(self, workshop: Workshop) -> None:
        super().check(workshop)
        self.condition.level(workshop)


class Gate:
    """A condition made ready for a batch: which tokens of it are open."""

    def __init__(self, condition: Condition, *, workshop: Workshop, turns: Tensor) -> None:
        self.condition = condition
        self.reading = condition.reading(workshop)
        self._level = condition.level(workshop)
        self._turns = turns
        self._open = torch.zeros_like(turns, dtype=torch.bool)

    def open(self, start: int, stop: int) -> Tensor:
        """Of the columns of a forward, `[batch, columns]`."""
        return self._open[:, start:stop]

    def see(self, numbers: Tensor, *, rows: Tensor, columns: Tensor, start: int, stop: int) -> None:
        """Take in what was read at these tokens of a forward, and open what that opens."""
        crossed = numbers > self._level if self.condition.when == "above" else numbers < self._level
        hits = torch.zeros(len(self._open), stop - start, dtype=torch.bool)
        hits[rows.cpu(), columns.cpu()] = crossed.cpu()
        if self.condition.scope == "token":
            self._open[:, start:stop] = hits
            return
        for column in range(start, stop):
            now = hits[:, column - start]
            if column > 0:
                stays = self._open[:, column - 1]
                if self.condition.scope == "turn":
                    stays = stays & (self._turns[:, column] == self._turns[:, column - 1])
                now = now | stays
            self._open[:, column] = now
