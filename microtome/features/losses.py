"""How surprised the model is where a feature fires: the cross-entropy of every token of a corpus, measured once, and a feature's share of it.

An artifact of its own, kind `losses`, because it depends on the model and the corpus alone: every index of that corpus uses it. An index' own pass
ends behind the last site that is read and never computes a logit, so measuring there would cost all later layers and the unembedding.

| file | holds |
|---|---|
| `losses-00000.safetensors`, … (a range of tokens each) | `loss` f32 [tokens]: −ln p(token, given those before it); NaN for a context's first |
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
import torch

from microtome.activations import Corpus, check_model_fits, context_batches, shard_ranges
from microtome.artifacts import Artifact, Draft, Opened, existing
from microtome.features.arrays import Array, open_arrays, write_arrays
from microtome.features.examples import slice_of
from microtome.models import Model
from microtome.progress import Progress, Throttled

if TYPE_CHECKING:
    from microtome.features.store import Store

KIND = "losses"
_RANGE = 65_536
_BATCH = {"cpu": 512, "cuda": 16_384}
"""Tokens run at once; their logits are all in memory."""


@dataclass(frozen=True, kw_only=True)
class MeanLoss:
    """A mean cross-entropy in nats with its 95 % interval, clustered by document."""

    mean: float
    low: float
    high: float
    n: int
    """Tokens."""


@dataclass(frozen=True, kw_only=True)
class SliceLoss:
    """The same for one slice of the firings, by activation."""

    low: float
    """Activations in this slice are ≥ low …"""
    high: float
    """… and < high."""
    here: MeanLoss | None
    after: MeanLoss | None


@dataclass(frozen=True, kw_only=True)
class FeatureLoss:
    """How well the model predicts where a feature fires."""

    index: str
    feature: int
    here: MeanLoss | None
    """−log p of the tokens that it fires on: was the token itself a surprise? None where none can be predicted."""
    after: MeanLoss | None
    """−log p of the tokens that follow: does the model know what comes next?"""
    store_here: float
    """The same over all kept tokens of the store …"""
    store_after: float
    """… and over what follows them."""
    slices: tuple[SliceLoss, ...]
    """Strongest slice first."""


def measure_losses(model: Model, corpus: Corpus, *, out: str | Path, progress: Progress | None = None) -> Path:
    """Make the losses artifact at `out`, or leave it as it is when it is there; a range of tokens at a time, so an interrupted run resumes.

    Raises `ShapeMismatch` (another tokenizer), `ArtifactConflict`, `WorkspaceBusy`, `DiskFull`.
    """
    check_model_fits(model, corpus)
    inputs = {"corpus": corpus.id, "model": model.fingerprint}
    if existing(out, KIND, config={}, inputs=inputs) is None:
        tell = Throttled(progress)
        ranges = shard_ranges(corpus, _RANGE)
        with Draft.open(out, KIND, config={}, inputs=inputs) as draft:
            for number, (start, end) in enumerate(ranges):
                name = f"losses-{number:05d}.safetensors"
                if not draft.has(name):
                    with draft.place(name) as file:
                        write_arrays(file, {"loss": _losses(model, corpus, start=start, end=end)})
                tell("measure losses", end, corpus.n_tokens, unit="tokens")
            draft.finish(summary={"tokens": corpus.n_tokens, "model": model.ref, "ranges": [list(span) for span in ranges]})
    return Path(out)


def _losses(model: Model, corpus: Corpus, *, start: int, end: int) -> Array:
    found = np.full(end - start, np.nan, np.float32)
    for contexts in context_batches(corpus, span=(start, end), batch_tokens=_BATCH.get(model.device.type, _BATCH["cpu"])):
        starts, ends = corpus.context_start[contexts], corpus.context_start[contexts + 1]
        tokens = torch.zeros(len(contexts), int((ends - starts).max()), dtype=torch.int64)
        for row, (low, high) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            tokens[row, : high - low] = torch.from_numpy(np.asarray(corpus.tokens[low:high]).astype(np.int64))
        losses = model.loss(tokens).float().cpu().numpy()
        for row, (low, high) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            found[low + 1 - start : high - start] = losses[row, : high - low - 1]
    return found


@final
class Losses(Opened):
    """The losses of a corpus, opened."""

    kind: ClassVar[str] = KIND

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact)
        names = sorted(name for name in artifact.manifest.files if name.startswith("losses-"))
        parts = [open_arrays(artifact.file(name))["loss"] for name in names]
        self.here: Array = np.concatenate([np.zeros(0, np.float32), *parts])
        """−log p of each token, NaN where nothing stands before it."""
        self.after: Array = np.append(self.here[1:], np.float32(np.nan))
        """−log p of the token behind each, NaN at the end of a context."""


def feature_loss(store: "Store", losses: Losses, feature: int) -> FeatureLoss:
    """Means over all firings of a feature, and by slice."""
    firings = store.postings.feature(feature)
    edges = np.array(store.rows.row(feature)["stratum_edges"], np.float32)
    which = slice_of(firings.values, edges) if len(firings) else np.zeros(0, np.int64)
    docs = store.corpus.doc_of(firings.positions)

    def both(rows: Array) -> tuple[MeanLoss | None, MeanLoss | None]:
        at = firings.positions[rows]
        return _mean(losses.here[at], docs[rows]), _mean(losses.after[at], docs[rows])

    here, after = both(np.arange(len(firings)))
    slices: list[SliceLoss] = []
    for i in reversed(range(max(0, len(edges) - 1))):
        own, following = both(np.flatnonzero(which == i))
        slices.append(SliceLoss(low=float(edges[i]), high=float(edges[i + 1]), here=own, after=following))
    means = store.mean_losses
    return FeatureLoss(index=store.name, feature=feature, here=here, after=after, store_here=means[0], store_after=means[1], slices=tuple(slices))


def _mean(values: Array, docs: Array) -> MeanLoss | None:
    """The mean of what is known, with the normal interval of a ratio over documents (Cochran 1977, ratio estimator)."""
    known = np.isfinite(values)
    n = int(known.sum())
    if not n:
        return None
    each, clusters = values[known].astype(np.float64), docs[known]
    mean = float(each.mean())
    _, which = np.unique(clusters, return_inverse=True)
    rest = np.bincount(which, weights=each - mean)
    m = len(rest)
    half = 1.96 * math.sqrt(float(np.square(rest).sum()) * m / max(1, m - 1)) / n if m > 1 else math.inf
    return MeanLoss(mean=mean, low=max(0.0, mean - half) if m > 1 else 0.0, high=mean + half if m > 1 else float(each.max()), n=n)
