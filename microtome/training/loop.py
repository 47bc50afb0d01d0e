"""Training on shards: the fit, its checkpoints and log, the quality report, and the artifact that holds them."""

import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import torch

from microtome.activations import Corpus, Pooled, Shards, SideBySide
from microtome.artifacts import Artifact, Draft, existing
from microtome.config import from_dict, to_dict
from microtome.devices import give_back_memory
from microtome.dictionaries import load_any, nonlinearity_to_json, read_any, save
from microtome.dictionaries.formats import WEIGHTS
from microtome.errors import ConfigError
from microtome.models import Model, Site
from microtome.progress import Progress
from microtome.shapes import Tensor
from microtome.training.config import TrainConfig
from microtome.training.distributed import DEV_ROWS, check_group, follow
from microtome.training.export import dictionary_of
from microtome.training.finetune import finetune
from microtome.training.fit import Checkpoints, Fit, finished
from microtome.training.from_forward import FromForward
from microtome.training.group import ALONE, Group
from microtome.training.losses import KL
from microtome.training.quality import check_model, quality_beside
from microtome.training.records import Callback, LrTrial, Quality, Trained
from microtome.training.shared import View
from microtome.training.source import Batches, StoredRows
from microtome.training.store import CHECKPOINT, LOG, RunStore
from microtome.training.yardstick import Yardstick

SEARCH, QUALITY = "training.json", "quality.json"


def train(  # noqa: PLR0913  # what from, where to, and how it is followed
    shards: Shards | SideBySide,
    corpus: Corpus,
    *,
    config: TrainConfig,
    out: str | Path,
    model: Model | None = None,
    turns: Pooled | None = None,
    callbacks: Sequence[Callback] = (),
    progress: Progress | None = None,
    replace: bool = False,
    group: Group = ALONE,
) -> Trained:
    """Train a dictionary on the train split of `shards` and write it to `out` as an artifact of kind `dictionary`.

    The learning rate is chosen on the dev split, quality is measured on the test split; with `model`, cross-entropy recovered too, and training is
    on the model's device. `turns`, pooled from these shards, are needed where rows are of turns. Killed at any moment and run again, it goes on from
    its last checkpoint, with the encoder's product that it began with. On the CPU of one machine, with the same number of threads, the finished
    artifact then has the bytes of an uninterrupted run's; on a GPU, whose sums have no fixed order, or on another machine it is an equivalent one. A
    finished artifact of exactly this work is opened, not made again. The processes of a `group` (see `joined`) all call this, and train one
    dictionary together; only the one that leads needs the model, and only it writes, calls back and reports.

    Raises `SiteNotFound`, `ShapeMismatch`, `ConfigError`, `NotEnoughTokens`, `TrainingDiverged`, and what `Draft.open` raises.
    """
    source = StoredRows(shards=shards, corpus=corpus, turns=turns)
    check_group(config, group)
    if group.leads:
        made = finished(training(source, config, out=out, model=model, callbacks=callbacks, progress=progress, replace=replace, group=group))
        group.said("finished")
        return made
    source.check(config)
    finished(follow(source, config, out=out, group=group))
    group.said("finished")
    return open_trained(out)


