"""The one training loop."""

from collections.abc import Sequence
from pathlib import Path

from microtome.activations import Corpus, Shards
from microtome.models import Model
from microtome.progress import Progress
from microtome.training.config import TrainConfig
from microtome.training.records import Callback, Trained


def train(
    shards: Shards,
    corpus: Corpus,
    *,
    config: TrainConfig,
    out: str | Path,
    model: Model | None = None,
    callbacks: Sequence[Callback] = (),
    progress: Progress | None = None,
    replace: bool = False,
) -> Trained:
    """Train a dictionary on the train split of `shards` and write it to `out` as an artifact of kind `dictionary`.

    With `model`, cross-entropy recovered is measured too. Killed at any moment and run again, it goes on from its last checkpoint and the
    finished artifact has the same bytes. A finished artifact of exactly this work is opened, not made again.

    Raises `SiteNotFound`, `ShapeMismatch`, `NotEnoughTokens`, `TrainingDiverged`, and what `Draft.open` raises.
    """
    raise NotImplementedError
