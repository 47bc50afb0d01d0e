"""What the index answers when it is asked with texts of one's own: frozen records, in the units of `records.py`. Texts are untrusted."""

from dataclasses import dataclass

from microtome.features.records import TextTest


@dataclass(frozen=True, kw_only=True)
class TextTests:
    """One feature on many prompts, in the order given."""

    feature: int
    label: str
    store_max: float
    """Its largest activation in the store, which 100 % stands for; 0 for a feature that never fires there."""
    store_count: int
    """Its firings in the store, which ranks and percentiles are among."""
    above_store: int
    """Prompts that reach above 100 %: then the examples in the store are too narrow to say what the feature responds to."""
    tests: tuple[TextTest, ...]


@dataclass(frozen=True, kw_only=True)
class PromptHit:
    """A feature found by prompts with and without something."""

    feature: int
    label: str
    score: float
    """What it was ranked by."""
    worst: float
    """Its weakest answer to a positive prompt that counts: largest activation there over its maximum over the store."""
    against: float
    """Its strongest answer to a negative prompt, in the same unit (0 where none was given or it is silent on all)."""
    positive: tuple[float, ...]
    """On each positive prompt, the largest activation over the feature's maximum."""
    negative: tuple[float, ...]
    peaks: tuple[str, ...]
    """The piece on which it is strongest in each positive prompt ("" where it does not fire)."""
    density: float


@dataclass(frozen=True, kw_only=True)
class PromptSearch:
    """Features that fire on all positive prompts and on no negative one."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    rank: str
    """`specific` or `share`."""
    misses: int
    """Positive prompts on which a feature may be silent."""
    allow: float
    """The strongest answer to a negative prompt that is forgiven, as a share of the feature's maximum."""
    n_active: int
    """Features that fire on some positive prompt …"""
    n_common: int
    """… of those that fire on all of them, but for the misses …"""
    n_left: int
    """… and of those that no negative prompt takes away."""
    hits: tuple[PromptHit, ...]


@dataclass(frozen=True, kw_only=True)
class TokenHit:
    """A feature found by a token."""

    feature: int
    label: str
    f1: float
    """Harmonic mean of rate and share: 1 when it fires on every such token and on no other."""
    rate: float
    """P(fires | token): share of the token's kept occurrences on which it fires."""
    share: float
    """P(token | fires): share of the feature's firings that are on it."""
    count: int
    mean: float
    """Mean activation of those firings."""
    share_of_max: float
    """That over the feature's maximum over the store."""
    density: float


@dataclass(frozen=True, kw_only=True)
class TokenSearch:
    """Features that fire on a token, exactly over the store."""

    text: str
    tokens: tuple[int, ...]
    """The token ids meant: those that are exactly the text; with `spellings` also those that are it in another case or spacing."""
    pieces: tuple[str, ...]
    occurrences: int
    """Kept tokens of the store with one of these ids."""
    n_active: int
    """Features that fire on any of them."""
    hits: tuple[TokenHit, ...]


@dataclass(frozen=True, kw_only=True)
class Separator:
    """How well one feature tells two sets of texts apart."""

    feature: int
    label: str
    auc: float
    """Chance that a positive text has the larger value than a negative one, ties counted half: 0.5 tells nothing, below it fires on the negative."""
    low: float
    """Ends of the 95 % score interval (`stats.auc_interval`); for this feature alone, not for its having been picked."""
    high: float
    p: float
    """Share of the shuffles in which the best of *all* features was as far from 0.5 as this one (itself counted): already for all of them."""
    positive: float
    """Mean value on the positive texts, over the feature's maximum over the store …"""
    negative: float
    """… and on the negative."""
    density: float


@dataclass(frozen=True, kw_only=True)
class Separation:
    """Features ranked by how well they tell two small sets of texts apart."""

    n_positive: int
    n_negative: int
    pool: str
    """A text's value: `max` of its tokens, or their `mean`."""
    n_tested: int
    """Features that fire on any of the texts: all of them were tried."""
    shuffles: int
    null_95: float
    """The best AUC (on either side) among all features that 95 % of the shuffles of the labels stay below: what picking the best gives by chance."""
    n_significant: int
    """Features with p ≤ 0.05."""
    seed: int
    hits: tuple[Separator, ...]
