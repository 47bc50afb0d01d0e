"""What edits did: how many tokens each selected, and how many it changed."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EditCount:
    """One edit on one row."""

    row: int
    edit: int
    """Its number in the row's set."""
    kind: str
    fingerprint: str
    selected: int
    """Tokens that its where-clause selects, prompt and generated."""
    edited: int
    """Tokens it changed: read by the model, and neither left out by a condition nor already within a cap. Counted once, however many sites."""


@dataclass(frozen=True, kw_only=True)
class EditReport:
    """What a set of edits did to each row."""

    counts: tuple[EditCount, ...]
    tokens: tuple[int, ...]
    """For each row, how many tokens at least one edit changed."""

    def of_row(self, row: int) -> tuple[EditCount, ...]:
        return tuple(count for count in self.counts if count.row == row)

    @property
    def edited(self) -> int:
        """Tokens changed by at least one edit, all rows together."""
        return sum(self.tokens)