def training(  # noqa: PLR0913  # as train
    source: StoredRows | FromForward,
    config: TrainConfig,
    *,
    out: str | Path,
    model: Model | None = None,
    batches: View | None = None,
    yardstick: Yardstick | None = None,
    callbacks: Sequence[Callback] = (),
    progress: Progress | None = None,
    replace: bool = False,
    group: Group = ALONE,
) -> Generator[None, None, Trained]:
    """`train` a step at a time, so that several runs can take turns; on `batches`, a view of a stream that they share, and measured by
    one `yardstick` of the same source and model.

    It leads the `group`, whose other processes `follow`.
    """
    shards = source.shards
    check_model(model, shards)
    source.check(config)
    if model is None and any(isinstance(loss, KL) for loss in config.losses):
        raise ConfigError("the loss kl needs the model.", got="no model", wanted="the model of the shards", do="Give model=, or leave kl out.")
    inputs = {**source.inputs(), "model": "none" if model is None else model.fingerprint}
    if batches is not None and batches.shared.seed != config.seed:
        inputs["order"] = f"seed {batches.shared.seed}"
    done = existing(out, "dictionary", config=config, inputs=inputs)
    if done is not None:
        group.said(False)
        return open_trained(done.path)
    stream = source.stream(config) if batches is None else batches
    dev = source.held(config.sites, pooling=config.pooling, n=DEV_ROWS, split="dev").rows
    source.held(config.sites, pooling=config.pooling, n=1, split="test")
    with Draft.open(out, "dictionary", config=config, inputs=inputs, replace=replace) as draft:
        if group.said(not draft.has(WEIGHTS)):
            device = group.device or (torch.device("cpu") if model is None else model.device)
            fit = yield from _fit(stream, config, draft=draft, dev=dev, device=device, callbacks=callbacks, progress=progress, group=group)
            _finish(fit, source, draft=draft, model=model, progress=progress)
            del fit
        del stream, dev  # gigabytes, for a set of layers
        give_back_memory()
        if not draft.has(QUALITY):
            dictionary = read_any(draft.path / WEIGHTS)
            quality = quality_beside(dictionary, yardstick or Yardstick(source, model=model), progress=progress)
            draft.write(QUALITY, _json(quality))
        (draft.path / CHECKPOINT).unlink(missing_ok=True)
        draft.finish(summary=_summary(draft, config, shards=shards))
    return open_trained(out)


def open_trained(path: str | Path) -> Trained:
    """A finished training run, with its quality, search and history."""
    artifact = Artifact.open(path, "dictionary")
    search = json.loads(artifact.file(SEARCH).read_bytes())
    return Trained(
        dictionary=load_any(path),
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
    dev: dict[Site, Tensor],
    device: torch.device,
    callbacks: Sequence[Callback],
    progress: Progress | None,
    group: Group,
) -> Generator[None, None, Fit]:
    """Search and train, from the last checkpoint if there is one."""
    with RunStore(draft.path) as store:
        fit = Fit(stream, config, dev=dev, device=device, checkpoints=Checkpoints(put=store.put, last=store.last), group=group)
        yield from fit.steps(callbacks=(store.log, *callbacks), progress=progress)
    return fit


def _finish(fit: Fit, source: StoredRows | FromForward, *, draft: Draft, model: Model | None, progress: Progress | None) -> None:
    """Fine-tune in the model where that was asked; the weights are written last, so that their presence says that the rest is there."""
    losses = [loss for loss in fit.config.losses if isinstance(loss, KL)]
    history: list[float] = []
    if losses:
        assert model is not None
        history = finetune(fit.learners, model, source.shards, corpus=source.corpus, loss=losses[0], progress=progress)
        fit.settle()
    scales = {str(site): start.scale for site, start in fit.start.sites.items()}
    search = {"lr": fit.lr, "trials": to_dict(fit.trials), "input_scale": scales, "kl": history}
    if fit.group.size > 1:
        search["distributed"] = {"mode": fit.group.mode, "processes": fit.group.size}
    draft.write(SEARCH, _json({**search, "encoder_product": fit.product, "devices": fit.devices}))
    save(dictionary_of(fit.learners, fit.config), draft)


def _summary(draft: Draft, config: TrainConfig, *, shards: Shards | SideBySide | FromForward) -> dict[str, Any]:
    quality = json.loads((draft.path / QUALITY).read_bytes())
    recovered = quality["ce_recovered"]
    return {
        "kind": config.kind,
        "site": str(config.reads[0]),
        "reads": [str(site) for site in config.reads],
        "writes": [str(site) for site in config.targets],
        "pooling": config.pooling,
        "nonlinearity": nonlinearity_to_json(config.nonlinearity)["name"],
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
