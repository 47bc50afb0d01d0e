"""What training reports: a record a step, and the result."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from microtome.models import Site
from microtome.stats import Result
from microtome.training.config import TrainConfig
from microtome.training.export import Made


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One step of one learning rate."""

    phase: Literal["search", "train"]
    step: int
    """Steps done, this one included."""
    steps: int
    """Steps of this phase."""
    tokens: int
    """Tokens seen in this phase."""
    lr: float
    """Learning rate of this step."""
    peak_lr: float
    """What the schedule rises to: names the run during a search."""
    fvu: float
    """Mean squared error over the variance of the rows that set the scale, an estimate of FVU on this batch; the mean over the sites written."""
    l0: float
    """Mean active features a token, of each member of a set."""
    dead: int
    """Features counted as dead before this step, of all members."""
    aux_loss: float
    """Revival loss before its coefficient, in the units of `fvu`; 0 when nothing is dead."""
    penalty: float = 0.0
    """All other losses, weighted, in the units of `fvu`."""


@runtime_checkable
class Callback(Protocol):
    """Called after every step."""

    def __call__(self, record: StepRecord, /) -> None: ...


@dataclass(frozen=True, kw_only=True)
class LrTrial:
    """One learning rate of the search."""

    lr: float
    dev_fvu: float | None
    """Fraction of variance unexplained on the dev split after `lr_search_tokens`; None when it diverged."""
    dev_objective: float | None = None
    """What the rate was chosen by: `dev_fvu`, or with penalties the squared error and the penalties at full weight, as training counts them."""


@dataclass(frozen=True, kw_only=True)
class ControlDensity:
    """How often the features of a control are active, in the same bins as the dictionary's."""

    name: str
    """`random` or `mean`."""
    counts: tuple[int, ...]
    never_active: int


@dataclass(frozen=True, kw_only=True)
class SiteQuality:
    """The figures of one site that a set or crosscoder writes; L0 and dead share are of the features that read at its place."""

    site: Site
    fvu: Result
    l0: Result
    dead_share: Result
    ce_recovered: Result | None
    """With this site alone replaced."""
    ce_undefined: str = ""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Figures on documents held out from training (the test split), each beside the controls that make sense for the kind.

    Where several sites are written, FVU and L0 are means over them, the dead share is of all features, and cross-entropy is recovered with all sites
    replaced at once; `by_site` has each alone.
    """

    fvu: Result
    l0: Result
    dead_share: Result
    ce_recovered: Result | None
    """None when no model was given, or when it is not defined."""
    ce_undefined: str = ""
    """Why `ce_recovered` is not defined although a model was given."""
    density_edges: tuple[float, ...]
    """Borders of the bins of `density_counts`, log10 of the share of tokens on which a feature is active."""
    density_counts: tuple[int, ...]
    """Features in each bin; features that were never active are in `never_active` instead."""
    never_active: int
    control_densities: tuple[ControlDensity, ...] = ()
    """The histograms of the controls."""
    controls_left_out: Mapping[str, str] = field(default_factory=lambda: {})
    """Why a control does not stand beside the figures, by its name."""
    tokens: int
    """Held-out tokens measured."""
    documents: int
    split: str
    model: str
    """Reference of the model, with its quantisation where it has one."""
    by_site: tuple[SiteQuality, ...] = ()
    """Empty where one site is written."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A finished training run."""

    dictionary: Made
    path: Path
    """The artifact."""
    id: str
    config: TrainConfig
    lr: float
    """The peak learning rate that trained."""
    lr_trials: tuple[LrTrial, ...]
    """Empty when the rate was given."""
    quality: Quality
    history: tuple[dict[str, Any], ...]
    """The rows of `steps.jsonl`: one `StepRecord` each, as logged."""
