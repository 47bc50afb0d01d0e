"""Sweep: many runs on one pass over the activations, and one table of what each cost in reconstruction and gained in sparsity.

Each run is an ordinary dictionary artifact, made by `training` as any other; runs take turns on the batches of one stream. With the seed of the
stream, a run of a sweep is the very artifact that `train` alone would have made. The sweep's own artifact holds the figures, side by side.
"""

import json
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from microtome.artifacts import Artifact, Draft
from microtome.config import from_dict, to_dict
from microtome.dictionaries import NONLINEARITIES
from microtome.errors import ConfigError, MicrotomeError, TrainingDiverged, nearest
from microtome.models import Model
from microtome.progress import Progress
from microtome.stats import Result
from microtome.training.config import TrainConfig
from microtome.training.loop import training
from microtome.training.losses import Penalty
from microtome.training.records import Trained
from microtome.training.scaling import Scaling, ScalingPoint, fit_scaling
from microtome.training.shared import SharedBatches, View
from microtome.training.source import StoredRows
from microtome.training.sweep_controls import SweepControl, controls_beside
from microtome.training.yardstick import Yardstick

SWEEP = "sweep.json"
KNEE_POINTS = 3
"""Different L0 that a knee needs."""


def _k(config: TrainConfig, value: str) -> TrainConfig:
    if not hasattr(config.nonlinearity, "k"):
        do = "Sweep the coefficient, or train with topk or batchtopk."
        raise ConfigError("this nonlinearity has no k.", got=type(config.nonlinearity).__name__, wanted="topk, batchtopk or abstopk", do=do)
    return replace(config, nonlinearity=replace(config.nonlinearity, k=int(value)))  # type: ignore[call-arg]  # it has a k


def _nonlinearity(config: TrainConfig, value: str) -> TrainConfig:
    kind = NONLINEARITIES.get(value)
    return replace(config, nonlinearity=kind(**({"k": k} if (k := getattr(config.nonlinearity, "k", None)) is not None else {})))


def _decoder(config: TrainConfig, value: str) -> TrainConfig:
    if value not in {"trained", "frozen"}:
        raise ValueError("A decoder is trained or frozen.")
    return replace(config, build=replace(config.build, frozen_decoder=value == "frozen"))


def _coefficient(config: TrainConfig, value: str) -> TrainConfig:
    losses = tuple(replace(loss, coefficient=float(value)) if isinstance(loss, Penalty) and loss.thins else loss for loss in config.losses)
    if losses == config.losses and not any(isinstance(loss, Penalty) and loss.thins for loss in losses):
        raise ConfigError("there is no penalty whose coefficient could vary.", got="no such loss", wanted="l1, tanh or l0", do="Add one, or sweep k.")
    return replace(config, losses=losses)


AXES: dict[str, Callable[[TrainConfig, str], TrainConfig]] = {
    "nonlinearity": _nonlinearity,
    "k": _k,
    "coefficient": _coefficient,
    "features": lambda config, value: replace(config, d_dict=int(value)),
    "tokens": lambda config, value: replace(config, tokens=int(value)),
    "decoder": _decoder,
    "lr": lambda config, value: replace(config, lr=float(value)),
    "seed": lambda config, value: replace(config, seed=int(value)),
}
"""What can be swept, and the config that a value makes; the batch size and the sites cannot, for the batches are shared."""


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """Every combination of the axes' values, each on the base."""

    base: TrainConfig
    axes: Mapping[str, tuple[str, ...]]
    """Values as written, by the name of an axis."""

    def __post_init__(self) -> None:
        for name, values in self.axes.items():
            if name not in AXES:
                raise ConfigError(f'"{name}" cannot be swept.', got=name, wanted=", ".join(AXES), do=nearest(name, list(AXES)))
            if not values or len(set(values)) != len(values):
                raise ConfigError(f"the values of {name} are no list.", got=", ".join(values) or "none", wanted="each value once", do="Correct them.")
        if not self.axes:
            raise ConfigError("nothing is swept.", got="no axis", wanted=", ".join(AXES), do="Name one, e.g. k=8,16,32.")
        self.runs()

    def runs(self) -> dict[str, TrainConfig]:
        """The config of every run by its label, e.g. `k8-seed1`."""
        order = [name for name in AXES if name in self.axes]
        made: dict[str, TrainConfig] = {}
        for values in product(*(self.axes[name] for name in order)):
            config = self.base
            for name, value in zip(order, values, strict=True):
                config = _applied(config, name, value=value)
            made["-".join(value if name in _WORDS else f"{name}{value}" for name, value in zip(order, values, strict=True))] = config
        return made


