"""Answers of the OpenAI protocol as JSON. Beside its own fields they say under `microtome` what the edits did."""

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from microtome.models import Tokenizer
from microtome.steering import Ending, Generation, TokenChoice
from microtome.steering.serving import Piece

_REASONS: Mapping[Ending, str] = {"eos": "stop", "stop": "stop", "length": "length", "time": "length", "cancelled": "length"}
_LEAST = -9999.0
"""What the protocol says for a probability of 0."""


class Telling:
    """One answer, whole or in pieces."""

    def __init__(self, *, is_chat: bool, model: str, fingerprint: str, edits: str | None, tokenizer: Tokenizer, has_logprobs: bool) -> None:
        self._is_chat = is_chat
        self._edits = edits
        self._tokenizer = tokenizer
        self._has_logprobs = has_logprobs
        name = "chatcmpl" if is_chat else "cmpl"
        self._head = {"id": f"{name}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model, "system_fingerprint": fingerprint}

    def whole(self, rows: Sequence[Generation], *, n: int) -> dict[str, Any]:
        """The answer; each `n` rows share a prompt."""
        choices = [self._choice(i, row) for i, row in enumerate(rows)]
        kind = "chat.completion" if self._is_chat else "text_completion"
        return {**self._head, "object": kind, "choices": choices, "usage": usage(rows, n=n), "microtome": self._about(rows)}

    def opening(self, row: int) -> dict[str, Any]:
        """The first event of a choice in a chat: who speaks."""
        return self._event([{"index": row, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}])

    def piece(self, piece: Piece) -> dict[str, Any]:
        """An event: what a choice has gained."""
        said: dict[str, Any] = {"delta": {"content": piece.text}} if self._is_chat else {"text": piece.text}
        logprobs = self._logprobs(piece.choices) if self._has_logprobs else None
        return self._event([{"index": piece.row, **said, "logprobs": logprobs, "finish_reason": None}])

    def closing(self, row: int, made: Generation) -> dict[str, Any]:
        """The last event of a choice: why it ended."""
        said: dict[str, Any] = {"delta": {}} if self._is_chat else {"text": ""}
        choice = {"index": row, **said, "logprobs": None, "finish_reason": _REASONS[made.ending]}
        return {**self._event([choice]), "microtome": self._about([made])}

    def totals(self, rows: Sequence[Generation], *, n: int) -> dict[str, Any]:
        """The last event of a stream that asks for usage."""
        return {**self._event([]), "usage": usage(rows, n=n)}

    def _event(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._head, "object": "chat.completion.chunk" if self._is_chat else "text_completion", "choices": choices}

    def _choice(self, index: int, row: Generation) -> dict[str, Any]:
        said: dict[str, Any] = {"message": {"role": "assistant", "content": row.text, "refusal": None}} if self._is_chat else {"text": row.text}
        logprobs = self._logprobs(row.choices[: row.n_spoken]) if self._has_logprobs else None
        return {"index": index, **said, "logprobs": logprobs, "finish_reason": _REASONS[row.ending]}

    def _about(self, rows: Sequence[Generation]) -> dict[str, Any]:
        return {"edits": self._edits, "tokens_edited": [row.n_edited for row in rows], "endings": [row.ending for row in rows]}

    def _logprobs(self, choices: Sequence[TokenChoice]) -> dict[str, Any]:
        if self._is_chat:
            content = [
                {**self._token(choice.token, choice.logprob), "top_logprobs": [self._token(each.token, each.logprob) for each in choice.top]}
                for choice in choices
            ]
            return {"content": content, "refusal": None}
        offsets = list(accumulate((len(choice.text) for choice in choices), initial=0))[:-1]
        return {
            "tokens": [self._text(choice.token) for choice in choices],
            "token_logprobs": [max(choice.logprob, _LEAST) for choice in choices],
            "top_logprobs": [{self._text(each.token): max(each.logprob, _LEAST) for each in choice.top} for choice in choices],
            "text_offset": offsets,
        }

    def _token(self, token: int, logprob: float) -> dict[str, Any]:
        return {"token": self._text(token), "logprob": max(logprob, _LEAST), "bytes": list(self._tokenizer.token_bytes(token))}

    def _text(self, token: int) -> str:
        return self._tokenizer.token_bytes(token).decode("utf-8", errors="replace")


def usage(rows: Sequence[Generation], *, n: int) -> dict[str, int]:
    """Tokens read and generated; a prompt with several choices counts once."""
    prompt, made = sum(len(row.prompt.tokens) for row in rows[::n]), sum(len(row.choices) for row in rows)
    return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}


def event(value: Mapping[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n\n"
