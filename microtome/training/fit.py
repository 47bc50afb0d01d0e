"""From batches to weights: a short search of the learning rate, then the training, resumable at every checkpoint."""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch

from microtome.devices import RunAll, core_workers, memory_kept
from microtome.dictionaries.kernels import Product, pick_product
from microtome.errors import TrainingDiverged
from microtome.models import Site
from microtome.progress import Progress, Throttled
from microtome.shapes import Tensor
from microtome.training.config import TrainConfig
from microtome.training.export import Made, dictionary_of
from microtome.training.group import ALONE, Group
from microtome.training.layout import layouts
from microtome.training.learner import Learner, Outcome, is_finite
from microtome.training.losses import Penalty
from microtome.training.measures import fvu
from microtome.training.records import Callback, LrTrial, StepRecord
from microtome.training.source import Batches, BatchRows, rows_of
from microtome.training.start import Start, start_from
from microtome.training.step import step

START_ROWS = 16_384
"""Rows that set the input scale and the decoder's bias."""
START_VALUES = 1 << 27
"""Of many sites fewer rows, so that their numbers take half a gigabyte; at least 2,048."""
SEARCHED = 3
"""Members of a set of layers that a search tries rates on: the first, a middle and the last one."""
Ended = TypeVar("Ended")


def finished(steps: Generator[None, None, Ended]) -> Ended:
    """Take all steps; what they return."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


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


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One learning rate, and all that learns at it: several learners for a set of layers."""

    peak_lr: float
    learners: list[Learner]

    @property
    def done(self) -> int:
        return self.learners[0].done


