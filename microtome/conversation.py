"""Conversations: turns with roles, read strictly from the common `messages` form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from microtome.errors import CorpusInvalid, nearest

ROLES = ("system", "user", "assistant", "tool")
_ALIASES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "developer": "system", "function": "tool"}


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One message: who spoke and what was said."""

    role: str
    content: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise CorpusInvalid(f'a turn has the role "{self.role}".', got=self.role, wanted=", ".join(ROLES), do=nearest(self.role, ROLES))


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """A list of turns, in order."""

    turns: tuple[Turn, ...]

    def to_messages(self) -> list[dict[str, str]]:
        """The `[{"role", "content"}]` form that chat templates take."""
        return [{"role": turn.role, "content": turn.content} for turn in self.turns]


def from_messages(messages: object, *, where: str = "messages") -> Conversation:
    """Read `[{"role": …, "content": …}, …]` (also `from`/`value`); anything else raises `CorpusInvalid` naming the turn."""
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise CorpusInvalid(f"{where} is not a list of turns.", got=_short(messages), wanted='[{"role": …, "content": …}, …]', do="Give turns.")
    return Conversation(turns=tuple(_turn(message, f"{where}[{i}]") for i, message in enumerate(messages)))


def _turn(message: object, where: str) -> Turn:
    if not isinstance(message, Mapping):
        raise CorpusInvalid(f"{where} is not a turn.", got=_short(message), wanted='{"role": …, "content": …}', do="Give a role and a content.")
    fields: Mapping[str, Any] = message
    role, content = fields.get("role", fields.get("from")), fields.get("content", fields.get("value"))
    if not isinstance(role, str):
        raise CorpusInvalid(f"{where} has no role.", got=_short(dict(fields)), wanted=", ".join(ROLES), do='Add "role" to every message.')
    if isinstance(content, Sequence) and not isinstance(content, str):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    if content is None:
        content = ""
    if not isinstance(content, str):
        raise CorpusInvalid(f"{where} has no text.", got=_short(content), wanted="a string", do='Give "content" as a string.')
    known = _ALIASES.get(role, role)
    if known not in ROLES:
        raise CorpusInvalid(f'{where} has the role "{role}".', got=role, wanted=", ".join(ROLES), do=nearest(role, [*ROLES, *_ALIASES]))
    return Turn(role=known, content=content)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "…"
