"""Several edits as one value, with a say in what happens where they meet and where they match nothing."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

from microtome.config import fingerprint, from_dict, to_dict
from microtome.errors import EditInvalid
from microtome.models import Site
from microtome.steering.edit import Edit


@dataclass(frozen=True, kw_only=True)
class EditSet:
    """Edits that are made together. Their order matters only under `sequence`."""

    edits: tuple[Edit, ...] = ()
    on_conflict: Literal["refuse", "sequence", "sum"] = "refuse"
    """When two change the same tokens at the same site and are not both additions: `refuse` (`EditsConflict`); `sequence`: each sees what the
    one before left; `sum`: all see what the model computed, and their changes are added. Additions are summed in any case."""
    on_unmatched: Literal["refuse", "allow"] = "refuse"
    """When a where-clause selects no token: `refuse` (`NothingToEdit`), or `allow`."""

    def __post_init__(self) -> None:
        if self.on_conflict not in ("refuse", "sequence", "sum") or self.on_unmatched not in ("refuse", "allow"):
            wanted = "refuse, sequence or sum; refuse or allow"
            raise EditInvalid("a set has no such policy.", got=f"{self.on_conflict}, {self.on_unmatched}", wanted=wanted, do="Correct it.")

    @classmethod
    def of(cls, *edits: Edit) -> "EditSet":
        """These edits, with the strict policies."""
        return cls(edits=edits)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits: equal sets, equal fingerprints. For caches and for the names of variants."""
        return fingerprint(self.to_json())

    @property
    def is_off(self) -> bool:
        """Whether none of its edits changes anything, by their own fields."""
        return all(edit.is_off for edit in self.edits)

    def at(self, dose: float) -> "EditSet":
        """The same edits with every dose times `dose`: 0 is the unedited model, to the bit."""
        return replace(self, edits=tuple(replace(edit, dose=edit.dose * dose) for edit in self.edits))

    def to_json(self) -> dict[str, Any]:
        return {item.name: to_dict(getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def from_json(cls, value: Any) -> "EditSet":
        """The inverse of `to_json`; a plain list is the edits. Raises `EditInvalid`, `NotRegistered`, `ConfigError`."""
        if isinstance(value, list | tuple):
            return from_dict(cls, {"edits": value})
        if not isinstance(value, dict):
            raise EditInvalid("these are not edits.", got=type(value).__name__, wanted='a list, or {"edits": […]}', do="Give the JSON of a set.")
        return from_dict(cls, value)


Edits: TypeAlias = EditSet | Edit | Sequence[EditSet]
"""One set (or edit) for every row of a batch, or a set a row."""


def sets_for(edits: Edits, n_rows: int) -> tuple[EditSet, ...]:
    """A set a row. Another number of sets than rows raises `EditInvalid`."""
    if isinstance(edits, Edit):
        return (EditSet.of(edits),) * n_rows
    if isinstance(edits, EditSet):
        return (edits,) * n_rows
    if len(edits) != n_rows or {type(each) for each in edits} != {EditSet}:
        do = "Give one set for all rows, or one a row; put several edits of a row into EditSet.of(…)."
        raise EditInvalid("the sets of edits do not fit the batch.", got=f"{len(edits)} of them", wanted=f"{n_rows} sets", do=do)
    return tuple(edits)


def band(make: Callable[[Site], Edit], sites: Iterable[Site]) -> EditSet:
    """An edit for each site of a band, each with a vector or threshold of its own.

    >>> band(lambda site: Cap(component=axes[site], strength=percentile(25), side="floor"), layers("resid_post", start=46, stop=54))
    """
    return EditSet(edits=tuple(make(site) for site in sites))


def layers(kind: str, *, start: int, stop: int) -> tuple[Site, ...]:
    """Sites of one kind at the layers `start` to `stop` − 1."""
    return tuple(Site(kind, layer) for layer in range(start, stop))
