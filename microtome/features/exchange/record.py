"""What all formats can say of a feature: the small record in the middle, so that each format is a thin mapping to and from it.

Text is kept as the exact bytes of each token. A format whose tokens are strings gets `pieces`: a character that is spread over tokens stands on
the last of them and the earlier ones are "", so that the strings joined are the text, byte for byte.
"""

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, cast

from microtome.features.text import decoded

Extra = Mapping[str, Mapping[str, Any]]
"""By format: the fields of its own files that this record has no word for. They are written back by that format alone."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """The dictionary that features are of, as other tools name it."""

    id: str
    """`15-wiki`: layer and set, or whatever the files say."""
    model: str
    """The model's name in those files."""
    set_name: str = ""
    """Name of the dictionary, without its layer."""
    site: str = ""
    """The site that it reads, as `L15.resid_post`; "" where the files do not say."""
    layer: int | None = None
    n_features: int | None = None
    """Features of the dictionary, in the files or not; None where it is not known."""
    dataset: str = ""
    """The corpus."""
    n_prompts: int = 0
    """Documents of the corpus."""
    prompt_tokens: int = 0
    """Tokens that the model saw at once."""
    extra: Extra = field(default_factory=lambda: {})


@dataclass(frozen=True, kw_only=True)
class Interval:
    """The slice of a feature's firings that an example was drawn from."""

    low: float | None = None
    high: float | None = None
    share: float | None = None
    """Share of the feature's firings that lie in it."""
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A stretch of text and the feature's activation on each of its tokens."""

    tokens: tuple[bytes, ...]
    """The exact bytes of each token."""
    activations: tuple[float, ...]
    peak: int = -1
    """Index of the token it was chosen for; -1 where the files do not say."""
    interval: Interval | None = None
    """None for one of the strongest."""
    origin: str = ""
    """Where in the corpus it stands, as `document 12, token 345`; "" where the files do not say."""
    extra: Extra = field(default_factory=lambda: {})

    @property
    def pieces(self) -> list[str]:
        """One string a token; joined they are the text."""
        return pieces(self.tokens)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True, kw_only=True)
class TokenLogit:
    """A token that the feature raises or lowers."""

    text: str
    value: float | None = None
    """None where a format lists tokens alone."""


@dataclass(frozen=True, kw_only=True)
class Bars:
    """A histogram as pages draw it: the middle of each of its equally wide bars, and their heights."""

    values: tuple[float, ...] = ()
    heights: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What somebody or something says that the feature is."""

    text: str
    method: str = ""
    """How it was made: `rule`, `user`, `np_max-act`, …"""
    model: str = ""
    """The model that wrote it."""
    score: float | None = None
    """F1 of a rule."""
    extra: Extra = field(default_factory=lambda: {})


@dataclass(frozen=True, kw_only=True)
class FeatureRecord:
    """One feature."""

    source: str
    """`Source.id`."""
    number: int
    """Its number in that dictionary."""
    density: float | None = None
    """Share of tokens on which it is active."""
    max: float | None = None
    """Largest activation."""
    activations: Bars | None = None
    """Its activations where it fires."""
    logits: Bars | None = None
    """Its direct effect on all tokens' logits."""
    percentiles: tuple[float, ...] = ()
    """Of its activations where it fires: 1 %, 2 %, … 100 %."""
    top_logits: tuple[TokenLogit, ...] = ()
    bottom_logits: tuple[TokenLogit, ...] = ()
    similar: tuple[tuple[int, float], ...] = ()
    """Features of the same dictionary with the most similar decoder directions, and the cosine."""
    explanations: tuple[Explanation, ...] = ()
    examples: tuple[Example, ...] = ()
    extra: Extra = field(default_factory=lambda: {})

    @property
    def label(self) -> str:
        """The first explanation, or nothing."""
        return self.explanations[0].text if self.explanations else ""

    def in_pieces(self) -> "FeatureRecord":
        """The record as a format keeps it whose tokens are strings: characters stand whole on the token that completes them."""
        return replace(self, examples=tuple(replace(each, tokens=tuple(as_bytes(piece) for piece in each.pieces)) for each in self.examples))


def pieces(tokens: Sequence[bytes]) -> list[str]:
    """Tokens as strings whose concatenation is the text; bytes that are no UTF-8 become U+FFFD."""
    whole = [_whole(token) for token in tokens]
    if None not in whole:
        return cast("list[str]", whole)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    found = [decoder.decode(token) for token in tokens]
    if found:
        found[-1] += decoder.decode(b"", True)
    return found


_whole = lru_cache(maxsize=1 << 18)(decoded)


def as_bytes(piece: str) -> bytes:
    """The bytes of a token that a file gives as a string; half of a surrogate pair, which is no text, becomes U+FFFD."""
    try:
        return piece.encode()
    except UnicodeEncodeError:
        return piece.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
