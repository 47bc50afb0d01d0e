"""Training: from shards to a dictionary, with one loop.

Begin with `train(shards, corpus, config=TrainConfig(reads=(site,)), out=…)`. It makes an artifact of kind `dictionary`: `weights.safetensors`,
`quality.json` (figures on held-out documents beside their controls), `training.json` (the learning-rate search) and `steps.jsonl`.
Follow it with a callback, which gets a `StepRecord` a step. `measure_quality` measures any dictionary.
"""

from microtome.training.config import Build, Kind, Pooling, Schedule, TrainConfig
from microtome.training.controls import CONTROLS
from microtome.training.distributed import joined
from microtome.training.fit import Fit
from microtome.training.from_forward import FromForward
from microtome.training.group import ALONE, Group, Mode
from microtome.training.loop import open_trained, train
from microtome.training.losses import KL, L0, L1, LOSSES, AuxK, Loss, Matryoshka, Nested, Penalty, PreAct, Tanh
from microtome.training.quality import measure_quality
from microtome.training.recipes import RECIPES, RecipeOut, TrainRecipe, run_recipe
from microtome.training.records import Callback, ControlDensity, LrTrial, Quality, SiteQuality, StepRecord, Trained
from microtome.training.scaling import Recommended, Scaling, ScalingLaw, ScalingPoint, fit_scaling
from microtome.training.source import Batches, StoredRows, needs_turns
from microtome.training.sweep import AXES, Sweep, SweepConfig, SweepRun, choose, open_sweep, sweep
from microtome.training.sweep_controls import SweepControl
from microtome.training.synthetic import Planted, PlantedConfig, Recovered, recovered

__all__ = [
    "TrainConfig",
    "Schedule",
    "Build",
    "Kind",
    "Pooling",
    "LOSSES",
    "Loss",
    "Penalty",
    "L1",
    "Tanh",
    "L0",
    "PreAct",
    "Matryoshka",
    "Nested",
    "KL",
    "AuxK",
    "train",
    "open_trained",
    "Trained",
    "StepRecord",
    "Callback",
    "LrTrial",
    "Quality",
    "SiteQuality",
    "ControlDensity",
    "CONTROLS",
    "measure_quality",
    "Fit",
    "joined",
    "Group",
    "Mode",
    "ALONE",
    "Batches",
    "needs_turns",
    "Planted",
    "PlantedConfig",
    "Recovered",
    "recovered",
    "StoredRows",
    "AXES",
    "Sweep",
    "SweepConfig",
    "SweepRun",
    "SweepControl",
    "choose",
    "open_sweep",
    "sweep",
    "Recommended",
    "Scaling",
    "ScalingLaw",
    "ScalingPoint",
    "fit_scaling",
    "FromForward",
    "RECIPES",
    "RecipeOut",
    "TrainRecipe",
    "run_recipe",
]
