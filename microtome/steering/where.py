"""Where-clauses: which tokens, as a value. Phases are said, never guessed from how many tokens a forward has.

Every field that is given narrows the choice; `any_of` adds a choice among clauses, and `exclude` always subtracts. A token's answer depends
on the prompt and on the token itself alone, so it is the same with and without a cache, alone and in a batch.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from microtome.config import fingerprint
from microtome.conversation import ROLES
from microtome.errors import ConfigError, nearest
from microtome.models import Tokenizer
from microtome.registry import Registry
from microtome.steering.layout import REPLY_ROLE, TEXT_ROLE, Row

Predicate = Callable[[Tokenizer, int], bool]
"""Says of a token id whether it is meant."""
PREDICATES: Registry[Predicate] = Registry("predicate")


@PREDICATES.register("special")
def is_special(tokenizer: Tokenizer, token: int) -> bool:
    """A control token."""
    return token in tokenizer.special_ids


@PREDICATES.register("newline")
def is_newline(tokenizer: Tokenizer, token: int) -> bool:
    """A token that holds a line break."""
    return b"\n" in tokenizer.token_bytes(token)


@PREDICATES.register("word")
def is_word(tokenizer: Tokenizer, token: int) -> bool:
    """A token with a letter or digit of ASCII, or any byte beyond it; control tokens are none."""
    return token not in tokenizer.special_ids and any(byte >= 128 or chr(byte).isalnum() for byte in tokenizer.token_bytes(token))


@dataclass(frozen=True, kw_only=True)
class Window:
    """A half-open range with the meaning of a Python slice: negative numbers count from the end, None is open."""

    start: int | None = None
    stop: int | None = None

    def over(self, n: int) -> range:
        """The positions it takes of `n`."""
        return range(*slice(self.start, self.stop).indices(n))


@dataclass(frozen=True, kw_only=True)
class Where:
    """Tokens: of which phase, role and turn, where, and of what kind. Without any field: all of them, prompt and generation."""

    phases: tuple[Literal["prompt", "generation"], ...] | None = None
    """None: both, unless only the prompt is spoken of (`positions`, `text`) or only the generation (`steps`)."""
    roles: tuple[str, ...] | None = None
    """`system`, `user`, `assistant`, `tool`, or `text` for plain text. What is generated after a conversation is `assistant`."""
    turns: tuple[int, ...] | None = None
    """Turns of the prompt from 0; negative ones count from its end (−1: the last turn given). The reply is the turn after the last."""
    part: Literal["all", "content", "template"] = "all"
    """What was said, what the chat template put around it, or both. What is generated is content."""
    positions: tuple[Window, ...] | None = None
    """Of the prompt's tokens; −1 is the last of them, wherever the reply ends."""
    steps: tuple[Window, ...] | None = None
    """Of the generated tokens, the first being 0. Its end is not known in advance, so none may be negative."""
    text: str | None = None
    """Tokens of every occurrence of this text in the prompt, partly covered ones included."""
    since: str | None = None
    """Tokens from the last occurrence of this text in the prompt on, to the end of the generation."""
    tokens: tuple[int, ...] | None = None
    """These token ids."""
    matches: str | None = None
    """Tokens in whose own text this regular expression is found."""
    predicate: str | None = None
    """A name in `PREDICATES`."""
    any_of: tuple["Where", ...] = ()
    """At least one of these must hold too."""
    exclude: tuple["Where", ...] = ()
    """None of these may hold."""

    def __post_init__(self) -> None:
        for role in self.roles or ():
            if role not in (*ROLES, TEXT_ROLE):
                wanted = ", ".join((*ROLES, TEXT_ROLE))
                raise ConfigError(f'Where.roles has the unknown role "{role}".', got=role, wanted=wanted, do=nearest(role, (*ROLES, TEXT_ROLE)))
        for phase in self.phases or ():
            if phase not in ("prompt", "generation"):
                raise ConfigError("Where.phases has an unknown phase.", got=phase, wanted="prompt, generation", do="Correct it.")
        for window in self.steps or ():
            if (window.start or 0) < 0 or (window.stop or 0) < 0:
                got = f"{window.start}:{window.stop}"
                raise ConfigError("Where.steps counts from the end.", got=got, wanted="numbers from 0", do="Count generated tokens from the first.")
        if "" in (self.text, self.since):
            raise ConfigError("Where looks for an empty text.", got='""', wanted="a text", do="Leave the field out.")
        if self.matches is not None:
            try:
                re.compile(self.matches)
            except re.error as error:
                raise ConfigError(f"Where.matches is no regular expression: {error}.", got=self.matches, wanted="one", do="Correct it.") from error
        if self.predicate is not None:
            PREDICATES.get(self.predicate)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self)

    @property
    def spoken_phases(self) -> frozenset[str]:
        """The phases meant, given or implied."""
        if self.phases is not None:
            return frozenset(self.phases)
        of_prompt, of_generation = self.positions is not None or self.text is not None, self.steps is not None
        if of_prompt != of_generation:
            return frozenset(("prompt",) if of_prompt else ("generation",))
        return frozenset(("prompt", "generation"))

    def select(self, row: Row, tokenizer: Tokenizer) -> list[bool]:
        """For each token of the row, prompt and generated, whether it is meant."""
        chosen = Selector(self, row, tokenizer=tokenizer)
        return [*chosen.prompt, *(chosen.generated(step, token) for step, token in enumerate(row.generated))]


EVERYWHERE = Where()