_WORDS = {"nonlinearity": "its name", "decoder": "trained or frozen"}


def _applied(config: TrainConfig, name: str, *, value: str) -> TrainConfig:
    try:
        return AXES[name](config, value)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{value!r} is no value of {name}.", got=value, wanted=_WORDS.get(name, "a number"), do=str(error)) from error


@dataclass(frozen=True, kw_only=True)
class SweepRun:
    """One run, measured on held-out tokens."""

    label: str
    features: int
    tokens: int
    k: int | None
    seed: int
    frozen_decoder: bool = False
    """A control: its decoder stayed at its random start."""
    lr: float | None = None
    """The peak learning rate that trained."""
    dictionary: str = ""
    """Name of its artifact …"""
    id: str = ""
    """… and its id; empty for a run that failed."""
    fvu: Result | None = None
    l0: Result | None = None
    dead_share: Result | None = None
    ce_recovered: Result | None = None
    failed: str = ""
    """Why there are no figures."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """All runs of a sweep beside the controls."""

    runs: tuple[SweepRun, ...]
    controls: tuple[SweepControl, ...]
    chosen: str | None
    """Label of the run at the knee of FVU over L0, or of the lowest FVU where all runs have one L0; see `choose`."""
    scaling: Scaling | None = None
    scaling_refused: str = ""
    """Why no scaling law was fitted."""
    model: str = ""
    """Reference of the model, with its quantisation where it has one."""


def sweep(
    source: StoredRows,
    config: SweepConfig,
    *,
    out: str | Path,
    dictionaries: str | Path,
    model: Model | None = None,
    progress: Progress | None = None,
    replace: bool = False,
) -> Sweep:
    """Train every run on one pass, and write their figures beside the controls' to `out` as an artifact of kind `sweep`.

    The dictionaries go to the folder `dictionaries`, called `<name of out>-<label>`. Killed at any moment and run again, all runs go on from their
    checkpoints. A run that diverges is reported with its reason; the others go on. Raises what `train` raises.
    """
    out, folder = Path(out), Path(dictionaries)
    shared = SharedBatches(source.stream(config.base), seed=config.base.seed)
    yardstick = Yardstick(source, model=model)
    report = _Together(progress, total=sum(each.tokens for each in config.runs().values()))
    turns: dict[str, tuple[View, Generator[None, None, Trained]]] = {}
    for label, each in config.runs().items():
        view = shared.view()
        where = folder / f"{out.name}-{label}"
        run = training(source, each, out=where, model=model, batches=view, yardstick=yardstick, progress=report.of(label), replace=replace)
        turns[label] = (view, run)
    ended = _take_turns(turns)
    runs = tuple(_run(label, each, ended[label]) for label, each in config.runs().items())
    trained = {label: each for label, each in ended.items() if isinstance(each, Trained)}
    inputs = {**source.inputs(), "model": "none" if model is None else model.fingerprint}
    inputs |= {f"run {label}": each.id for label, each in trained.items()}
    with Draft.open(out, "sweep", config=config, inputs=inputs, replace=True) as draft:
        controls = controls_beside(list(trained.values()), yardstick, progress=progress)
        scaling, refused = _scaling(runs)
        made = Sweep(
            runs=runs,
            controls=controls,
            chosen=choose(runs),
            scaling=scaling,
            scaling_refused=refused,
            model=next((each.quality.model for each in trained.values()), ""),
        )
        draft.write(SWEEP, json.dumps(to_dict(made), indent=1, sort_keys=True, allow_nan=False) + "\n")
        draft.finish(summary={"runs": len(runs), "failed": len(runs) - len(trained), "chosen": made.chosen, "site": str(config.base.reads[0])})
    return open_sweep(out)


def open_sweep(path: str | Path) -> Sweep:
    """A finished sweep."""
    return from_dict(Sweep, json.loads(Artifact.open(path, "sweep").file(SWEEP).read_bytes()))


def choose(runs: Sequence[SweepRun]) -> str | None:
    """The run to go on with: a suggestion that follows one rule, written down here.

    Of the runs with one k, the lowest FVU. Over three or more k, the knee: the point farthest below the straight line between the two ends, with
    log L0 and FVU both scaled to 0 … 1 (after Satopää et al. 2011, "Kneedle"): further features then buy less than those before. It depends on the
    range swept. None where there are two k, which have no knee, or where no point lies below the line.
    """
    best: dict[int | None, tuple[float, float, str]] = {}
    for run in runs:
        if run.fvu is not None and run.l0 is not None and not run.frozen_decoder and (run.k not in best or run.fvu.value < best[run.k][1]):
            best[run.k] = (run.l0.value, run.fvu.value, run.label)
    points = sorted(best.values())
    if len(points) <= 1:
        return points[0][2] if points else None
    if len(points) < KNEE_POINTS:
        return None
    x = [math.log(max(l0, 1e-9)) for l0, _, _ in points]
    y = [fvu for _, fvu, _ in points]
    if x[-1] <= x[0] or y[0] <= y[-1]:
        return None
    below = [1 - (a - x[0]) / (x[-1] - x[0]) - (b - y[-1]) / (y[0] - y[-1]) for a, b in zip(x, y, strict=True)]
    deepest = max(range(len(points)), key=below.__getitem__)
    return points[deepest][2] if below[deepest] > 1e-6 else None


def _take_turns(turns: Mapping[str, tuple[View, Generator[None, None, Trained]]]) -> dict[str, Trained | TrainingDiverged]:
    """All runs to their ends; the one that is farthest behind goes next, so that most batches are read once."""
    ended: dict[str, Trained | TrainingDiverged] = {}
    live = dict(turns)
    try:
        while live:
            label = min(live, key=lambda each: live[each][0].served)
            try:
                next(live[label][1])
            except StopIteration as stop:
                ended[label] = stop.value
            except TrainingDiverged as error:
                ended[label] = error
            if label in ended:
                del live[label]
    finally:
        for _, run in live.values():
            run.close()
    return ended


def _run(label: str, config: TrainConfig, ended: Trained | TrainingDiverged) -> SweepRun:
    told = SweepRun(
        label=label,
        features=config.d_dict,
        tokens=config.tokens,
        k=getattr(config.nonlinearity, "k", None),
        seed=config.seed,
        frozen_decoder=config.build.frozen_decoder,
    )
    if isinstance(ended, MicrotomeError):
        return replace(told, failed=f"{ended.what} Got {ended.got}.")
    quality = ended.quality
    return replace(
        told,
        lr=ended.lr,
        dictionary=ended.path.name,
        id=ended.id,
        fvu=quality.fvu,
        l0=quality.l0,
        dead_share=quality.dead_share,
        ce_recovered=quality.ce_recovered,
    )


def _scaling(runs: Sequence[SweepRun]) -> tuple[Scaling | None, str]:
    """The law of the runs with the lowest FVU of every size, or why there is none."""
    best: dict[tuple[int, int], float] = {}
    for run in runs:
        if run.fvu is not None and not run.frozen_decoder:
            size = (run.features, run.tokens)
            best[size] = min(run.fvu.value, best.get(size, math.inf))
    if len({run.k for run in runs}) > 1:
        return None, "the runs have several k; a law is fitted at one"
    points = [ScalingPoint(features=features, tokens=tokens, loss=loss) for (features, tokens), loss in best.items()]
    try:
        return fit_scaling(points), ""
    except ConfigError as error:
        return None, f"{error.what} Got {error.got}; wanted {error.wanted}."


class _Together:
    """One line of progress for all runs."""

    def __init__(self, progress: Progress | None, *, total: int) -> None:
        self._progress, self._total = progress, total
        self._done: dict[str, float] = {}

    def of(self, label: str) -> Progress:
        def report(step: str, done: float, total: float, *, unit: str = "", note: str = "") -> None:
            if self._progress is None:
                return
            if step == "training":
                self._done[label] = done
                self._progress("training all runs", sum(self._done.values()), self._total, unit=unit, note=f"{label}: {note}")
            else:
                self._progress(f"{label}: {step}", done, total, unit=unit, note=note)

        return report
