"""One row while it is generated: its tokens and text so far, and whether it has ended."""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from microtome.errors import TokenOutOfRange
from microtome.models import Model, Tokenizer
from microtome.steering.layout import Row
from microtome.steering.sampling import Picked, Sampling, TokenChoice

Ending: TypeAlias = Literal["eos", "stop", "length", "cancelled", "time"]
"""Why a row ended: an end token, a stop text, its length, its caller, or (of a server) its time."""


@dataclass(kw_only=True, eq=False)
class Growing:
    """One row while it is generated."""

    limit: int
    """Tokens at most."""
    sampling: Sampling
    tokenizer: Tokenizer
    ends: frozenset[int]
    """Tokens that end it."""
    choices: list[TokenChoice] = field(default_factory=lambda: [])
    text: str = ""
    ending: Ending | None = None

    def __post_init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    @classmethod
    def of(cls, model: Model, row: Row, *, sampling: Sampling) -> "Growing":
        """The row before its first token. A prompt that fills the model's context raises `TokenOutOfRange`."""
        room = model.max_context - len(row.tokens)
        if room <= 0:
            wanted, do = f"fewer than {model.max_context}", "Cut the prompt."
            raise TokenOutOfRange("a prompt leaves no room to generate.", got=f"{len(row.tokens)} tokens", wanted=wanted, do=do)
        return cls(limit=min(sampling.max_new_tokens, room), sampling=sampling, tokenizer=model.tokenizer, ends=_end_tokens(model))

    def take(self, picked: Picked) -> TokenChoice:
        """One more token; `ending` says whether it was the last."""
        is_end = self.sampling.ends_at_eos and picked.token in self.ends
        piece = "" if is_end else self._decoder.decode(self.tokenizer.token_bytes(picked.token))
        choice = TokenChoice(token=picked.token, text=piece, logprob=picked.logprob, top=picked.top)
        self.choices.append(choice)
        before, self.text = len(self.text), self.text + piece
        stops = [at for stop in self.sampling.stop if (at := self.text.find(stop, max(0, before - len(stop) + 1))) >= 0]
        if is_end:
            self.end("eos")
        elif stops:
            self.text, self.ending = self.text[: min(stops)], "stop"
        elif len(self.choices) >= self.limit:
            self.end("length")
        return choice

    def end(self, ending: Ending) -> None:
        """No more tokens; bytes of a character that never came whole are shown as replaced."""
        self.ending = ending
        self.text += self._decoder.decode(b"", final=True)

    @property
    def settled(self) -> int:
        """Characters of the text that no stop text can cut off any more, whatever comes."""
        if self.ending is not None:
            return len(self.text)
        held = 0
        for stop in self.sampling.stop:
            for n in range(min(len(stop) - 1, len(self.text)), held, -1):
                if self.text.endswith(stop[:n]):
                    held = n
                    break
        return len(self.text) - held


def n_spoken(choices: Sequence[TokenChoice], text: str, *, ending: Ending | None) -> int:
    """How many of the tokens are of the text: neither an end token nor what a stop text cut off."""
    if ending == "eos":
        return len(choices) - 1
    if ending != "stop":
        return len(choices)
    begun = 0
    for n, choice in enumerate(choices):
        if begun >= len(text):
            return n
        begun += len(choice.text)
    return len(choices)


def _end_tokens(model: Model) -> frozenset[int]:
    """The tokenizer's end of sequence, and those that the model's generation config names."""
    config: Any = getattr(model.hf, "generation_config", None)
    named = getattr(config, "eos_token_id", None)
    listed = named if isinstance(named, list | tuple) else [named]
    return frozenset(token for token in (*listed, model.tokenizer.eos) if isinstance(token, int))
