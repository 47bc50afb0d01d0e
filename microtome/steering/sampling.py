"""Choosing the next token: greedy or seeded, each row by its own settings and its own random numbers, so that a batch changes nothing.

A token is drawn by a race: the one with the largest logit/T − ln E, E a number for each token from the exponential distribution (the Gumbel-max
trick). So a rounding of the logits changes the draw only where two tokens all but tie in the race; walking down the sorted
probabilities instead, it would whenever two of the many unlikely tokens change places.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from microtome.errors import ConfigError
from microtome.shapes import Float, Int, Tensor

_HEAD = 256
"""Of so many of the likeliest tokens it is tried first whether they are all that may be drawn."""
_LEAST = 1e-30
"""For a number of the race that rounds to 0."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a row is continued."""

    max_new_tokens: int = 64
    temperature: float = 0.0
    """0: always the likeliest token."""
    top_p: float = 1.0
    """Only the likeliest tokens that together reach this probability, the last one included."""
    top_k: int | None = None
    """Only so many of the likeliest tokens."""
    seed: int = 0
    """Of the row's random numbers, one for each token of the vocabulary at each step: edited and unedited runs of one seed draw the same."""
    stop: tuple[str, ...] = ()
    """The row ends when one of these texts was generated; it is cut off from `text`."""
    ends_at_eos: bool = True
    """Whether the model's end tokens end the row."""
    top_logprobs: int = 0
    """How many of the likeliest tokens to report at each step."""

    def __post_init__(self) -> None:
        wanted = {
            "max_new_tokens": (self.max_new_tokens >= 1, "at least 1"),
            "temperature": (0 <= self.temperature < float("inf"), "0 or more"),
            "top_p": (0 < self.top_p <= 1, "above 0, at most 1"),
            "top_k": (self.top_k is None or self.top_k >= 1, "at least 1, or none"),
            "top_logprobs": (self.top_logprobs >= 0, "0 or more"),
            "stop": ("" not in self.stop, "texts that are not empty"),
            "seed": (-(2**63) <= self.seed < 2**63, "a whole number of 64 bits"),
        }
        for name, (holds, what) in wanted.items():
            if not holds:
                raise ConfigError(f"Sampling.{name} is out of range.", got=getattr(self, name), wanted=what, do="Correct it.")


class Likely(NamedTuple):
    token: int
    logprob: float


@dataclass(frozen=True, kw_only=True)
class TokenChoice:
    """One generated token."""

    token: int
    text: str
    """What it adds to the text: a character whose bytes are spread over tokens comes with the one that completes it."""
    logprob: float
    """ln of its probability at temperature 1, under the edits, over the tokens that the tokenizer knows."""
    top: tuple[Likely, ...] = ()


class Picked(NamedTuple):
    token: int
    logprob: float
    top: tuple[Likely, ...]


class Stream:
    """How one row is continued, and its random numbers."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self._numbers = torch.Generator().manual_seed(sampling.seed)

    def draw(self, n: int) -> Float[Tensor, "n"]:
        """The next `n` numbers, exponentially distributed."""
        return torch.empty(n).exponential_(generator=self._numbers)


def pick(logits: Float[Tensor, "batch vocab"], streams: Sequence[Stream]) -> list[Picked]:
    """A token for each row, by its own settings and its own random numbers."""
    scores = logits.float()
    totals = scores.logsumexp(-1).tolist()
    greedy = scores.argmax(-1).tolist()
    picked: list[Picked] = []
    for row, stream in enumerate(streams):
        sampling = stream.sampling
        token = greedy[row] if sampling.temperature == 0 else _drawn(scores[row].cpu(), sampling, numbers=stream.draw(scores.shape[1]))
        top: tuple[Likely, ...] = ()
        if sampling.top_logprobs:
            best = scores[row].topk(min(sampling.top_logprobs, scores.shape[1]))
            top = tuple(Likely(i, score - totals[row]) for i, score in zip(best.indices.tolist(), best.values.tolist(), strict=True))
        picked.append(Picked(token, float(scores[row, token]) - totals[row], top))
    return picked


def _drawn(scores: Float[Tensor, "vocab"], sampling: Sampling, *, numbers: Float[Tensor, "vocab"]) -> int:
    """The winner of the race among the tokens that may be drawn."""
    race = scores / sampling.temperature - numbers.clamp_min(_LEAST).log()
    if sampling.top_p == 1 and sampling.top_k is None:
        return int(race.argmax())
    kept = _kept(scores, sampling)
    return int(kept[race[kept].argmax()])


def _kept(scores: Float[Tensor, "vocab"], sampling: Sampling) -> Int[Tensor, "n"]:
    """The tokens that `top_p` and `top_k` leave, from likely to unlikely; all are sorted only where the head does not reach far enough."""
    scaled = scores.double() / sampling.temperature
    total = scaled.logsumexp(-1)
    for n in (min(_HEAD, len(scores)), len(scores)):
        ordered = _likeliest(scores, n)
        cumulative = (scaled[ordered] - total).exp().cumsum(-1)
        by_mass = int((cumulative < sampling.top_p).sum()) + 1
        if n == len(scores) or by_mass <= n or (sampling.top_k is not None and sampling.top_k <= n):
            return ordered[: min(by_mass, sampling.top_k or by_mass, n)]
    raise AssertionError("all tokens are the whole")


def _likeliest(scores: Float[Tensor, "vocab"], n: int) -> Int[Tensor, "n"]:
    """The `n` likeliest tokens from likely to unlikely; of equal ones the lower id first."""
    some = torch.arange(len(scores)) if n == len(scores) else scores.topk(n, sorted=False).indices.sort().values
    return some[scores[some].sort(descending=True, stable=True).indices]
