"""Sets of edits made ready for one batch: what happens at each site of a forward, which tokens it touches, and what it did.

A plan is told which columns of the batch the next forward has (`window`); it never guesses from the shape of what it meets.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from microtome.dictionaries import Dictionary, SparseCodes
from microtome.errors import EditInvalid, EditsConflict, NothingToEdit, ShapeMismatch
from microtome.models import Model, Site
from microtome.shapes import Tensor
from microtome.steering.cache_edit import KVEdit
from microtome.steering.component import Spots, Workshop
from microtome.steering.compose import EditSet
from microtome.steering.conditional import Gate
from microtome.steering.from_elsewhere import Swap
from microtome.steering.layout import Batch
from microtome.steering.operation import Operation, Selection, Unwrapped
from microtome.steering.report import EditCount, EditReport


class Plan:
    """The edits of a batch. Raises at once whatever can be refused: see `Edit.check`, `EditsConflict`, `NothingToEdit`."""

    def __init__(self, model: Model, batch: Batch, *, sets: Sequence[EditSet], dictionaries: Mapping[str, Dictionary] | None = None, n_new: int = 0):
        self.batch = batch
        self._sets = sets
        self._n_new = n_new
        self._workshop = Workshop(model, dictionaries)
        self._turns = _turns_of(batch, n_new)
        self._selections: dict[object, Selection] = {}
        self._gates: dict[object, Gate] = {}
        self._gate_spots: dict[Gate, Selection] = {}
        self.operations = self._grouped()
        _refuse_conflicts(self.operations, sets)
        self._refuse_unmatched(is_over=False)
        self._check_swaps()
        self._start, self._stop = 0, batch.width
        self._read_columns = 0
        self._by_token = [each for each in self._selections.values() if each.is_by_token]
        self._spots: dict[int, Spots] = {}
        self._fill_hooks()

    def _grouped(self) -> list[Operation]:
        """Equal edits at the same place of their sets are one operation on all their rows."""
        rows_of: dict[tuple[str, int, str], list[int]] = {}
        edits = {}
        for row, each in enumerate(self._sets):
            for number, edit in enumerate(each.edits):
                key = (edit.fingerprint, number, each.on_conflict)
                rows_of.setdefault(key, []).append(row)
                edits[key] = edit
        ready = [self._operation(edits[key], rows=tuple(rows), number=key[1], policy=key[2]) for key, rows in rows_of.items()]
        return sorted(ready, key=lambda operation: operation.number)

    def _operation(self, edit: Any, *, rows: tuple[int, ...], number: int, policy: str) -> Operation:
        shop, parts = self._workshop, Unwrapped.of(edit)
        edit.check(shop)
        readings = parts.core.readings(shop)
        places = parts.core.places(shop)
        for reading in readings:
            for site in places:
                if site < reading.site:
                    what = f"{parts.core.kind} reads {reading.site}, after {site}."
                    do = "Write at the site that is read, or after it."
                    raise EditInvalid(what, got=site, wanted=f"{reading.site} or later", do=do)
        is_off = edit.is_off or parts.dose == 0
        selection = self._selection(parts.wheres, rows)
        return Operation(
            edit=parts.core,
            number=number,
            dose=parts.dose,
            selection=selection,
            gates=() if is_off else tuple(self._gate(wrapped.condition, rows) for wrapped in parts.conditions),
            readings=() if is_off else readings,
            changes={} if is_off else {site: parts.core.prepare(site, shop) for site in places},
            in_sequence=policy == "sequence",
            rows=rows,
            fingerprint=edit.fingerprint,
            kind=edit.kind,
            touched=torch.zeros_like(selection.mask),
        )

    def _selection(self, wheres: Sequence[Any], rows: tuple[int, ...]) -> Selection:
        key = (tuple(where.fingerprint for where in wheres), rows)
        if key not in self._selections:
            tokenizer = self._workshop.model.tokenizer
            self._selections[key] = Selection.of(wheres, rows=rows, batch=self.batch, n_new=self._n_new, tokenizer=tokenizer)
        return self._selections[key]

    def _gate(self, condition: Any, rows: tuple[int, ...]) -> Gate:
        key = (condition, rows)
        if key not in self._gates:
            gate = self._gates[key] = Gate(condition, workshop=self._workshop, turns=self._turns)
            self._gate_spots[gate] = self._selection([condition.where], rows)
        return self._gates[key]

    def _fill_hooks(self) -> None:
        self._at: dict[Site, list[Operation]] = {}
        self._reading_at: dict[Site, list[Operation]] = {}
        self._gates_at: dict[Site, list[Gate]] = {}
        for operation in self.operations:
            for site in operation.changes:
                self._at.setdefault(site, []).append(operation)
            for reading in operation.readings:
                here = self._reading_at.setdefault(reading.site, [])
                if operation not in here:
                    here.append(operation)
        for gate in self._gates.values():
            self._gates_at.setdefault(gate.reading.site, []).append(gate)
        sites = {*self._at, *self._reading_at, *self._gates_at}
        self.hooks = {site: (lambda x, site=site: self._visit(site, x)) for site in sites}
        """What `model.tap(edit=…)` takes."""

    def window(self, start: int, *, stop: int) -> None:
        """Say which columns of the batch (generated ones follow the prompt's) the next forward has."""
        self._start, self._stop = start, stop
        self._spots = {}

    def take(self, tokens: Sequence[int], *, column: int) -> None:
        """A generated token of each row is known; `column` is where it stands."""
        for selection in self._by_token:
            for row, token in enumerate(tokens):
                step = column - self.batch.width + len(self.batch.rows[row].generated)
                selection.take(row, column=column, step=step, token=token)

    def edit_cache(self, cache: Any) -> None:
        """Make the edits of the key-value cache; call once, when the prompt was read."""
        for operation in self.operations:
            if isinstance(operation.edit, KVEdit) and not (operation.dose == 0 or operation.edit.is_off):
                rows, columns = operation.selection.mask[:, : self.batch.width].nonzero(as_tuple=True)
                operation.edit.change_cache(cache, rows=rows, columns=columns, n_columns=self.batch.width)

    @property
    def edits_cache(self) -> bool:
        """Whether some edit needs the cache."""
        return any(isinstance(operation.edit, KVEdit) for operation in self.operations)

    def _visit(self, site: Site, x: Tensor) -> Tensor | None:
        """What a forward does at a site: conditions and readings see what comes in, then the edits are made."""
        if x.shape[:2] != (len(self.batch.rows), self._stop - self._start):
            wanted = f"{len(self.batch.rows)} rows of {self._stop - self._start} tokens"
            do = "Run the batch that the edits were applied to; generate with `generate`."
            raise ShapeMismatch("the forward runs other tokens than the edits were made ready for.", got=tuple(x.shape[:2]), wanted=wanted, do=do)
        self._read_columns = max(self._read_columns, self._stop)
        seen: dict[int, Tensor] = {}
        codes: dict[int, dict[str, SparseCodes]] = {}
        for gate in self._gates_at.get(site, ()):
            spots = self._spots_of(self._gate_spots[gate])
            some = len(spots.rows) > 0
            numbers = gate.reading.read(_values(x, spots, seen), codes.setdefault(id(spots), {})) if some else torch.empty(0)
            gate.see(numbers, rows=spots.rows, columns=spots.columns, start=self._start, stop=self._stop)
        for operation in self._reading_at.get(site, ()):
            spots = self._spots_of(operation.selection)
            for reading in operation.readings:
                if reading.site == site and len(spots.rows):
                    spots.values[reading.key] = reading.read(_values(x, spots, seen), codes.setdefault(id(spots), {}))
        out: Tensor | None = None
        for operation in self._at.get(site, ()):
            out = self._change(operation, site, x=x, out=out, seen=seen)
        return None if out is None else out.to(x.dtype)

    def _change(self, operation: Operation, site: Site, *, x: Tensor, out: Tensor | None, seen: dict[int, Tensor]) -> Tensor | None:
        spots = self._spots_of(operation.selection)
        if not len(spots.rows):
            return out
        if operation.in_sequence and out is not None:
            values = _values(out, spots, {})
            for reading in operation.readings:
                if reading.site == site:
                    spots.values[reading.key] = reading.read(values, {})
        else:
            values = _values(x, spots, seen)
        change = operation.changes[site](values, spots)
        if operation.dose != 1:
            change = operation.dose * change
        out = x.to(torch.float32, copy=True).contiguous() if out is None else out
        rows, columns = spots.rows, spots.columns
        if operation.is_partial:
            keep = (change != 0).any(1).cpu()
            for gate in operation.gates:
                keep &= gate.open(self._start, self._stop)[rows, columns]
            rows, columns, change = rows[keep], columns[keep], change[keep.to(change.device)]
            operation.touched[rows, columns + self._start] = True
        if spots.is_all and len(rows) == len(spots.rows):
            out.view(-1, x.shape[-1]).add_(change)
        elif len(rows):
            at = (rows.to(x.device), columns.to(x.device))
            out[at] = out[at] + change
        return out

    def _spots_of(self, selection: Selection) -> Spots:
        spots = self._spots.get(id(selection))
        if spots is None:
            spots = self._spots[id(selection)] = selection.spots(self._start, self._stop)
        return spots

    def report(self) -> EditReport:
        """What was done so far."""
        counts: list[EditCount] = []
        changed = torch.zeros(len(self.batch.rows), self.batch.width + self._n_new, dtype=torch.bool)
        for operation in self.operations:
            touched = self._touched(operation)
            changed |= touched
            counts += [
                EditCount(
                    row=row,
                    edit=operation.number,
                    kind=operation.kind,
                    fingerprint=operation.fingerprint,
                    selected=int(operation.selection.mask[row].sum()),
                    edited=int(touched[row].sum()),
                )
                for row in operation.rows
            ]
        return EditReport(counts=tuple(sorted(counts, key=lambda count: (count.row, count.edit))), tokens=tuple(changed.sum(1).tolist()))

    def end(self, lengths: Sequence[int]) -> None:
        """The rows end after so many generated tokens each: forget what was selected beyond, and refuse edits that never matched."""
        for selection in self._selections.values():
            for row, length in enumerate(lengths):
                selection.mask[row, self.batch.width + length :] = False
        self._refuse_unmatched(is_over=True)

    def _touched(self, operation: Operation) -> Tensor:
        if isinstance(operation.edit, KVEdit):
            made = not (operation.dose == 0 or operation.edit.is_off)
            return operation.selection.mask & torch.tensor(made)
        if not operation.changes:
            return torch.zeros_like(operation.touched)
        if operation.is_partial:
            return operation.touched & operation.selection.mask
        read = torch.arange(operation.touched.shape[1]) < self._read_columns
        return operation.selection.mask & read

    def _refuse_unmatched(self, *, is_over: bool) -> None:
        for operation in self.operations:
            for row in operation.rows:
                possible = operation.selection.mask if is_over else operation.selection.mask | operation.selection.upper
                if self._sets[row].on_unmatched == "refuse" and not bool(possible[row].any()):
                    what = f"edit {operation.number} ({operation.kind}) selects no token of row {row}."
                    wanted, do = "at least one token", 'Widen its where-clause, or set on_unmatched="allow".'
                    raise NothingToEdit(what, got="0 tokens", wanted=wanted, do=do)

    def _check_swaps(self) -> None:
        for operation in self.operations:
            if not isinstance(operation.edit, Swap):
                continue
            n_source = operation.edit.n_source(self._workshop)
            for row in operation.rows:
                n_here, is_open = int(operation.selection.mask[row].sum()), bool(operation.selection.upper[row, self.batch.width :].any())
                if n_source != 1 and (n_here != n_source or is_open):
                    got = f"{n_source} tokens of the source for {n_here}{' and those to be generated' if is_open else ''} of row {row}"
                    do = "Select as many tokens on both sides, or one of the source."
                    raise EditInvalid("a swap's two sides differ in length.", got=got, wanted="as many on both", do=do)


def _values(x: Tensor, spots: Spots, seen: dict[int, Tensor]) -> Tensor:
    """The vectors of these tokens in fp32; `seen` keeps what was gathered."""
    known = seen.get(id(spots))
    if known is None:
        picked = x.reshape(-1, x.shape[-1]) if spots.is_all else x[spots.rows.to(x.device), spots.columns.to(x.device)]
        known = seen[id(spots)] = picked.float()
    return known


def _turns_of(batch: Batch, n_new: int) -> Tensor:
    """For each column the turn, −1 where there is none; what is generated is the turn after the last."""
    turns = torch.full((len(batch.rows), batch.width + n_new), -1)
    for r, (row, start) in enumerate(zip(batch.rows, batch.starts, strict=True)):
        of_prompt = [0 if not row.turns else -1 if turn is None else turn for turn in row.turn_of()]
        reply = len(row.turns)
        turns[r, start : start + len(row.tokens)] = torch.tensor([*of_prompt, *[reply] * len(row.generated)])
        turns[r, batch.width :] = reply
    return turns


def _refuse_conflicts(operations: Sequence[Operation], sets: Sequence[EditSet]) -> None:
    for i, first in enumerate(operations):
        for second in operations[i + 1 :]:
            rows = [row for row in first.rows if row in second.rows and sets[row].on_conflict == "refuse"]
            shared = set(first.changes) & set(second.changes)
            claim = first.edit.claim()
            adds_up = first.edit.is_additive and second.edit.is_additive and (claim is None or claim != second.edit.claim())
            if not rows or not shared or adds_up or first.number == second.number:
                continue
            both = (first.selection.mask | first.selection.upper) & (second.selection.mask | second.selection.upper)
            if bool(both[rows].any()):
                pair = f"edits {first.number} ({first.kind}) and {second.number} ({second.kind})"
                do = 'Set on_conflict="sequence" or "sum", or select different tokens.'
                what = f"{pair} both change {min(shared)} of the same tokens."
                raise EditsConflict(what, got="an order that matters", wanted="different tokens, or a policy", do=do)
