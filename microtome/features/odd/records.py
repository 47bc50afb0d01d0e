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
    cosines: tuple[tuple[float, ...], ...]
    """Between the first 12 of them, of all decoder vectors side by side (0 where a feature does not write), whichever dictionaries they are of."""
    duplicates: tuple[Duplicate, ...]
    dead: tuple[int, ...]
    rare: tuple[OddFeature, ...]
    """Fire, but on fewer than 10 tokens; rarest first."""
    one_token: tuple[OddFeature, ...]
    """Fire on 10 tokens or more, all with the same id; commonest first."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """How far two subspaces lie in each other."""

    name: str
    """`dense features`, or of a control `other features` or `random directions`."""
    draws: int
    """What the figures are the mean of."""
    dimension: int
    """Of the smaller of the two subspaces."""
    cosines: tuple[float, ...]
    """Of the principal angles, largest first: 1 is a direction that both hold, 0 one at right angles to all of the other."""
    shared: float
    """Mean squared cosine: the share of the smaller subspace that lies in the larger."""
    low: float
    """Least …"""
    high: float
    """… and largest of the draws."""
    single: float
    """Mean over the features of the largest cosine with any one feature of the other dictionary."""


@dataclass(frozen=True, kw_only=True)
class Stability:
    """Whether the dense features of two dictionaries of one model span the same subspace, and whether they are the same features."""

    index: str
    other: str
    n_dense: int
    other_dense: int
    rank: int
    """Dimensions that the first one's decoder vectors span …"""
    other_rank: int
    """… and the second one's."""
    width: int
    """Of the space that they lie in: the widths of all sites written, together."""
    dense: Overlap | None
    """None where one of the two has no dense feature."""
    controls: tuple[Overlap, ...]
    """`other features`: as many that fire but are not dense, of each; `random directions`: subspaces of the same dimensions."""


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What the model loses without one kind of subspace."""

    name: str
    """`dense features`, `other features`, `random directions` or `principal components`."""
    draws: int
    """Subspaces drawn, over which the figures are means."""
    kl: float
    """KL(without ‖ with) of the next token, nats, mean over tokens …"""
    kl_low: float
    """… and its 95 % interval over contexts."""
    kl_high: float
    loss: float
    """Rise of the next token's cross-entropy, nats, mean over tokens …"""
    loss_low: float
    loss_high: float
    """… and its 95 % interval."""
    variance: float
    """Share of the variance of what the sites hold that lies in the subspace."""
    norm: float
    """The same of the squared length, the mean included: what is taken away."""


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """The model without the span of its dense features, beside other subspaces of the same dimension."""

    index: str
    model: str
    sites: tuple[str, ...]
    """Where it is taken out: what the dense features write."""
    n_dense: int
    dimensions: Mapping[str, int]
    """Of the span, by site."""
    widths: Mapping[str, int]
    """Of the site."""
    contexts: int
    tokens: int
    """Next tokens that were predicted."""
    loss: float
    """Cross-entropy of the untouched model on them, nats."""
    removed: tuple[Removed, ...]
    """The dense features first."""
