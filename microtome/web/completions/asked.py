"""What a request of the OpenAI protocol asks for, read strictly: a field that would not be honoured is an error, not ignored."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from microtome.conversation import from_messages
from microtome.errors import QueryInvalid
from microtome.steering import Prompt, Row, Sampling

MAX_CHOICES = 64
MAX_TOP = 20
_Id = Annotated[int, Field(ge=0, lt=2**31)]
_Stop = str | Annotated[list[str], Field(max_length=16)] | None
_Nothing = Annotated[float, Field(ge=0, le=0)] | None
Body = TypeVar("Body", bound="_Common")


class _StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")
    include_usage: bool = False
    include_obfuscation: bool | None = None


class _Common(BaseModel):
    """Fields that both kinds of request have. Those under "not honoured" may only have the values that ask for nothing."""

    model_config = ConfigDict(extra="forbid", strict=True)
    model: str = Field(min_length=1, max_length=500)
    n: int = Field(default=1, ge=1, le=MAX_CHOICES)
    max_tokens: int | None = Field(default=None, ge=1, le=2**31)
    temperature: float | None = Field(default=None, ge=0, le=100)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=1, le=2**31)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63 - MAX_CHOICES)
    stop: _Stop = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    edits: Any = None
    # accepted, and without any meaning here
    user: str | None = None
    metadata: Any = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    # not honoured
    frequency_penalty: _Nothing = None
    presence_penalty: _Nothing = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None

    def wanted_top(self) -> int | None:
        """Likeliest tokens to report with each; None: no log-probabilities."""
        raise NotImplementedError

    def wanted_prompts(self) -> tuple[Prompt, ...]:
        raise NotImplementedError


class _Text(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    type: Literal["text"]
    text: str


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[_Text] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    refusal: None = None
    tool_calls: Annotated[list[Any], Field(max_length=0)] | None = None


class _Format(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    type: Literal["text"]


class ChatBody(_Common):
    """`POST /v1/chat/completions`."""

    messages: list[_Message] = Field(min_length=1, max_length=10_000)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=2**31)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP)
    # not honoured
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    response_format: _Format | None = None

    def wanted_top(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None

    def wanted_prompts(self) -> tuple[Prompt, ...]:
        return (from_messages([message.model_dump(include={"role", "content"}) for message in self.messages]),)


class CompletionBody(_Common):
    """`POST /v1/completions`: plain texts, or tokens."""

    prompt: str | list[str] | list[_Id] | list[list[_Id]]
    logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP)
    # not honoured
    echo: Literal[False] | None = None
    suffix: Literal[""] | None = None
    best_of: Literal[1] | None = None

    def wanted_top(self) -> int | None:
        return self.logprobs

    def wanted_prompts(self) -> tuple[Prompt, ...]:
        given: Any = self.prompt
        several = isinstance(given, list) and given and not isinstance(given[0], int)
        return tuple(Row(tokens=tuple(one)) if isinstance(one, list) else one for one in (given if several else [given]))


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request, whichever address it came to."""

    is_chat: bool
    model: str
    prompts: tuple[Prompt, ...]
    n: int
    """Choices of each prompt."""
    sampling: Sampling
    """Its seed is that of the first choice."""
    edits: object
    """The JSON of edits, or None."""
    has_logprobs: bool
    is_stream: bool
    has_usage: bool
    """Of a stream: whether its last event tells the tokens used."""


def read_chat(body: bytes, *, max_new_tokens: int) -> Asked:
    """A chat request; `max_new_tokens` holds where it names none. Raises `QueryInvalid`, `CorpusInvalid`, `ConfigError`."""
    return _asked(_read(ChatBody, body), is_chat=True, max_new_tokens=max_new_tokens)


def read_completion(body: bytes, *, max_new_tokens: int) -> Asked:
    """A request to continue texts."""
    return _asked(_read(CompletionBody, body), is_chat=False, max_new_tokens=max_new_tokens)


def _read(kind: type[Body], body: bytes) -> Body:
    try:
        values = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        got, do = f"byte {error.start} is {body[error.start]:#04x}", "Send JSON in UTF-8."
        raise QueryInvalid("the request is not UTF-8.", got=got, wanted="JSON in UTF-8", do=do) from error
    except (ValueError, RecursionError) as error:
        got = str(error)[:200] if isinstance(error, ValueError) else "it is nested too deep"
        raise QueryInvalid("the request is not JSON.", got=got, wanted="a JSON object", do="Correct it.") from error
    if not isinstance(values, dict):
        raise QueryInvalid("the request is not a JSON object.", got=type(values).__name__, wanted='{"model": …}', do="Send an object.")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = _place(first["loc"])
        raise QueryInvalid(f"the request's {where} cannot be used.", got=_short(first["input"]), wanted=first["msg"], do=_way_out(first)) from error


def _place(path: Sequence[int | str]) -> str:
    """Where in the request, without the names that pydantic gives to alternatives."""
    inner = {"role", "content", "type", "text", "include_usage", *_Message.model_fields}
    return ".".join(str(part) for i, part in enumerate(path) if i == 0 or isinstance(part, int) or part in inner) or "request"


def _way_out(problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        return "Leave it out: the model cannot do it, and nothing is ignored silently."
    return "Leave it out or correct it; docs/reference/web.md lists what is taken."


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _asked(body: _Common, *, is_chat: bool, max_new_tokens: int) -> Asked:
    top, given = body.wanted_top(), body.max_tokens
    if isinstance(body, ChatBody):
        given = body.max_completion_tokens or given
    stop = () if body.stop is None else (body.stop,) if isinstance(body.stop, str) else tuple(body.stop)
    sampling = Sampling(
        max_new_tokens=given or max_new_tokens,
        temperature=1.0 if body.temperature is None else float(body.temperature),
        top_p=1.0 if body.top_p is None else float(body.top_p),
        top_k=body.top_k,
        seed=secrets.randbits(48) if body.seed is None else body.seed,
        stop=stop,
        top_logprobs=top or 0,
    )
    return Asked(
        is_chat=is_chat,
        model=body.model,
        prompts=body.wanted_prompts(),
        n=body.n,
        sampling=sampling,
        edits=body.edits,
        has_logprobs=top is not None,
        is_stream=bool(body.stream),
        has_usage=body.stream_options is not None and body.stream_options.include_usage,
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:119] + "…"
