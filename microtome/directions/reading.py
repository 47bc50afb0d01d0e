"""Reading one vector a passage: the mean over a span of its tokens at one site."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import torch

from microtome.conversation import Conversation, Turn
from microtome.errors import ConfigError, NotEnoughTokens, TokenOutOfRange, nearest
from microtome.models import Model, Site, TurnSpan, render
from microtome.progress import Progress, Throttled
from microtome.shapes import Float, Tensor

Passage: TypeAlias = str | Conversation
"""A text as it is, or a conversation: up to the opening of the reply, unless its last turn is the reply."""
SpanKind: TypeAlias = Literal["last", "all", "reply", "template", "text", "since"]
_KINDS: tuple[SpanKind, ...] = get_args(SpanKind)


@dataclass(frozen=True, kw_only=True)
class Span:
    """Which tokens of a passage a vector is the mean of.

    `last`: the last token, in a conversation that waits for a reply the one before the reply. `all`: all but the first, which in many models
    is an attention sink with a length of its own. `reply`: what the last assistant turn says. `template`: what the chat template puts after
    the last turn's words. `text`: every occurrence of a text. `since`: from the last occurrence of a text on.
    """

    kind: SpanKind = "last"
    text: str | None = None
    """What `text` and `since` look for."""
    skip: int = 0
    """Tokens left out at the start: of the passage for `all` (stories are read from the 50th on: 50), of the span otherwise."""
    back: int = 0
    """Of `last`: so many tokens before the last one."""

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ConfigError(f'there is no span "{self.kind}".', got=self.kind, wanted=", ".join(_KINDS), do=nearest(str(self.kind), _KINDS))
        if (self.kind in ("text", "since")) != bool(self.text):
            raise ConfigError(
                f'the span "{self.kind}" and a text do not fit.', got=self.text, wanted="a text for `text` and `since` only", do="Correct it."
            )
        if self.skip < 0 or self.back < 0:
            raise ConfigError("a span counts backwards.", got=f"skip {self.skip}, back {self.back}", wanted="0 or more", do="Correct it.")

    @classmethod
    def parse(cls, text: str) -> "Span":
        """`last`, `last-2`, `all`, `reply`, `template`, `from:50`, `text:Alice`, `since:Trial`. Else `ConfigError`."""
        kind, colon, rest = text.partition(":")
        if kind == "from" and rest.isdigit():
            return cls(kind="all", skip=int(rest))
        if kind.startswith("last-") and kind[5:].isdigit() and not colon:
            return cls(kind="last", back=int(kind[5:]))
        if kind in ("text", "since") and rest:
            return cls(kind="text" if kind == "text" else "since", text=rest)
        for plain in ("last", "all", "reply", "template"):
            if text == plain:
                return cls(kind=plain)
        wanted = "last, last-2, all, reply, template, from:50, text:Alice or since:Trial"
        raise ConfigError(f'"{text}" is no span.', got=text, wanted=wanted, do=nearest(kind, (*_KINDS, "from")))


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Where recipes read: a model, a site and a span. `rows` is a vector a passage, `tokens` one a token."""

    model: Model
    site: Site
    span: Span = Span()
    batch_size: int = 16
    progress: Progress | None = None

    def __post_init__(self) -> None:
        self.model.site(self.site)

    def over(self, kind: SpanKind) -> "Reader":
        """The same with another plain span."""
        return replace(self, span=Span(kind=kind))

    def rows(self, passages: Sequence[Passage]) -> Float[Tensor, "n width"]:
        """The mean of each passage's span, summed in fp64, given in fp32 on the CPU.

        Raises `NotEnoughTokens` for a passage whose span is empty, `TokenOutOfRange`, `ChatNotRendered`.
        """
        found: dict[int, Tensor] = {i: x.double().mean(0).float() for i, x in self._read(passages)}
        return torch.stack([found[i] for i in range(len(passages))])

    def tokens(self, passages: Sequence[Passage]) -> Float[Tensor, "n width"]:
        """The tokens of the spans, passage after passage."""
        return torch.cat(self.spans(passages))

    def spans(self, passages: Sequence[Passage]) -> list[Float[Tensor, "n width"]]:
        """The tokens of each passage's span; a row of `rows` is their mean."""
        found = dict(self._read(passages))
        return [found[i] for i in range(len(passages))]

    def _read(self, passages: Sequence[Passage]) -> Generator[tuple[int, Float[Tensor, "n width"]]]:
        if not passages:
            raise NotEnoughTokens("there is nothing to read.", got="no passages", wanted="at least one", do="Give passages.")
        laid = [_laid_out(self.model, passage) for passage in passages]
        spots = [_spots(self.span, each, self.model, number=i) for i, each in enumerate(laid)]
        order = sorted(range(len(laid)), key=lambda i: len(laid[i].tokens))
        report, done = Throttled(self.progress), 0

        def read(some: list[int]) -> list[tuple[int, Tensor]]:
            width = max(len(laid[i].tokens) for i in some)
            tokens = torch.full((len(some), width), self.model.tokenizer.pad, dtype=torch.int64)
            mask = torch.zeros(len(some), width, dtype=torch.bool)
            for row, i in enumerate(some):
                n = len(laid[i].tokens)
                tokens[row, :n], mask[row, :n] = torch.tensor(laid[i].tokens), True
            values = self.model.capture(tokens, [self.site], mask=mask)[self.site]
            return [(i, values[row, spots[i]].float().cpu()) for row, i in enumerate(some)]

        with self.model.workers() as run_all:
            for found in run_all(read, (order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size))):
                yield from found
                done += len(found)
                report(f"read {self.site}", done, len(order), unit="passages")


