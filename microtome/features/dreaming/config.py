"""How long and how hard to dream."""

from dataclasses import dataclass
from typing import Literal

from microtome.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DreamConfig:
    """Settings of the evolution; the same ones on the same model, index and target give the same dream."""

    length: int = 12
    """Tokens of a prompt."""
    population: int = 8
    """Parents, each with a penalty of its own on cross-entropy."""
    children: int = 8
    """Children of each parent in an iteration; each differs from it in one token."""
    iterations: int = 100
    top_k: int = 256
    """A token is drawn from so many that the gradient likes best at its place."""
    penalty_low: float = 0.01
    """Least penalty: how much of the largest activation in the store one nat of cross-entropy is worth."""
    penalty_high: float = 1.0
    """Largest penalty; those of the population lie evenly in the logarithm between."""
    restart_every: int = 30
    """Iterations after which all parents begin again from the best one at a penalty in the middle; 0 never does."""
    start: Literal["random", "corpus"] = "random"
    """What the first parents are: random tokens, or for each penalty the best of the corpus' texts, which then are on the front too."""
    at: Literal["last", "any"] = "last"
    """Where the activation counts: on the last token, or on whichever is strongest."""
    corpus_texts: int = 256
    """The strongest firings in the corpus, cut to the same length, that the dream is held against."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("length", "population", "children", "iterations", "top_k", "corpus_texts"):
            if getattr(self, name) < 1:
                raise ConfigError(f"DreamConfig.{name} is too small.", got=getattr(self, name), wanted="at least 1", do="Correct it.")
        if self.restart_every < 0:
            raise ConfigError("DreamConfig.restart_every is negative.", got=self.restart_every, wanted="0 or more", do="Correct it.")
        if not 0 < self.penalty_low <= self.penalty_high:
            got = f"{self.penalty_low}, {self.penalty_high}"
            raise ConfigError("DreamConfig's penalties are no range.", got=got, wanted="0 < penalty_low ≤ penalty_high", do="Correct them.")
