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
