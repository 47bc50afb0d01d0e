"""What a report on odd features holds: frozen records, in the units of `features/records.py`."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Category:
    """One explanation of a dense feature, tested."""

    name: str
    """`position`, `newline`, `punctuation`, `content word`, `sentence end`, `alphabet` or `PC1`."""
    value: float
    """What was measured: a rank correlation, an AUC, a share or a cosine."""
    bar: float
    """From where on it counts."""
    holds: bool


@dataclass(frozen=True, kw_only=True)
class Antipode:
    """The feature that points the other way."""

    feature: int
    label: str
    score: float
    """Cosine of the encoders times cosine of the decoders, both below 0: near 1, the two halves of one line."""
    encoder_cosine: float
    decoder_cosine: float
    """Of all decoder vectors side by side, for a dictionary that writes several sites."""
    cofire: float
    """Tokens on which both fire, over the firings of the rarer: two halves of one line never fire together."""
    density: float


@dataclass(frozen=True, kw_only=True)
class DenseFeature:
    """A feature that fires on more than a tenth of the tokens."""

    feature: int
    site: str
    label: str
    density: float
    mean: float
    antipode: Antipode | None
    """The best one; None where no feature of its dictionary has both cosines below 0."""
    categories: tuple[Category, ...]
    explained: tuple[str, ...]
    """Names of the categories that hold, and `antipodal` for a score above 0.7."""


@dataclass(frozen=True, kw_only=True)
class Duplicate:
    """Two features of one dictionary that write the same and fire on the same tokens."""

    feature: int
    other: int
    label: str
    other_label: str
    decoder_cosine: float
    encoder_cosine: float
    jaccard: float
    """Tokens on which both fire, over those on which either does."""


@dataclass(frozen=True, kw_only=True)
class OddFeature:
    """A line of a plain list."""

    feature: int
    site: str
    label: str
    count: int
    """Tokens on which it fires."""
    documents: int
    token: str
    """Its commonest token's piece."""
    max: float


@dataclass(frozen=True, kw_only=True)
class Odd:
    """The odd features of an index."""

    index: str
    n_features: int
    kept: int
    """Kept tokens of the store."""
    tokens_read: int
    """Of these, how many the category tests read: evenly spaced ones where there are many."""
    pc1: str
    """Where the first principal component comes from; "" where no activations are at hand, so that it was not tested."""
    counts: Mapping[str, int]
    """`dense`, `unexplained` (dense ones that no test explains), `duplicates` (pairs), `dead`, `rare`, `one_token`: all there are, listed or not."""
    dense: tuple[DenseFeature, ...]
    """Densest first."""
    duplicates: tuple[Duplicate, ...]
    dead: tuple[int, ...]
    rare: tuple[OddFeature, ...]
    """Fire, but on fewer than 10 tokens; rarest first."""
    one_token: tuple[OddFeature, ...]
    """Fire on 10 tokens or more, all with the same id; commonest first."""
