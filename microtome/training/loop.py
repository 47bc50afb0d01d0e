"""Training on shards: the fit, its checkpoints and log, the quality report, and the artifact that holds them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from microtome.activations import ActivationStream, Corpus, Shards, held_out
from microtome.artifacts import Artifact, Draft, existing
from microtome.config import from_dict, to_dict
from microtome.dictionaries import load_dictionary, read_weights, save
from microtome.dictionaries.formats import WEIGHTS
from microtome.errors import NotEnoughTokens
from microtome.models import Model
from microtome.progress import Progress
from microtome.shapes import Float, Tensor
from microtome.training.config import TrainConfig
from microtome.training.fit import Batches, Checkpoints, Fit
from microtome.training.quality import check_model, measure_quality
from microtome.training.records import Callback, LrTrial, Quality, Trained
from microtome.training.store import CHECKPOINT, LOG, RunStore

SEARCH, QUALITY = "training.json", "quality.json"
_DEV_ROWS = 8192


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

    The learning rate is chosen on the dev split, quality is measured on the test split; with `model`, cross-entropy recovered too, and training is
    on the model's device. Killed at any moment and run again, it goes on from its last checkpoint, with the encoder's product that it began with.
    On the CPU of one machine, with the same number of threads, the finished artifact then has the bytes of an uninterrupted run's; on a GPU, whose
    sums have no fixed order, or on another machine it is an equivalent one. A finished artifact of exactly this work is opened, not made again.

    Raises `SiteNotFound`, `ShapeMismatch`, `NotEnoughTokens`, `TrainingDiverged`, and what `Draft.open` raises.
    """
    check_model(model, shards)
    site = shards.site(config.reads[0])
    inputs = {"shards": shards.id, "corpus": corpus.id, "model": "none" if model is None else model.fingerprint}
    done = existing(out, "dictionary", config=config, inputs=inputs)
    if done is not None:
        return open_trained(done.path)
    stream = ActivationStream(shards, corpus, site=site, batch_size=config.batch_size, seed=config.seed)
    if stream.n_rows < config.batch_size:
        do = "Lower batch_size, or harvest a larger corpus."
        raise NotEnoughTokens("the train split holds less than one batch.", got=stream.n_rows, wanted=config.batch_size, do=do)
    dev = stream.fixed(_DEV_ROWS, split="dev").x
    held_out(shards, corpus, site=site, n=1, split="test")
    with Draft.open(out, "dictionary", config=config, inputs=inputs, replace=replace) as draft:
        if not draft.has(WEIGHTS):
            device = torch.device("cpu") if model is None else model.device
            _fit(stream, config, draft=draft, dev=dev, device=device, callbacks=callbacks, progress=progress)
        if not draft.has(QUALITY):
            dictionary = read_weights(draft.path / WEIGHTS)
            quality = measure_quality(dictionary, shards, corpus=corpus, model=model, progress=progress)
            draft.write(QUALITY, _json(quality))
        (draft.path / CHECKPOINT).unlink(missing_ok=True)
        draft.finish(summary=_summary(draft, config, shards=shards))
    return open_trained(out)


def open_trained(path: str | Path) -> Trained:
    """A finished training run, with its quality, search and history."""
    artifact = Artifact.open(path, "dictionary")
    search = json.loads(artifact.file(SEARCH).read_bytes())
    return Trained(
        dictionary=load_dictionary(path),
        path=artifact.path,
        id=artifact.id,
        config=from_dict(TrainConfig, artifact.manifest.config),
        lr=search["lr"],
        lr_trials=tuple(from_dict(LrTrial, trial) for trial in search["trials"]),
        quality=from_dict(Quality, json.loads(artifact.file(QUALITY).read_bytes())),
        history=tuple(json.loads(line) for line in artifact.file(LOG).read_text().splitlines()),
    )


def _fit(
    stream: Batches,
    config: TrainConfig,
    *,
    draft: Draft,
    dev: Float[Tensor, "n d_in"],
    device: torch.device,
    callbacks: Sequence[Callback],
    progress: Progress | None,
) -> None:
    """Train; the weights are written last, so that their presence says that the rest is there."""
    with RunStore(draft.path) as store:
        fit = Fit(stream, config, dev=dev, device=device, checkpoints=Checkpoints(put=store.put, last=store.last))
        dictionary = fit.run(callbacks=(store.log, *callbacks), progress=progress)
    search = {"lr": fit.lr, "trials": to_dict(fit.trials), "input_scale": {str(site): start.scale for site, start in fit.start.sites.items()}}
    draft.write(SEARCH, _json({**search, "encoder_product": fit.product, "devices": fit.devices}))
    save(dictionary, draft)


def _summary(draft: Draft, config: TrainConfig, *, shards: Shards) -> dict[str, Any]:
    quality = json.loads((draft.path / QUALITY).read_bytes())
    recovered = quality["ce_recovered"]
    return {
        "site": str(config.reads[0]),
        "d_dict": config.d_dict,
        "d_in": shards.width(config.reads[0]),
        "k": getattr(config.nonlinearity, "k", None),
        "tokens": config.tokens,
        "model": quality["model"],
        "fvu": quality["fvu"]["value"],
        "l0": quality["l0"]["value"],
        "dead_share": quality["dead_share"]["value"],
        "ce_recovered": None if recovered is None else recovered["value"],
    }


def _json(value: object) -> str:
    return json.dumps(to_dict(value), indent=1, sort_keys=True, allow_nan=False) + "\n"