class Selector:
    """A where-clause made ready for one prompt."""

    def __init__(self, where: Where, row: Row, *, tokenizer: Tokenizer) -> None:
        self._where = where
        self._tokenizer = tokenizer
        self._any_of = [Selector(each, row, tokenizer=tokenizer) for each in where.any_of]
        self._exclude = [Selector(each, row, tokenizer=tokenizer) for each in where.exclude]
        self._kinds: dict[int, bool] = {}
        self._pieces = [tokenizer.token_bytes(token) for token in row.prompt]
        self._since = self._first_since()
        self._reply = "generation" in where.spoken_phases and self._is_of_reply(row)
        self.prompt = self._of_prompt(row)
        """For each prompt token, whether it is meant."""

    @property
    def is_by_token(self) -> bool:
        """Whether a generated token must be known to say whether it is meant."""
        own = (self._where.tokens, self._where.matches, self._where.predicate) != (None, None, None)
        return own or any(each.is_by_token for each in (*self._any_of, *self._exclude))

    def generated(self, step: int, token: int) -> bool:
        """Whether the generated token number `step` is meant."""
        return (
            self.may_generate(step)
            and self._is_kind(token)
            and (not self._any_of or any(each.generated(step, token) for each in self._any_of))
            and not any(each.generated(step, token) for each in self._exclude)
        )

    def may_generate(self, step: int) -> bool:
        """Whether some token could be meant as generated token number `step`; exclusions are not looked at."""
        if not self._reply or self._where.positions is not None or self._where.text is not None:
            return False
        steps = self._where.steps
        in_steps = steps is None or any((w.start or 0) <= step and (w.stop is None or step < w.stop) for w in steps)
        return in_steps and (not self._any_of or any(each.may_generate(step) for each in self._any_of))

    def _of_prompt(self, row: Row) -> list[bool]:
        n = len(row.prompt)
        if "prompt" not in self._where.spoken_phases or self._where.steps is not None:
            return [False] * n
        chosen = self._by_turn(row)
        if self._where.positions is not None:
            chosen = _both(chosen, _marked(n, (i for window in self._where.positions for i in window.over(n))))
        if self._where.text is not None:
            chosen = _both(chosen, _marked(n, (i for first, last in self._found(self._where.text) for i in range(first, last + 1))))
        if self._where.since is not None:
            chosen = [keep and self._since is not None and i >= self._since for i, keep in enumerate(chosen)]
        chosen = [keep and self._is_kind(token) for keep, token in zip(chosen, row.prompt, strict=True)]
        if self._any_of:
            chosen = [keep and any(each.prompt[i] for each in self._any_of) for i, keep in enumerate(chosen)]
        return [keep and not any(each.prompt[i] for each in self._exclude) for i, keep in enumerate(chosen)]

    def _by_turn(self, row: Row) -> list[bool]:
        where, n = self._where, len(row.prompt)
        if not row.turns:
            plain = (where.roles is None or TEXT_ROLE in where.roles) and where.turns is None and where.part != "template"
            return [plain] * n
        wanted = self._wanted_turns(row)
        narrows = where.roles is not None or where.turns is not None
        chosen = [not narrows and where.part != "content"] * n
        for span in row.turns:
            meant = (where.roles is None or span.role in where.roles) and (wanted is None or span.turn in wanted)
            inside, around = meant and where.part != "template", meant and where.part != "content"
            chosen[span.start : span.end] = [around] * (span.end - span.start)
            chosen[span.content_start : span.content_end] = [inside] * (span.content_end - span.content_start)
        return chosen

    def _wanted_turns(self, row: Row) -> set[int] | None:
        turns = self._where.turns
        return None if turns is None else {turn if turn >= 0 else len(row.turns) + turn for turn in turns}

    def _is_of_reply(self, row: Row) -> bool:
        where, wanted = self._where, self._wanted_turns(row)
        role = REPLY_ROLE if row.turns else TEXT_ROLE
        of_turn = wanted is None or (bool(row.turns) and len(row.turns) in wanted)
        return (
            (where.roles is None or role in where.roles) and of_turn and where.part != "template" and (where.since is None or self._since is not None)
        )

    def _first_since(self) -> int | None:
        found = [] if self._where.since is None else self._found(self._where.since)
        return found[-1][0] if found else None

    def _found(self, text: str) -> list[tuple[int, int]]:
        """First and last token of each occurrence."""
        whole, wanted = b"".join(self._pieces), text.encode()
        owner = [i for i, piece in enumerate(self._pieces) for _ in piece]
        found: list[tuple[int, int]] = []
        start = whole.find(wanted)
        while start >= 0:
            found.append((owner[start], owner[start + len(wanted) - 1]))
            start = whole.find(wanted, start + 1)
        return found

    def _is_kind(self, token: int) -> bool:
        known = self._kinds.get(token)
        if known is None:
            where, tokenizer = self._where, self._tokenizer
            known = self._kinds[token] = (
                (where.tokens is None or token in where.tokens)
                and (where.matches is None or re.search(where.matches, tokenizer.piece(token)) is not None)
                and (where.predicate is None or PREDICATES.get(where.predicate)(tokenizer, token))
            )
        return known


def _both(left: list[bool], right: list[bool]) -> list[bool]:
    return [a and b for a, b in zip(left, right, strict=True)]


def _marked(n: int, positions: Iterable[int]) -> list[bool]:
    marks = [False] * n
    for i in positions:
        marks[i] = True
    return marks
