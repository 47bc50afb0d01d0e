"""Choosing the next token: greedy or seeded, each row by its own settings and its own random numbers, so that a batch changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from microtome.errors import ConfigError
from microtome.shapes import Float, Tensor


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


class Chooser:
    """The random numbers of a batch, a stream a row."""

    def __init__(self, samplings: Sequence[Sampling]) -> None:
        self._samplings = samplings
        self._streams = [torch.Generator().manual_seed(sampling.seed) for sampling in samplings]

    def pick(self, logits: Float[Tensor, "batch vocab"]) -> list[Picked]:
        """A token for each row, by its own settings."""
        scores = logits.float()
        totals = scores.logsumexp(-1).tolist()
        greedy = scores.argmax(-1).tolist()
        picked: list[Picked] = []
        for row, (sampling, stream) in enumerate(zip(self._samplings, self._streams, strict=True)):
            token = greedy[row] if sampling.temperature == 0 else _drawn(scores[row], sampling, stream)
            top: tuple[Likely, ...] = ()
            if sampling.top_logprobs:
                best = scores[row].topk(min(sampling.top_logprobs, scores.shape[1]))
                top = tuple(Likely(i, score - totals[row]) for i, score in zip(best.indices.tolist(), best.values.tolist(), strict=True))
            picked.append(Picked(token, float(scores[row, token]) - totals[row], top))
        return picked


def _drawn(scores: Float[Tensor, "vocab"], sampling: Sampling, stream: torch.Generator) -> int:
    """Inverse of the cumulative distribution at one uniform number, tokens from likely to unlikely."""
    u = float(torch.rand(1, generator=stream, dtype=torch.float64))
    ordered = scores.cpu().double().sort(descending=True, stable=True)
    cumulative = (ordered.values / sampling.temperature).softmax(-1).cumsum(-1)
    kept = int((cumulative < sampling.top_p).sum()) + 1
    kept = min(kept, sampling.top_k or kept, len(cumulative))
    at = int(torch.searchsorted(cumulative[:kept], u * float(cumulative[kept - 1]), right=True))
    return int(ordered.indices[min(at, kept - 1)])
