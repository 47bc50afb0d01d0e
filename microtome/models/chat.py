"""Conversations as tokens, with the exact span of every turn.

The chat template is rendered twice: with a mark in place of each turn's text, which cuts it into the parts between the texts, and with the
texts. The second must be the parts with the texts between them, character by character, or the conversation is refused: spans are proved,
never guessed. Where one turn ends and the next begins is seen by rendering the conversation up to there.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from jinja2 import TemplateError

from microtome.conversation import Conversation
from microtome.errors import ChatNotRendered
from microtome.models.model import Model
from microtome.models.tokens import Tokenizer


@dataclass(frozen=True, kw_only=True)
class TurnSpan:
    """Where one turn's tokens are: `[start, end)` with the template's tokens around it, `[content_start, content_end)` without.

    A token that holds characters of both counts as content; one that holds characters of two turns belongs to the turn it begins in.
    """

    turn: int
    role: str
    start: int
    end: int
    content_start: int
    content_end: int


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A conversation as the model reads it."""

    tokens: tuple[int, ...]
    text: str
    turns: tuple[TurnSpan, ...]
    """One a turn, in order. Tokens in none of them come from the template alone: a default system turn, the opening of a reply."""


class _Skeleton(NamedTuple):
    """What a template makes of a sequence of roles, whatever is said."""

    parts: tuple[str, ...]
    """The text before, between and after the turns' contents."""
    starts: tuple[int, ...]
    """For each turn, the offset in the part before its content at which the turn begins."""
    end: int
    """Length of what belongs to the last turn in the last part."""


def render(model: Model | Tokenizer, conversation: Conversation, *, add_generation_prompt: bool = False) -> Rendered:
    """Tokens of a conversation under the model's chat template, and the span of every turn.

    The tokens are those of `apply_chat_template`, save that a turn's text is never read as control tokens: "<|im_end|>" in what somebody said
    stays characters. Raises `ChatNotRendered` when there is no template, when it refuses these roles or when it cannot be aligned.
    """
    tokenizer = model.tokenizer if isinstance(model, Model) else model
    roles = tuple(turn.role for turn in conversation.turns)
    if not roles:
        raise ChatNotRendered("the conversation has no turns.", got="no turns", wanted="at least one turn", do="Leave it out.")
    skeleton = _skeleton(tokenizer, roles, add_generation_prompt)
    text = _apply(tokenizer, conversation.to_messages(), add_generation_prompt)
    contents = _align(text, skeleton.parts, [turn.content for turn in conversation.turns])
    tokens = _tokens(tokenizer, text, parts=skeleton.parts, contents=contents)
    return Rendered(tokens=tuple(tokens.ids), text=text, turns=_spans(roles, skeleton, contents=contents, ends=tokens.ends))


def _mark(turn: int) -> str:
    return f"\ue000{turn}\ue001"


def _apply(tokenizer: Tokenizer, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
    if tokenizer.chat_template is None:
        do = "Use an instruction-tuned model, or give plain text."
        raise ChatNotRendered("this model has no chat template.", got="a base model", wanted="a chat template", do=do)
    try:
        text = tokenizer.hf.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        do = "Leave out or merge turns until the roles are of the order that the template wants."
        raise ChatNotRendered(f"the chat template refuses this conversation: {error}", got=roles, wanted="other roles", do=do) from error
    assert isinstance(text, str)
    return text


@lru_cache(maxsize=1024)
def _skeleton(tokenizer: Tokenizer, roles: tuple[str, ...], add_generation_prompt: bool) -> _Skeleton:
    parts = _parts(tokenizer, roles, add_generation_prompt)
    starts = [len(parts[0]) - len(_opening(tokenizer, roles[0], parts[0]))]
    known: dict[tuple[str, str], int] = {}  # the same words after the same role end alike, so that a long chat costs no more than a short one
    for turn in range(1, len(roles)):
        after = (roles[turn - 1], parts[turn])
        if after not in known:
            known[after] = _shared(_ending(tokenizer, roles[:turn]), parts[turn])
        starts.append(known[after])
    return _Skeleton(parts, tuple(starts), _shared(_ending(tokenizer, roles), parts[-1]))


@lru_cache(maxsize=1024)
def _parts(tokenizer: Tokenizer, roles: tuple[str, ...], add_generation_prompt: bool) -> tuple[str, ...]:
    marks = [_mark(turn) for turn in range(len(roles))]
    messages = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
    rest, parts = _apply(tokenizer, messages, add_generation_prompt), list[str]()
    for mark in marks:
        before, found, rest = rest.partition(mark)
        if not found or mark in rest:
            raise _unaligned(f"turn {len(parts)} ({roles[len(parts)]}) does not appear once and in order", mark)
        parts.append(before)
    return (*parts, rest)


def _ending(tokenizer: Tokenizer, roles: tuple[str, ...]) -> str:
    """What follows the last content when the conversation ends there; "" when the template does not let it end there."""
    try:
        return _parts(tokenizer, roles, False)[-1]
    except ChatNotRendered:
        return ""


def _opening(tokenizer: Tokenizer, role: str, part: str) -> str:
    """The end of the first part that opens the first turn; a default system turn before it is the template's own."""
    probe = {"user": ("user", "assistant", "user"), "assistant": ("user", "assistant")}.get(role)
    if probe is None:
        return part
    try:
        gap = _parts(tokenizer, probe, False)[-2]
    except ChatNotRendered:
        return part
    opening = gap[_shared(_ending(tokenizer, probe[:-1]), gap) :]
    return opening if opening and part.endswith(opening) else part


def _shared(left: str, right: str) -> int:
    """Length of the longest common beginning."""
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))