class Fit:
    """A training run on a stream of batches. `run()` does all of it."""

    def __init__(
        self,
        batches: Batches,
        config: TrainConfig,
        *,
        dev: Tensor | Mapping[Site, Tensor],
        device: torch.device | None = None,
        checkpoints: Checkpoints | None = None,
        group: Group = ALONE,
    ) -> None:
        """`group`: the processes that train together, each with such a fit on the same batches; the first one then has the dictionary."""
        self.config = config
        self.group = group
        self.device = device or torch.device("cpu")
        self.product: Product = pick_product(self.device) if config.encoder_product == "auto" else config.encoder_product
        self.devices: list[str] = [self.device.type]
        """Kinds of device that the steps ran on, in order; more than one after a resume elsewhere."""
        self.trials: list[LrTrial] = []
        self._batches = batches
        self._dev = rows_of(dev, config, device=self.device).rows
        self._checkpoints = checkpoints
        self._begin = batches.state()
        self._layouts = layouts(config)
        searching = config.search_steps > 0
        self._phase: Literal["search", "train"] = "search" if searching else "train"
        with memory_kept():
            self.start: Start = self._measure_start()
            self._candidates = self._fresh(config.schedule.lr_search if searching else (config.lr or config.schedule.lr_search[0],))
        if checkpoints is not None and checkpoints.last is not None:
            self._resume(checkpoints.last)

    def run(self, *, callbacks: Sequence[Callback] = (), progress: Progress | None = None) -> Made:
        """Search (if asked), train, and return the dictionary. Raises `TrainingDiverged`."""
        finished(self.steps(callbacks=callbacks, progress=progress))
        return dictionary_of(self.learners, self.config)

    def steps(self, *, callbacks: Sequence[Callback] = (), progress: Progress | None = None) -> Generator[None]:
        """`run()` a step at a time, so that several fits can take turns on the same batches; then `learners` stand for the dictionary."""
        report = Throttled(progress)
        with memory_kept(), self._workers() as run_all:
            if self._phase == "search":
                yield from self._advance(callbacks, report, step_name="trying learning rates", run_all=run_all)
                self._choose()
                if self._checkpoints is not None:  # or a kill soon after would lose the search's last steps too
                    self._checkpoints.put(self._checkpoint())
            yield from self._advance(callbacks, report, step_name="training", run_all=run_all)

    @property
    def learners(self) -> list[Learner]:
        """All that trains: of a set of layers, one a layer."""
        return self._candidates[0].learners

    @property
    def lr(self) -> float:
        """The peak rate that trains."""
        return self._candidates[0].peak_lr

    def _workers(self) -> AbstractContextManager[RunAll]:
        """Of many learners each takes its step on a core of its own; fewer, and those of a group, whose exchanges need an order, take turns."""
        enough = len(self._layouts) >= 2 * torch.get_num_threads()
        return core_workers(self.device) if enough and self.group.size == 1 else nullcontext(map)

    def _advance(self, callbacks: Sequence[Callback], report: Throttled, *, step_name: str, run_all: RunAll) -> Generator[None]:
        """All remaining steps of the phase; all learners share the batches."""
        config = self.config
        steps = config.search_steps if self._phase == "search" else config.steps
        every = max(1, config.schedule.checkpoint_every_tokens // (config.batch_size * len(self._candidates)))
        done = self._candidates[0].done
        while done < steps:
            yield
            batch = rows_of(next(self._batches), config, device=self.device)
            mine = BatchRows(self.group.rows(batch.rows), None if batch.turn_means is None else self.group.rows(batch.turn_means))
            records = [record for each in list(self._candidates) if (record := self._step(each, mine, steps=steps, run_all=run_all)) is not None]
            done += 1
            for record in records:
                for callback in callbacks:
                    callback(record)
            best = min(record.fvu for record in records)
            report(step_name, done * config.batch_size, steps * config.batch_size, unit="tokens", note=f"FVU {best:.3f}, dead {records[0].dead}")
            if self._checkpoints is not None and done % every == 0 and done < steps:
                self._checkpoints.put(self._checkpoint())
        self.settle()

    def settle(self) -> None:
        """Let every learner take from the dev rows what inference needs; each process of a group takes as many of them."""
        whole = {site: rows[: len(rows) // self.group.size * self.group.size] for site, rows in self._dev.items()}
        dev = self.group.rows(whole)
        for candidate in self._candidates:
            for learner in candidate.learners:
                learner.settle(dev)

    def _step(self, candidate: Candidate, batch: BatchRows, *, steps: int, run_all: RunAll) -> StepRecord | None:
        """One step at one rate; a trial that diverges leaves the search."""

        def learn(number: int) -> tuple[int, Outcome]:
            learner = candidate.learners[number]
            rows = self.start.scaled({site: batch.rows[site] for site in learner.layout.sites})
            means = None if batch.turn_means is None else self.start.scaled(batch.turn_means)
            return number, learner.step(rows, turn_means=means)

        outcomes = [outcome for _, outcome in sorted(run_all(learn, range(len(candidate.learners))))]
        bad = next((outcome for outcome in outcomes if not is_finite(outcome)), None)
        if bad is not None:
            self._dropped(candidate, f"loss {bad.loss}, revival loss {bad.aux_loss}, penalty {bad.penalty}")
            return None
        if candidate.done == steps and not all(learner.is_finite for learner in candidate.learners):
            self._dropped(candidate, "weights that are not finite after the last step")
            return None
        return self._record(candidate, outcomes, steps=steps)

    def _record(self, candidate: Candidate, outcomes: Sequence[Outcome], *, steps: int) -> StepRecord:
        """Means over the members; the dead are counted over all of them."""

        def mean(name: Literal["loss", "l0", "aux_loss", "penalty"]) -> float:
            return sum(getattr(outcome, name) for outcome in outcomes) / len(outcomes)

        return StepRecord(
            phase=self._phase,
            step=candidate.done,
            steps=steps,
            tokens=candidate.done * self.config.batch_size,
            lr=outcomes[0].lr,
            peak_lr=candidate.peak_lr,
            fvu=mean("loss"),
            l0=mean("l0"),
            dead=sum(outcome.dead for outcome in outcomes),
            aux_loss=mean("aux_loss"),
            penalty=mean("penalty"),
        )

    def _dropped(self, candidate: Candidate, got: str) -> None:
        self._candidates.remove(candidate)
        if self._phase == "search":
            self.trials.append(LrTrial(lr=candidate.peak_lr, dev_fvu=None))
        if not self._candidates:
            what = f"the numbers stopped being finite at step {candidate.done} with learning rate {candidate.peak_lr:g}."
            do = "Give a lower lr (or lower ones in lr_search); activations that are not finite are found by harvesting again."
            raise TrainingDiverged(what, got=got, wanted="finite losses and weights", do=do)

    def _choose(self) -> None:
        """End the search: the rate with the lowest objective on the dev rows begins anew on the first batch."""
        penalised = any(isinstance(loss, Penalty) and loss.coefficient > 0 for loss in self.config.losses)
        for candidate in list(self._candidates):
            made = [self._member(learner) for learner in candidate.learners]
            measured = self.group.said(sum(fvu(each, self._dev) for each in made) / len(made) if self.group.leads else 0.0)
            objective = self._objective(candidate) if penalised else measured
            if math.isfinite(measured) and math.isfinite(objective):
                self.trials.append(LrTrial(lr=candidate.peak_lr, dev_fvu=measured, dev_objective=objective))
            else:
                self._dropped(candidate, f"FVU {measured} and objective {objective} on the dev split")
        self.trials.sort(key=lambda trial: trial.lr)
        best = min(self.trials, key=lambda trial: math.inf if trial.dev_objective is None else trial.dev_objective)
        self._phase = "train"
        self._candidates = self._fresh((best.lr,))
        self._batches.restore(self._begin)

    def _objective(self, candidate: Candidate) -> float:
        """What training makes small, on the dev rows: squared error + penalties at their full weight, as a step counts both; mean over the learners.

        FVU alone would prefer whichever run is least sparse. All processes of a group take part.
        """
        scaled, size, total = self.start.scaled(self._dev), self.config.batch_size, 0.0
        rows = len(next(iter(scaled.values())))
        for first in range(0, rows, size):
            part = {site: each[first : first + size] for site, each in scaled.items()}
            share = min(size, rows - first) / rows
            total += sum(_objective(learner, part) for learner in candidate.learners) * share
        return self.group.said(total / len(candidate.learners))

    def _member(self, learner: Learner) -> Made:
        """What one learner stands for; of a set of layers, one layer's dictionary."""
        return dictionary_of([learner], learner.config)

    def _fresh(self, rates: Sequence[float]) -> list[Candidate]:
        """Learners at the start, for each rate."""
        searching = self._phase == "search"
        chosen = _searched(len(self._layouts)) if searching else list(range(len(self._layouts)))
        return [Candidate(peak_lr=rate, learners=[self._learner(index, rate, searching=searching) for index in chosen]) for rate in rates]

    def _learner(self, index: int, rate: float, *, searching: bool) -> Learner:
        config = self.config.of_layer(index) if self.config.kind == "layers" else self.config
        steps = config.search_steps if searching else config.steps
        layout, weights = self._layouts[index], self.start.weights[index]
        return Learner(self.start, config, layout=layout, weights=weights, peak_lr=rate, steps=steps, product=self.product, group=self.group)

    def _measure_start(self) -> Start:
        batches = [rows_of(next(self._batches), self.config, device=self.device).rows]
        wanted = min(START_ROWS, max(2048, START_VALUES // sum(each.shape[1] for each in batches[0].values())))
        while sum(len(next(iter(batch.values()))) for batch in batches) < min(wanted, self.config.tokens):
            batches.append(rows_of(next(self._batches), self.config, device=self.device).rows)
        self._batches.restore(self._begin)
        rows = {site: torch.cat([batch[site] for batch in batches])[:wanted] for site in self.config.sites}
        return start_from(rows, self.config, layouts=self._layouts, group=self.group)

    def _checkpoint(self) -> Checkpoint:
        learners = [(f"{place}.{number}", learner) for place, each in enumerate(self._candidates) for number, learner in enumerate(each.learners)]
        tensors = {f"{prefix}.{name}": tensor for prefix, learner in learners for name, tensor in learner.state().items()}
        trials = [{"lr": trial.lr, "dev_fvu": trial.dev_fvu, "dev_objective": trial.dev_objective} for trial in self.trials]
        rates = [candidate.peak_lr for candidate in self._candidates]
        position = {"phase": self._phase, "rates": rates, "trials": trials, "product": self.product, "devices": self.devices}
        return Checkpoint(tensors=tensors, position={**position, "batches": self._batches.state()})

    def _resume(self, last: Checkpoint) -> None:
        """Go on with the encoder's product that the run began with, whatever this machine would pick."""
        self.product = last.position["product"]
        self.devices = last.position["devices"] + [self.device.type] * (last.position["devices"][-1] != self.device.type)
        self._phase = last.position["phase"]
        self.trials = [LrTrial(**trial) for trial in last.position["trials"]]
        self._candidates = self._fresh(last.position["rates"])
        for place, candidate in enumerate(self._candidates):
            for number, learner in enumerate(candidate.learners):
                prefix = f"{place}.{number}."
                learner.restore({name.removeprefix(prefix): tensor for name, tensor in last.tensors.items() if name.startswith(prefix)})
        self._batches.restore(last.position["batches"])


@torch.no_grad()
def _objective(learner: Learner, scaled: Mapping[Site, Tensor]) -> float:
    """Squared error and penalties of a batch, without learning from it."""
    found = step(learner.batch(scaled), learner.weights, plan=learner.plan, encoders=learner.encoders)
    return float(found.loss) + float(found.penalty)


def _searched(members: int) -> list[int]:
    """The layers that a search tries rates on."""
    return sorted({0, members // 2, members - 1}) if members > SEARCHED else list(range(members))
