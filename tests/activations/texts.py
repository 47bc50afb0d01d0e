"""Made-up texts, and what helps to ask a small corpus."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from microtome.activations import Corpus
from microtome.models import Model

WORDS = ("river", "stone", "quiet", "seven", "orange", "of", "the", "and", "naïve", "日本", "🙂", "under")

WriteLines: TypeAlias = Callable[[Sequence[Any]], Path]
Build: TypeAlias = Callable[..., Corpus]


def words(seed: int, count: int) -> str:
    """`count` words, the same ones for the same seed."""
    return " ".join(WORDS[(seed * 7 + i * i + 3 * i) % len(WORDS)] for i in range(count))


def text_of(corpus: Corpus, model: Model, doc: int) -> str:
    """A document's tokens as text."""
    span = corpus.span(doc)
    return model.tokenizer.text(corpus.tokens[span.start : span.end].tolist())
