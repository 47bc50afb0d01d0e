"""From batches to weights: a short search of the learning rate, then the training, resumable at every checkpoint."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch

from microtome.dictionaries import SAE, TopK
from microtome.dictionaries.kernels import Product, pick_product
from microtome.errors import TrainingDiverged
from microtome.progress import Progress, Throttled
from microtome.shapes import Float, Tensor
from microtome.training.config import TrainConfig
from microtome.training.learner import Learner, is_finite
from microtome.training.measures import fvu
from microtome.training.records import Callback, LrTrial, StepRecord
from microtome.training.start import Start, start_from

START_ROWS = 16_384
"""Rows that set the input scale and the decoder's bias."""


@runtime_checkable
class Batches(Protocol):
    """An endless iterator of batches that can be put back where it was."""

    def __next__(self) -> Tensor: ...
    def state(self) -> dict[str, Any]: ...
    def restore(self, state: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Where a fit stands."""

    tensors: dict[str, Tensor]
    position: dict[str, Any]
    """JSON-ready: phase, trials, the stream."""


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """Where checkpoints go, and the one to go on from."""

    put: Callable[[Checkpoint], None]
    last: Checkpoint | None


class Fit:
    """A training run on a stream of batches. `run()` does all of it."""

    def __init__(
        self,
        batches: Batches,
        config: TrainConfig,
        *,
        dev: Float[Tensor, "n d_in"],
        device: torch.device | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.config = config
        self.device = device or torch.device("cpu")
        self.product: Product = pick_product(self.device) if config.encoder_product == "auto" else config.encoder_product
        self.devices: list[str] = [self.device.type]
        """Kinds of device that the steps ran on, in order; more than one after a resume elsewhere."""
        self.trials: list[LrTrial] = []
        self._batches = batches
        self._dev = dev
        self._checkpoints = checkpoints
        self._begin = batches.state()
        self.start: Start = self._measure_start()
        searching = config.search_steps > 0
        self._phase: Literal["search", "train"] = "search" if searching else "train"
        self._learners = self._fresh(config.lr_search if searching else (config.lr or config.lr_search[0],))
        if checkpoints is not None and checkpoints.last is not None:
            self._resume(checkpoints.last)

    def run(self, *, callbacks: Sequence[Callback] = (), progress: Progress | None = None) -> SAE:
        """Search (if asked), train, and return the dictionary. Raises `TrainingDiverged`."""
        report = Throttled(progress)
        if self._phase == "search":
            self._advance(callbacks, report, step_name="trying learning rates")
            self._choose()
        self._advance(callbacks, report, step_name="training")
        return self.dictionary(self._learners[0])

    def dictionary(self, learner: Learner) -> SAE:
        """The dictionary that a learner stands for now."""
        weights = {name: weight.clone() for name, weight in learner.weights._asdict().items()}
        return SAE(site=self.config.site, nonlinearity=TopK(k=self.config.k), weights=weights, input_scale=self.start.input_scale)

    @property
    def lr(self) -> float:
        """The peak rate that trains."""
        return self._learners[0].peak_lr

    def _advance(self, callbacks: Sequence[Callback], report: Throttled, *, step_name: str) -> None:
        """All remaining steps of the phase; the learners share the batches."""
        config = self.config
        steps = config.search_steps if self._phase == "search" else config.steps
        every = max(1, config.checkpoint_every_tokens // (config.batch_size * len(self._learners)))
        done = self._learners[0].done
        while done < steps:
            z = next(self._batches).to(self.device).float() * self.start.input_scale
            records = [record for learner in list(self._learners) if (record := self._step(learner, z, steps=steps)) is not None]
            done += 1
            for record in records:
                for callback in callbacks:
                    callback(record)
            best = min(record.fvu for record in records)
            report(step_name, done * config.batch_size, steps * config.batch_size, unit="tokens", note=f"FVU {best:.3f}, dead {records[0].dead}")
            if self._checkpoints is not None and done % every == 0 and done < steps:
                self._checkpoints.put(self._checkpoint())

    def _step(self, learner: Learner, z: Float[Tensor, "n d_in"], *, steps: int) -> StepRecord | None:
        """One step of one learner; a trial that diverges leaves the search."""
        outcome = learner.step(z)
        if not is_finite(outcome):
            self._dropped(learner, f"loss {outcome.loss}, revival loss {outcome.aux_loss}")
            return None
        if learner.done == steps and not learner.is_finite:
            self._dropped(learner, "weights that are not finite after the last step")
            return None
        return StepRecord(
            phase=self._phase,
            step=learner.done,
            steps=steps,
            tokens=learner.done * self.config.batch_size,
            lr=outcome.lr,
            peak_lr=learner.peak_lr,
            fvu=outcome.loss,
            l0=outcome.l0,
            dead=outcome.dead,
            aux_loss=outcome.aux_loss,
        )

    def _dropped(self, learner: Learner, got: str) -> None:
        self._learners.remove(learner)
        if self._phase == "search":
            self.trials.append(LrTrial(lr=learner.peak_lr, dev_fvu=None))
        if not self._learners:
            what = f"the numbers stopped being finite at step {learner.done} with learning rate {learner.peak_lr:g}."
            do = "Give a lower lr (or lower ones in lr_search); activations that are not finite are found by harvesting again."
            raise TrainingDiverged(what, got=got, wanted="finite losses and weights", do=do)

    def _choose(self) -> None:
        """End the search: the rate with the lowest FVU on the dev rows begins anew on the first batch."""
        for learner in list(self._learners):
            measured = fvu(self.dictionary(learner), self._dev.to(self.device))
            if math.isfinite(measured):
                self.trials.append(LrTrial(lr=learner.peak_lr, dev_fvu=measured))
            else:
                self._dropped(learner, f"FVU {measured} on the dev split")
        self.trials.sort(key=lambda trial: trial.lr)
        best = min(self.trials, key=lambda trial: math.inf if trial.dev_fvu is None else trial.dev_fvu)
        self._phase = "train"
        self._learners = self._fresh((best.lr,))
        self._batches.restore(self._begin)

    def _fresh(self, rates: Sequence[float]) -> list[Learner]:
        steps = self.config.search_steps if self._phase == "search" else self.config.steps
        return [Learner(self.start, self.config, peak_lr=rate, steps=steps, product=self.product) for rate in rates]

    def _measure_start(self) -> Start:
        rows, count = list[Tensor](), 0
        while count < min(START_ROWS, self.config.tokens):
            rows.append(next(self._batches).to(self.device))
            count += len(rows[-1])
        self._batches.restore(self._begin)
        return start_from(torch.cat(rows)[:START_ROWS], self.config)

    def _checkpoint(self) -> Checkpoint:
        tensors = {f"{number}.{name}": tensor for number, learner in enumerate(self._learners) for name, tensor in learner.state().items()}
        trials = [{"lr": trial.lr, "dev_fvu": trial.dev_fvu} for trial in self.trials]
        rates = [learner.peak_lr for learner in self._learners]
        position = {"phase": self._phase, "rates": rates, "trials": trials, "product": self.product, "devices": self.devices}
        return Checkpoint(tensors=tensors, position={**position, "batches": self._batches.state()})

    def _resume(self, last: Checkpoint) -> None:
        """Go on with the encoder's product that the run began with, whatever this machine would pick."""
        self.product = last.position["product"]
        self.devices = last.position["devices"] + [self.device.type] * (last.position["devices"][-1] != self.device.type)
        self._phase = last.position["phase"]
        self.trials = [LrTrial(**trial) for trial in last.position["trials"]]
        self._learners = self._fresh(last.position["rates"])
        for number, learner in enumerate(self._learners):
            prefix = f"{number}."
            learner.restore({name.removeprefix(prefix): tensor for name, tensor in last.tensors.items() if name.startswith(prefix)})
        self._batches.restore(last.position["batches"])