@dataclass(frozen=True, kw_only=True)
class _Laid:
    tokens: tuple[int, ...]
    turns: tuple[TurnSpan, ...]


def awaits_reply(conversation: Conversation) -> bool:
    """Whether somebody else than the assistant spoke last."""
    return conversation.turns[-1].role != "assistant"


def asked(user: str, *, system: str = "", reply: str | None = None) -> Conversation:
    """A conversation of one question, perhaps with a system turn and the reply."""
    turns = [Turn(role="system", content=system)] if system else []
    turns.append(Turn(role="user", content=user))
    if reply is not None:
        turns.append(Turn(role="assistant", content=reply))
    return Conversation(turns=tuple(turns))


def spoken(model: Model, text: str) -> Passage:
    """The text as a user's turn where the model has a chat template, else as it is."""
    return text if model.tokenizer.chat_template is None else asked(text)


def tokens_of(model: Model, passage: Passage) -> tuple[int, ...]:
    """The tokens of a passage: of a conversation that waits for a reply, up to its opening."""
    return _laid_out(model, passage).tokens


def _laid_out(model: Model, passage: Passage) -> _Laid:
    if isinstance(passage, Conversation):
        rendered = render(model, passage, add_generation_prompt=awaits_reply(passage))
        laid = _Laid(tokens=rendered.tokens, turns=rendered.turns)
    else:
        laid = _Laid(tokens=tuple(model.tokenizer.encode(passage)), turns=())
    if not laid.tokens:
        raise TokenOutOfRange("a passage has no tokens.", got="an empty text", wanted="at least one token", do="Leave it out.")
    return laid


def _spots(span: Span, laid: _Laid, model: Model, *, number: int) -> list[int]:
    n = len(laid.tokens)
    chosen: list[int] = []
    if span.kind == "last":
        chosen = [n - 1 - span.back] if span.back < n else []
    elif span.kind == "all":
        chosen = list(range(max(span.skip, min(1, n - 1)), n))
    elif span.kind == "reply":
        replies = [turn for turn in laid.turns if turn.role == "assistant"]
        chosen = list(range(replies[-1].content_start, replies[-1].content_end)) if replies else []
    elif span.kind == "template":
        chosen = list(range(laid.turns[-1].content_end, n)) if laid.turns else []
    else:
        chosen = _found(span, laid, model)
    chosen = chosen if span.kind == "all" else chosen[span.skip :]
    if not chosen:
        what = f'the span "{span.kind}" selects no token of passage {number}.'
        do = "Leave the passage out, or choose a span that it has."
        raise NotEnoughTokens(what, got=f"{n} tokens, of them none meant", wanted="at least one", do=do)
    return chosen


def _found(span: Span, laid: _Laid, model: Model) -> list[int]:
    pieces = [model.tokenizer.token_bytes(token) for token in laid.tokens]
    owner = [i for i, piece in enumerate(pieces) for _ in piece]
    whole, wanted = b"".join(pieces), (span.text or "").encode()
    if span.kind == "since":
        at = whole.rfind(wanted)
        return list(range(owner[at], len(pieces))) if at >= 0 else []
    chosen: set[int] = set()
    at = whole.find(wanted)
    while at >= 0:
        chosen |= set(range(owner[at], owner[at + len(wanted) - 1] + 1))
        at = whole.find(wanted, at + 1)
    return sorted(chosen)
