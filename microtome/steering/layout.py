"""Which tokens a forward has: rows of prompt and generated tokens with their turns, and padded batches of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from microtome.conversation import Conversation
from microtome.errors import TokenOutOfRange
from microtome.models import Model, TurnSpan, render
from microtome.shapes import Bool, Int, Tensor

TEXT_ROLE = "text"
"""The role of every token of a plain text."""
REPLY_ROLE = "assistant"
"""The role of what is generated after a conversation."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """The tokens of one sequence, and what each of them is."""

    tokens: tuple[int, ...]
    turns: tuple[TurnSpan, ...] = ()
    """Of a conversation: where its turns are. A plain text has none."""
    n_prompt: int | None = None
    """Tokens from here on were generated; None: all are prompt."""

    @property
    def prompt(self) -> tuple[int, ...]:
        return self.tokens[: self.n_prompt]

    @property
    def generated(self) -> tuple[int, ...]:
        return self.tokens[len(self.prompt) :]

    def turn_of(self) -> list[int | None]:
        """For each prompt token its turn; None for what the template alone put there, and in a plain text."""
        turns: list[int | None] = [None] * len(self.prompt)
        for span in self.turns:
            turns[span.start : span.end] = [span.turn] * (span.end - span.start)
        return turns


Prompt: TypeAlias = str | Conversation | Row
"""A text (encoded as it is, nothing put before it), a conversation (rendered up to the opening of the reply), or tokens."""


def row_of(model: Model, prompt: Prompt) -> Row:
    """The tokens of a prompt. No token raises `TokenOutOfRange`."""
    if isinstance(prompt, Conversation):
        rendered = render(model, prompt, add_generation_prompt=True)
        row = Row(tokens=rendered.tokens, turns=rendered.turns)
    else:
        row = prompt if isinstance(prompt, Row) else Row(tokens=tuple(model.tokenizer.encode(prompt)))
    if not row.tokens:
        raise TokenOutOfRange("the prompt has no tokens.", got="none", wanted="at least one", do="Give a text that is not empty.")
    return row


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Rows padded to one length."""

    rows: tuple[Row, ...]
    tokens: Int[Tensor, "batch pos"]
    mask: Bool[Tensor, "batch pos"]
    """True at real tokens."""
    starts: tuple[int, ...]
    """The column of each row's first token."""

    @classmethod
    def of(cls, model: Model, prompts: Sequence[Prompt], *, padding: Literal["left", "right"] = "left") -> "Batch":
        """Pad the tokens of `prompts` on either side; which side changes no real token's value."""
        rows = tuple(row_of(model, prompt) for prompt in prompts)
        if not rows:
            raise TokenOutOfRange("there are no prompts.", got="none", wanted="at least one", do="Give a prompt.")
        width = max(len(row.tokens) for row in rows)
        starts = tuple(width - len(row.tokens) if padding == "left" else 0 for row in rows)
        tokens = torch.full((len(rows), width), model.tokenizer.pad, dtype=torch.int64)
        mask = torch.zeros(len(rows), width, dtype=torch.bool)
        for i, (row, start) in enumerate(zip(rows, starts, strict=True)):
            tokens[i, start : start + len(row.tokens)] = torch.tensor(row.tokens)
            mask[i, start : start + len(row.tokens)] = True
        return cls(rows=rows, tokens=tokens, mask=mask, starts=starts)

    @property
    def width(self) -> int:
        """Columns."""
        return self.tokens.shape[1]

    @property
    def is_padded(self) -> bool:
        return not bool(self.mask.all())
