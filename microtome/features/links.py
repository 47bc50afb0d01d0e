"""What links of features are answered with: frozen records like those in `records.py`."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Link:
    """One feature that a component feeds, or is fed by."""

    feature: int
    site: str
    """The site that its dictionary reads …"""
    number: int
    """… and its number there."""
    label: str
    twera: float
    """What the source adds to the target's pre-activation directly, on average over the tokens weighted by the target's activation."""
    era: float
    """The same summed over the tokens on which the target fires, over all kept tokens of the store."""
    weight: float
    """Virtual weight V: the source's decoder · the target's encoder, norm's gain folded in, norm's scale left out."""
    count: int
    """Tokens on which both fire."""
    density: float
    """Of this feature, over the store."""


@dataclass(frozen=True, kw_only=True)
class Suppressed:
    """A feature that would have fired, had a source not written against it."""

    feature: int
    site: str
    number: int
    label: str
    released: float
    """How much more it would fire without the source, averaged over all tokens of the sample (in its own activation)."""
    count: int
    """Tokens of the sample on which it does not fire and would."""
    weight: float
    """Virtual weight V, negative."""
    density: float


@dataclass(frozen=True, kw_only=True)
class Links:
    """What a component feeds (`downstream`) or is fed by (`upstream`), strongest first."""

    index: str
    name: str
    """`feature 12` or the name of the direction."""
    feature: int | None
    """None for a direction."""
    label: str
    way: str
    """`downstream` or `upstream`."""
    rank: str
    """`twera` or `era`: what the lists are ordered by."""
    scale: str
    """`measured`: each token's norm scale is inside the averages. `none`: no norm lies between. `left out`: the index does not hold it."""
    n_tokens: int
    """Tokens on which the component fires."""
    n_reached: int
    """Features at the sites that it reaches, or that reach it."""
    promotes: tuple[Link, ...]
    """Raised (downstream), or raising it (upstream)."""
    suppresses: tuple[Link, ...]
    """Lowered though they fire, or lowering it."""
    over: str = ""
    """The corpus of the summary that it was asked over, "" for the index' own, which the densities are of either way."""
    would_suppress: tuple[Suppressed, ...] = ()
    """Downstream features that do not fire and would have without it: TWERA is blind to them. Measured with the model on a sample."""
    sample: int = 0
    """Tokens of that sample; 0 when it was not asked for."""


@dataclass(frozen=True, kw_only=True)
class Coactive:
    """A feature that fires on the same tokens as another."""

    feature: int
    site: str
    number: int
    label: str
    count: int
    """Tokens on which both fire."""
    pmi: float
    """Pointwise mutual information in bits: log2 of P(both) / (P(one) P(other)) over the kept tokens; 0 when they know nothing of each other."""
    jaccard: float
    """Tokens on which both fire / tokens on which either does."""
    share: float
    """Share of the asked feature's firings that are together with this one."""
    density: float
    """Of this feature, over the store."""


@dataclass(frozen=True, kw_only=True)
class Alike:
    """A feature of the same dictionary with a similar direction."""

    feature: int
    site: str
    number: int
    label: str
    encoder: float
    """Cosine of the encoder directions: do they read the same?"""
    decoder: float
    """Cosine of the decoder directions (all that each writes): do they write the same?"""
    together: int
    """Tokens on which both fire."""
    density: float
    """Of this feature, over the store."""


@dataclass(frozen=True, kw_only=True)
class Alikes:
    """The nearest features of the same dictionary, by what they read and by what they write."""

    index: str
    feature: int
    label: str
    encoder: tuple[Alike, ...]
    decoder: tuple[Alike, ...]


@dataclass(frozen=True, kw_only=True)
class Match:
    """A feature of another dictionary that may be the same one."""

    feature: int
    site: str
    number: int
    label: str
    correlation: float | None
    """Pearson's r of the two activations over the tokens that both indexes keep, 0 where one does not fire; None where no tokens are shared."""
    cosine: float | None
    """Of the decoder directions; None where they write spaces of different width."""
    count: int
    """Tokens on which both fire; 0 where no tokens are shared."""
    density: float
    """Of this feature, over its own store."""


@dataclass(frozen=True, kw_only=True)
class Matches:
    """Where a feature is found again: in another index, or in the other dictionaries of its own."""

    index: str
    """Of the feature that was asked for."""
    feature: int
    label: str
    other: str
    """Where it was sought."""
    n_tokens: int
    """Tokens that both indexes keep; 0 when they are of different corpora, and then there are no correlations."""
    null: float | None
    """The control: the largest correlation when the feature's activations are moved along the kept tokens by a drawn distance."""
    is_mutual: bool | None
    """Whether the best match by correlation has this feature as its own best match back; None where nothing correlates."""
    by_correlation: tuple[Match, ...]
    by_cosine: tuple[Match, ...]


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A feature that may be a part of the same concept: a suspicion with its figures, to be looked at, not a proof."""

    kind: str
    """`split`: both fire on the same words, never together. `absorbs`: it takes this feature's place on some tokens. `absorbed by`: the reverse."""
    feature: int
    site: str
    number: int
    label: str
    decoder: float
    """Cosine of the decoder directions."""
    encoder: float
    """Cosine of the encoder directions."""
    count: int
    """Tokens on which this feature fires …"""
    together: int
    """… and on which both fire."""
    expected: float
    """Tokens on which both would fire if, on each word, they knew nothing of each other."""
    strength: float
    """What the rarer one writes along the other's decoder direction where it fires, over what the other writes there itself."""
