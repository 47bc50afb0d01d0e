"""One edit of a batch made ready: which tokens of which rows, and what happens to them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch

from microtome.models import Site, Tokenizer
from microtome.shapes import Bool, Int, Tensor
from microtome.steering.component import Spots
from microtome.steering.conditional import Conditional, Gate
from microtome.steering.edit import Change, Edit, Reading
from microtome.steering.layout import Batch
from microtome.steering.where import Selector, Where


@dataclass(kw_only=True, eq=False)
class Selection:
    """The tokens that where-clauses select in the rows of a batch, by column; generated ones are filled in as they come, if they must be known."""

    mask: Bool[Tensor, "batch pos"]
    upper: Bool[Tensor, "batch pos"]
    """What could be selected, whatever is generated."""
    starts: Int[Tensor, "batch"]
    selectors: Mapping[int, list[Selector]]
    """By row; a token must be meant by all of its row's."""
    _spots: dict[tuple[int, int], Spots] = field(default_factory=lambda: {})

    @classmethod
    def of(cls, wheres: Iterable[Where], *, rows: Iterable[int], batch: Batch, n_new: int, tokenizer: Tokenizer) -> "Selection":
        """Ask the clauses about every row of `rows`; `n_new` columns are kept for what will be generated."""
        clauses = list(wheres)
        mask = torch.zeros(len(batch.rows), batch.width + n_new, dtype=torch.bool)
        upper = mask.clone()
        selectors: dict[int, list[Selector]] = {}
        for r in rows:
            row, start = batch.rows[r], batch.starts[r]
            own = selectors[r] = [Selector(where, row, tokenizer=tokenizer) for where in clauses]
            n_old, n_prompt = len(row.tokens), len(row.prompt)
            prompt = [all(kept) for kept in zip(*(each.prompt for each in own), strict=True)]
            old = [all(each.generated(step, token) for each in own) for step, token in enumerate(row.generated)]
            steps = range(n_old - n_prompt, n_old - n_prompt + n_new)
            by_token = any(each.is_by_token for each in own)
            mask[r, start : start + n_old] = torch.tensor([*prompt, *old])
            upper[r, : batch.width] = mask[r, : batch.width]
            if n_new:
                upper[r, batch.width :] = torch.tensor([all(each.may_generate(step) for each in own) for step in steps])
                if not by_token:  # then the token does not matter, and 0 stands for any
                    mask[r, batch.width :] = torch.tensor([all(each.generated(step, 0) for each in own) for step in steps])
        return cls(mask=mask, upper=upper, starts=torch.tensor(batch.starts), selectors=selectors)

    @property
    def is_by_token(self) -> bool:
        return any(each.is_by_token for own in self.selectors.values() for each in own)

    def take(self, row: int, *, column: int, step: int, token: int) -> None:
        """A generated token is known."""
        if row in self.selectors:
            self.mask[row, column] = all(each.generated(step, token) for each in self.selectors[row])

    def spots(self, start: int, stop: int) -> Spots:
        """The tokens selected among the columns of a forward."""
        here = self.mask[:, start:stop]
        rows, columns = here.nonzero(as_tuple=True)
        return Spots(
            rows=rows, columns=columns, first_column=start, starts=self.starts, mask=self.mask, is_all=len(rows) == here.numel() and here.numel() > 0
        )


@dataclass(kw_only=True, eq=False)
class Operation:
    """An edit (without its conditions) on some rows."""

    edit: Edit
    number: int
    """Its place in the set."""
    dose: float
    selection: Selection
    gates: tuple[Gate, ...]
    readings: tuple[Reading, ...]
    changes: Mapping[Site, Change]
    in_sequence: bool
    """Whether it sees what the edits before it left, rather than what the model computed."""
    rows: tuple[int, ...]
    fingerprint: str
    kind: str
    touched: Bool[Tensor, "batch pos"]

    @property
    def is_partial(self) -> bool:
        """Whether some of the tokens selected may stay as they were."""
        return bool(self.gates) or self.edit.may_skip


@dataclass(frozen=True, kw_only=True)
class Unwrapped:
    """An edit taken out of its conditions."""

    core: Edit
    dose: float
    wheres: tuple[Where, ...]
    conditions: tuple[Conditional, ...]

    @classmethod
    def of(cls, edit: Edit) -> "Unwrapped":
        if not isinstance(edit, Conditional):
            return cls(core=edit, dose=edit.dose, wheres=(edit.where,), conditions=())
        inner = cls.of(edit.then)
        return cls(core=inner.core, dose=edit.dose * inner.dose, wheres=(edit.where, *inner.wheres), conditions=(edit, *inner.conditions))
