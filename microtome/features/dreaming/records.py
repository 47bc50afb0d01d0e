"""What a dream is answered with: frozen records. Dreamt text is untrusted."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Dreamed:
    """One prompt on a front."""

    tokens: tuple[int, ...]
    pieces: tuple[str, ...]
    activation: float
    """What the target measures where it counts: on the last token, or on the strongest one."""
    share: float
    """That over the largest in the store; above 1 no text of the corpus reaches it."""
    cross_entropy: float
    """Mean cross-entropy of its tokens under the model, in nats; the first is predicted after what begins a context."""
    corpus_share: float | None
    """The best share of the corpus' texts with at most this cross-entropy; None where none is as fluent (and for those texts themselves)."""
    iteration: int
    """When it was found; 0 for a first parent and for a text of the corpus."""


@dataclass(frozen=True, kw_only=True)
class Dream:
    """A Pareto front of prompts, so far or at its end."""

    index: str
    name: str
    """Of the target: `feature 12`, a direction's name, `what feature 12 feeds`."""
    feature: int | None
    label: str
    store_max: float
    """The largest activation in the store, in full context, which 100 % stands for."""
    length: int
    iterations: int
    """Done …"""
    planned: int
    """… of so many."""
    tokens_run: int
    """Tokens that went through the model, forward and backward."""
    prompts: int
    """Prompts that were tried."""
    hypervolumes: tuple[float, ...]
    """After each iteration, the area of (share, cross-entropy) that the front dominates, down to share 0 and up to ln(vocabulary); never falls."""
    corpus_hypervolume: float
    """The same of the corpus' own texts."""
    front: tuple[Dreamed, ...]
    """Prompts that no other beats in both: the strongest first, the most fluent last."""
    corpus_front: tuple[Dreamed, ...]
    """The same among the strongest texts of the corpus, cut to the same length and run alone."""
    corpus_texts: int
    """How many of those there were."""
    seed: int


@dataclass(frozen=True, kw_only=True)
class KeptDream:
    """A dream in the workspace."""

    name: str
    """Of its folder."""
    is_finished: bool
    """If not, a run is on its way or was interrupted."""
    dream: Dream