def _align(text: str, parts: Sequence[str], contents: Sequence[str]) -> list[str]:
    """The contents as they stand in `text` (some templates strip them), such that parts and contents in turn make all of it."""
    if not text.startswith(parts[0]):
        raise _unaligned("it begins differently than with other texts", text[:80])
    at, found = len(parts[0]), list[str]()
    for turn, content in enumerate(contents):
        part, is_last = parts[turn + 1], turn == len(contents) - 1
        for candidate in dict.fromkeys((content, content.strip(), content.rstrip(), content.lstrip(), content.lstrip("\n"))):
            end = at + len(candidate)
            if text.startswith(candidate + part, at) and (not is_last or end + len(part) == len(text)):
                found.append(candidate)
                at = end + len(part)
                break
        else:
            raise _unaligned(f"turn {turn} is not found where it should be", text[at : at + 80])
    return found


class _Tokens(NamedTuple):
    ids: list[int]
    ends: list[int]
    """Offset in the text's UTF-8 bytes at which each token ends."""


def _tokens(tokenizer: Tokenizer, text: str, *, parts: Sequence[str], contents: Sequence[str]) -> _Tokens:
    if any(tokenizer.spells_special(content) for content in contents):
        ids = tokenizer.encode_template(parts[0])
        for content, part in zip(contents, parts[1:], strict=True):
            ids += [*tokenizer.encode(content), *tokenizer.encode_template(part)]
    else:
        ids = tokenizer.encode_template(text)
    pieces = [tokenizer.token_bytes(token) for token in ids]
    if b"".join(pieces) == text.encode():
        return _Tokens(ids, list(accumulate(map(len, pieces))))
    ends = tokenizer.template_ends(text)
    if len(ends) != len(ids):
        raise _unaligned("its tokens do not spell its text", text[:80])
    return _Tokens(ids, ends)


def _spans(roles: Sequence[str], skeleton: _Skeleton, *, contents: Sequence[str], ends: Sequence[int]) -> tuple[TurnSpan, ...]:
    begins = [0, *ends[:-1]]
    at, starts, insides = 0, list[int](), list[tuple[int, int]]()
    for part, start, content in zip(skeleton.parts[:-1], skeleton.starts, contents, strict=True):
        starts.append(bisect_left(begins, at + len(part[:start].encode())))
        first = at + len(part.encode())
        at = first + len(content.encode())
        insides.append((bisect_right(ends, first), bisect_left(begins, at)))
    starts.append(bisect_left(begins, at + len(skeleton.parts[-1][: skeleton.end].encode())))
    spans: list[TurnSpan] = []
    for turn, role in enumerate(roles):
        start, end = starts[turn], starts[turn + 1]
        first = min(max(insides[turn][0], start), end)
        last = min(max(insides[turn][1], first), end)
        spans.append(TurnSpan(turn=turn, role=role, start=start, end=end, content_start=first, content_end=last))
    return tuple(spans)


def _unaligned(why: str, got: str) -> ChatNotRendered:
    do = "Render the conversation yourself and give it as plain text."
    return ChatNotRendered(f"the chat template cannot be aligned: {why}.", got=repr(got), wanted="every turn's text, once and in order", do=do)
