"""How much of a text repeats itself: cheap for a model, so that cross-entropy does not see it."""

from collections.abc import Sequence
from typing import NamedTuple

GRAM = 4
"""Tokens of a group that may come again."""


class Repeats(NamedTuple):
    """Groups of `GRAM` tokens of a text."""

    repeated: int
    """Those that stood in the text before."""
    of: int

    @property
    def share(self) -> float | None:
        """1 − distinct groups / groups: seq-rep-4 of Welleck et al. 2020 (Neural Text Generation with Unlikelihood Training). None if shorter."""
        return self.repeated / self.of if self.of else None


def repeats(tokens: Sequence[int]) -> Repeats:
    """Count the groups of a text of token ids."""
    groups = [tuple(tokens[start : start + GRAM]) for start in range(len(tokens) - GRAM + 1)]
    return Repeats(repeated=len(groups) - len(set(groups)), of=len(groups))
