"""How surprised the model is by a corpus: the cross-entropy of every token, measured once.

An artifact of its own, kind `losses`, because it depends on the model and the corpus alone: every index of that corpus uses it. An index' own pass
ends behind the last site that is read and never computes a logit, so measuring there would cost all later layers and the unembedding.

| file | holds |
|---|---|
| `losses-00000.safetensors`, … (a range of tokens each) | `loss` f32 [tokens]: −ln p(token, given those before it); NaN for a context's first |
"""

from pathlib import Path
from typing import ClassVar, final

import numpy as np
import torch

from microtome.activations import Corpus, check_model_fits, context_batches, shard_ranges
from microtome.artifacts import Artifact, Draft, Opened, existing
from microtome.features.arrays import Array, open_arrays, write_arrays
from microtome.models import Model
from microtome.progress import Progress, Throttled

KIND = "losses"
_RANGE = 65_536
_BATCH = {"cpu": 512, "cuda": 16_384}
"""Tokens run at once; their logits are all in memory."""


def measure_losses(model: Model, corpus: Corpus, *, out: str | Path, progress: Progress | None = None) -> Path:
    """Make the losses artifact at `out`, or leave it as it is when it is there; a range of tokens at a time, so an interrupted run resumes.

    Raises `ShapeMismatch` (another tokenizer), `ModelTapped`, `ArtifactConflict`, `WorkspaceBusy`, `DiskFull`.
    """
    check_model_fits(model, corpus)
    model.check_untapped("measuring losses")
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
