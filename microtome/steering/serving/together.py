"""Rows that are generated together, each with its own edits: rows come and go at any step, and none sees another.

Every row has a plan of its own, made for it alone, which is only ever shown that row's own columns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch

from microtome.errors import EditInvalid, MicrotomeError
from microtome.models import Model, Site
from microtome.shapes import Bool, Float, Int, Tensor
from microtome.steering.growing import Growing
from microtome.steering.layout import Row
from microtome.steering.plan import Plan
from microtome.steering.sampling import Picked, Stream, pick
from microtome.steering.serving.cache import RowOfCache, join, keep


@dataclass(kw_only=True, eq=False)
class Lane:
    """One row under way."""

    row: Row
    plan: Plan
    growing: Growing
    stream: Stream
    error: MicrotomeError | None = None
    """What ended it, other than itself."""

    @property
    def is_over(self) -> bool:
        return self.error is not None or self.growing.ending is not None

    @property
    def n_read(self) -> int:
        """Columns that the model has read: the prompt, and all generated tokens but the last."""
        return len(self.row.tokens) + max(0, len(self.growing.choices) - 1)

    def take(self, picked: Picked) -> None:
        """The next token. Numbers that are not finite end the row with `EditInvalid`."""
        if isfinite(picked.logprob):
            self.growing.take(picked)
            return
        do = "Lower the strength or the dose of the edits."
        self.error = EditInvalid("under these edits the model's logits are not finite.", got="NaN or infinity", wanted="finite numbers", do=do)


class Together:
    """The rows of one model that are generated at the same time."""

    def __init__(self, model: Model, *, prefill_tokens: int = 4096) -> None:
        self._model = model
        self._hf: Any = model.hf
        self._n_known = len(model.tokenizer)
        self._prefill_tokens = prefill_tokens
        self._cache: Any = None
        self._width = 0
        self.lanes: list[Lane] = []
        """In the order of the cache's rows."""

    @torch.no_grad()
    def admit(self, fresh: Sequence[Lane]) -> None:
        """Read the prompts of new rows, choose their first tokens, and go on with those that have not ended."""
        waiting = sorted(fresh, key=lambda lane: len(lane.row.tokens))
        while waiting:
            n = 1
            while n < len(waiting) and (n + 1) * len(waiting[n].row.tokens) <= self._prefill_tokens:
                n += 1
            some, waiting = waiting[:n], waiting[n:]
            self._read_prompts(some)

    @torch.no_grad()
    def step(self) -> None:
        """One more token for every row."""
        columns = [lane.n_read for lane in self.lanes]
        tokens = [lane.growing.choices[-1].token for lane in self.lanes]
        for lane, token, column in zip(self.lanes, tokens, columns, strict=True):
            lane.plan.take([token], column=column)
            lane.plan.window(column, stop=column + 1)
        self._width += 1
        logits, self._cache = self._forward(
            self.lanes,
            torch.tensor(tokens)[:, None],
            positions=torch.tensor(columns)[:, None],
            n_columns=[1] * len(self.lanes),
            cache=self._cache,
            mask=_mask([column + 1 for column in columns], self._width),
        )
        self._choose(self.lanes, logits)

    def drop(self) -> list[Lane]:
        """Take out the rows that are over."""
        over = [lane for lane in self.lanes if lane.is_over]
        if over:
            rows = [i for i, lane in enumerate(self.lanes) if not lane.is_over]
            self.lanes = [self.lanes[i] for i in rows]
            self._narrow(rows)
        return over

    def clear(self) -> list[Lane]:
        """Take out all rows."""
        gone, self.lanes, self._cache, self._width = self.lanes, [], None, 0
        return gone

    def _narrow(self, rows: Sequence[int]) -> None:
        if not rows:
            self.clear()
            return
        self._width = max(lane.n_read for lane in self.lanes)
        keep(self._cache, rows, width=self._width)

    def _read_prompts(self, lanes: Sequence[Lane]) -> None:
        lengths = [len(lane.row.tokens) for lane in lanes]
        width = max(lengths)
        tokens = torch.full((len(lanes), width), self._model.tokenizer.pad, dtype=torch.int64)
        for i, (lane, length) in enumerate(zip(lanes, lengths, strict=True)):
            tokens[i, width - length :] = torch.tensor(lane.row.tokens)
            lane.plan.window(0, stop=length)
        mask = _mask(lengths, width)
        positions = (mask.long().cumsum(1) - 1).clamp_min(0)
        logits, cache = self._forward(lanes, tokens, positions=positions, n_columns=lengths, cache=None, mask=mask)
        for i, lane in enumerate(lanes):
            if lane.plan.edits_cache:
                lane.plan.edit_cache(RowOfCache(cache, i))
        self._choose(lanes, logits)
        self._join(lanes, cache, width=width)

    def _join(self, lanes: Sequence[Lane], cache: Any, *, width: int) -> None:
        if not self.lanes:
            self._cache, self._width = cache, width
        else:
            self._width = max(self._width, width)
            join(self._cache, cache, width=self._width)
        self.lanes = [*self.lanes, *lanes]

    def _choose(self, lanes: Sequence[Lane], logits: Float[Tensor, "rows vocab"]) -> None:
        for lane, picked in zip(lanes, pick(logits[:, : self._n_known], [lane.stream for lane in lanes]), strict=True):
            if lane.error is None:
                lane.take(picked)

    def _forward(
        self,
        lanes: Sequence[Lane],
        tokens: Int[Tensor, "rows columns"],
        *,
        positions: Int[Tensor, "rows columns"],
        n_columns: Sequence[int],
        cache: Any,
        mask: Bool[Tensor, "rows width"],
    ) -> tuple[Float[Tensor, "rows vocab"], Any]:
        """Run the model; `n_columns` says how many of the last columns are each row's own."""
        device = self._model.device
        masked = {} if bool(mask.all()) else {"attention_mask": mask.to(device).long()}
        with self._model.tap(edit=_hooks(lanes, n_columns)):
            out = self._hf(
                input_ids=tokens.to(device),
                position_ids=positions.to(device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
                **masked,
            )
        return out.logits[:, -1], out.past_key_values


def _mask(lengths: Sequence[int], width: int) -> Bool[Tensor, "rows width"]:
    """True at each row's own columns, the last ones."""
    return torch.arange(width) >= width - torch.tensor(lengths)[:, None]


def _hooks(lanes: Sequence[Lane], n_columns: Sequence[int]) -> dict[Site, Callable[[Tensor], Tensor | None]]:
    rows_at: dict[Site, list[int]] = {}
    for i, lane in enumerate(lanes):
        for site in lane.plan.hooks:
            rows_at.setdefault(site, []).append(i)

    def visit(site: Site, rows: Sequence[int], x: Tensor) -> Tensor | None:
        out: Tensor | None = None
        for i in rows:
            lane, first = lanes[i], x.shape[1] - n_columns[i]
            try:
                new = lane.plan.hooks[site](x[i : i + 1, first:])
            except MicrotomeError as error:
                lane.error = error
                continue
            if new is not None:
                out = x.clone() if out is None else out
                out[i : i + 1, first:] = new
        return out

    return {site: lambda x, site=site, rows=rows: visit(site, rows, x) for site, rows in rows_at.items()}
