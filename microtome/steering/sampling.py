"""Choosing the next token: greedy or seeded, each row by its own settings and its own random numbers, so that a batch changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from microtome.errors import ConfigError
from microtome.shapes import Float, Int, Tensor

_HEAD = 256
"""Of so many of the likeliest tokens a draw is tried first."""


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
    """Of the row's random numbers, one a token: edited and unedited runs of one seed draw the same ones."""
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
    """How one row is continued, and its random numbers, one a token."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self._numbers = torch.Generator().manual_seed(sampling.seed)

    def draw(self) -> float:
        """The next number, 0 to 1."""
        return float(torch.rand(1, generator=self._numbers, dtype=torch.float64))


def pick(logits: Float[Tensor, "batch vocab"], streams: Sequence[Stream]) -> list[Picked]:
    """A token for each row, by its own settings and its own random numbers."""
    scores = logits.float()
    totals = scores.logsumexp(-1).tolist()
    greedy = scores.argmax(-1).tolist()
    picked: list[Picked] = []
    for row, stream in enumerate(streams):
        sampling = stream.sampling
        token = greedy[row] if sampling.temperature == 0 else _drawn(scores[row].cpu(), sampling, u=stream.draw())
        top: tuple[Likely, ...] = ()
        if sampling.top_logprobs:
            best = scores[row].topk(min(sampling.top_logprobs, scores.shape[1]))
            top = tuple(Likely(i, score - totals[row]) for i, score in zip(best.indices.tolist(), best.values.tolist(), strict=True))
        picked.append(Picked(token, float(scores[row, token]) - totals[row], top))
    return picked


def _drawn(scores: Float[Tensor, "vocab"], sampling: Sampling, *, u: float) -> int:
    """Inverse of the cumulative distribution at one uniform number, tokens from likely to unlikely.

    Nearly always a few hundred of them decide; all are sorted only where those do not reach far enough.
    """
    total = (scores.double() / sampling.temperature).logsumexp(-1)
    for n in (min(_HEAD, len(scores)), len(scores)):
        ordered = _likeliest(scores, n)
        cumulative = (scores[ordered].double() / sampling.temperature - total).exp().cumsum(-1)
        reached = float(cumulative[-1])
        by_mass = int((cumulative < sampling.top_p).sum()) + 1
        kept = min(by_mass, sampling.top_k or by_mass, n)
        is_whole = n == len(scores) or reached >= sampling.top_p or (sampling.top_k is not None and sampling.top_k <= n)
        mass = float(cumulative[kept - 1]) if is_whole else 1.0
        if is_whole or (sampling.top_p == 1 and sampling.top_k is None and u < reached):
            at = int(torch.searchsorted(cumulative[:kept], u * mass, right=True))
            return int(ordered[min(at, kept - 1)])
    raise AssertionError("all tokens are the whole")


def _likeliest(scores: Float[Tensor, "vocab"], n: int) -> Int[Tensor, "n"]:
    """The `n` likeliest tokens from likely to unlikely; of equal ones the lower id first."""
    some = torch.arange(len(scores)) if n == len(scores) else scores.topk(n, sorted=False).indices.sort().values
    return some[scores[some].sort(descending=True, stable=True).indices]
