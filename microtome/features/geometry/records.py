"""What a map is answered with: frozen records. Labels come from tokens of the corpus: untrusted text."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ClusterTerm:
    """Something that features of a cluster have in common."""

    kind: str
    """`fires on` (the commonest token), `raises` (the first of the raised tokens), `rule` (a word in the rule that labels it), `corpus` (the
    corpus label it prefers) or `reads` (the site)."""
    text: str
    share: float
    """Of the cluster's features …"""
    overall: float
    """… and of all on the map."""
    score: float
    """share · log2(share / overall): bits that it tells about being in the cluster."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Features that lie together, named by a rule."""

    number: int
    """Largest first, from 0."""
    label: str
    size: int
    x: float
    """The middle (median) on the map, which reaches from −1 to 1."""
    y: float
    terms: tuple[ClusterTerm, ...]
    """Best first."""
    null: float
    """The best score of as many features drawn anywhere on the map, the largest of 20 draws."""
    is_weak: bool
    """Whether the first term's score is no better than that: the label then says nothing."""


@dataclass(frozen=True, kw_only=True)
class MapView:
    """A whole map, its points by column."""

    index: str
    id: str
    """Of the map."""
    layout: str
    n_features: int
    """Of the index; those that never fire are not on the map."""
    features: tuple[int, ...]
    x: tuple[float, ...]
    """From −1 to 1."""
    y: tuple[float, ...]
    cluster: tuple[int, ...]
    """−1 for a feature of none."""
    density: tuple[float, ...]
    kind: tuple[int, ...]
    """Of the rule that labels it, a number in `kinds`."""
    kinds: tuple[str, ...]
    site: tuple[int, ...]
    """That it reads, a number in `sites`."""
    sites: tuple[str, ...]
    clusters: tuple[Cluster, ...]
    facts: Mapping[str, float]
    """`neighbours_kept`: of the 15 features with the most similar directions, the share that is among the 15 nearest on the map;
    `by_chance`: what a random map would keep; `outside`: share of the features in no cluster."""
