"""Sweeps: runs that share one pass are the runs they would be alone, and the table says what was planted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from microtome.activations import FromMatrix, shards_from_matrix
from microtome.artifacts import read_manifest
from microtome.dictionaries import load_any
from microtome.errors import ConfigError
from microtome.progress import Throttled
from microtome.stats import Result
from microtome.training import Planted, PlantedConfig, TrainConfig, measure_quality, train
from microtome.training.loop import open_trained
from microtome.training.shared import SharedBatches
from microtome.training.source import Served, StoredRows
from microtome.training.sweep import SweepConfig, SweepRun, choose, open_sweep, sweep
from tests.training.planted import SITE, planted_shards, small_config


def source_of(made: FromMatrix) -> StoredRows:
    return StoredRows(shards=made.shards, corpus=made.corpus)


class Counted:
    """Batches that say how often they were read."""

    def __init__(self) -> None:
        self.at = self.reads = 0

    def __next__(self) -> torch.Tensor:
        self.reads += 1
        self.at += 1
        return torch.full((1, 1), float(self.at))

    def state(self) -> dict[str, int]:
        return {"served": self.at}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.at = state["served"]


def number(batch: Served) -> float:
    assert isinstance(batch, torch.Tensor)
    return float(batch)


def test_views_in_step_read_every_batch_once() -> None:
    stream = Counted()
    shared = SharedBatches(stream, seed=0)
    views = [shared.view() for _ in range(5)]
    for place in range(1, 8):
        assert [number(next(view)) for view in views] == [place] * 5
    assert stream.reads == 7


def test_a_view_that_is_put_back_gets_its_own_batches() -> None:
    shared = SharedBatches(Counted(), seed=0)
    first, second = shared.view(), shared.view()
    begin = first.state()
    assert [number(next(first)) for _ in range(3)] == [1, 2, 3]
    first.restore(begin)
    assert [number(next(view)) for view in (second, first, second, first)] == [1, 1, 2, 2]
    assert (first.served, second.served) == (2, 2)


def test_a_run_of_a_sweep_is_the_artifact_that_training_alone_makes(tmp_path: Path) -> None:
    made = planted_shards(tmp_path)
    config = SweepConfig(base=small_config(), axes={"k": ("2", "3"), "seed": ("0", "1")})
    done = sweep(source_of(made), config, out=tmp_path / "s", dictionaries=tmp_path)
    assert [run.label for run in done.runs] == ["k2-seed0", "k2-seed1", "k3-seed0", "k3-seed1"]
    alone = train(made.shards, made.corpus, config=config.runs()["k2-seed0"], out=tmp_path / "alone")
    assert alone.id == done.runs[0].id == read_manifest(tmp_path / "s-k2-seed0").id
    assert read_manifest(tmp_path / "s-k2-seed1").inputs["order"] == "seed 0"
    assert done == open_sweep(tmp_path / "s")
    assert [control.name for control in done.controls] == ["k-means", "pca", "pca"]
    at = {(control.name, round(control.l0.value)): control.fvu for control in done.controls}
    for run in done.runs:
        assert run.fvu is not None
        assert run.fvu.low is not None
        assert set(run.fvu.baselines) == {"random", "k-means", "pca", "mean"}
        assert run.fvu.baselines["pca"] == at["pca", run.k or 0].value, "the control at the L0 of the run"
        assert run.fvu.baselines["k-means"] == at["k-means", 1].value


def test_a_run_of_a_sweep_has_the_quality_that_it_would_have_alone(tmp_path: Path) -> None:
    made = planted_shards(tmp_path)
    config = SweepConfig(base=small_config(), axes={"k": ("2", "3"), "features": ("16", "32")})
    done = sweep(source_of(made), config, out=tmp_path / "s", dictionaries=tmp_path)
    for run in done.runs:
        alone = measure_quality(load_any(tmp_path / run.dictionary), made.shards, corpus=made.corpus)
        assert alone == open_trained(tmp_path / run.dictionary).quality


def test_a_finished_sweep_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = planted_shards(tmp_path)
    config = SweepConfig(base=small_config(), axes={"lr": ("1e-3", "4e-3")})
    first = sweep(source_of(made), config, out=tmp_path / "s", dictionaries=tmp_path)
    monkeypatch.setattr("microtome.training.loop.Fit", None)
    assert sweep(source_of(made), config, out=tmp_path / "s", dictionaries=tmp_path) == first


def test_a_sweep_that_is_killed_goes_on_and_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = planted_shards(tmp_path)
    config = SweepConfig(
        base=small_config(lr=None, lr_search=(2e-3, 8e-3), lr_search_tokens=1280, checkpoint_every_tokens=7 * 128), axes={"k": ("2", "3")}
    )
    whole = sweep(source_of(made), config, out=tmp_path / "whole", dictionaries=tmp_path)

    class Killed(Exception):
        pass

    def die(step: str, done: float, total: float, *, unit: str = "", note: str = "") -> None:
        if step == "training all runs" and done > 0.6 * total:
            raise Killed

    with pytest.raises(Killed), monkeypatch.context() as patched:
        # a fast machine is through before it tells again
        patched.setattr(Throttled, "__call__", lambda report, *step, **words: vars(report)["_progress"](*step, **words))
        sweep(source_of(made), config, out=tmp_path / "again", dictionaries=tmp_path, progress=die)
    assert (tmp_path / "again-k2" / "checkpoint.safetensors").is_file()
    again = sweep(source_of(made), config, out=tmp_path / "again", dictionaries=tmp_path)
    assert [run.id for run in again.runs] == [run.id for run in whole.runs]


def test_a_run_that_diverges_is_named_and_the_others_finish(tmp_path: Path) -> None:
    made = planted_shards(tmp_path)
    done = sweep(source_of(made), SweepConfig(base=small_config(), axes={"lr": ("1e30", "4e-3")}), out=tmp_path / "s", dictionaries=tmp_path)
    wild, tame = done.runs
    assert wild.fvu is None
    assert "1e+30" in wild.failed
    assert tame.fvu is not None
    assert done.chosen == "lr4e-3"


def test_a_sweep_over_planted_rows_chooses_the_planted_k(tmp_path: Path) -> None:
    planted = Planted(PlantedConfig(d=24, directions=24, active=3.0, power=0.0, noise=0.02))
    made = shards_from_matrix(planted.rows(12_000), tmp_path, site=SITE, doc_tokens=64, dtype="float32")
    base = small_config(d_dict=24, tokens=45_000, batch_size=150, lr=1e-2)
    done = sweep(source_of(made), SweepConfig(base=base, axes={"k": ("1", "2", "4", "8", "16")}), out=tmp_path / "s", dictionaries=tmp_path)
    assert done.chosen == "k4", "the nearest above the 3 directions of a row"
    fvus = [run.fvu.value for run in done.runs if run.fvu is not None]
    assert fvus == sorted(fvus, reverse=True)
    at = {(control.name, control.note.split(",")[0]): control.fvu.value for control in done.controls}
    assert all(run.fvu is not None and run.fvu.value < at["pca", f"k {run.k}"] for run in done.runs if run.k in {2, 4})


def test_a_sweep_over_sizes_fits_a_scaling_law(tmp_path: Path) -> None:
    made = planted_shards(tmp_path)
    done = sweep(source_of(made), SweepConfig(base=small_config(), axes={"features": ("8", "16", "32")}), out=tmp_path / "s", dictionaries=tmp_path)
    assert done.scaling is not None
    assert [point.features for point in done.scaling.points] == [8, 16, 32]
    assert open_sweep(tmp_path / "s").scaling == done.scaling


def run(k: int, fvu: float) -> SweepRun:
    made = Result(name="", value=fvu, n=1)
    return SweepRun(label=f"k{k}", features=1, tokens=1, k=k, seed=0, fvu=made, l0=Result(name="", value=k, n=1))


def test_the_knee_is_where_more_features_stop_paying() -> None:
    assert choose([run(1, 0.8), run(2, 0.4), run(4, 0.1), run(8, 0.09), run(16, 0.08)]) == "k4"
    assert choose([run(1, 0.8), run(2, 0.4)]) is None, "two points have no knee"
    assert choose([run(1, 0.8), run(2, 0.5), run(4, 0.2)]) is None, "nor has a straight line"
    assert choose([run(4, 0.4), run(4, 0.3)]) == "k4"


@pytest.mark.parametrize(
    ("axes", "told"),
    [
        ({"kk": ("1",)}, "cannot be swept"),
        ({}, "nothing is swept"),
        ({"k": ("1", "1")}, "values of k"),
        ({"k": ("many",)}, "no value of k"),
        ({"coefficient": ("1",)}, "no penalty"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_it_starts(axes: dict[str, tuple[str, ...]], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        SweepConfig(base=small_config(), axes=axes)


def test_axes_change_what_they_are_called_after() -> None:
    config = SweepConfig(base=small_config(), axes={"nonlinearity": ("topk", "batchtopk"), "k": ("2",), "tokens": ("1280",)})
    runs: dict[str, TrainConfig] = config.runs()
    assert list(runs) == ["topk-k2-tokens1280", "batchtopk-k2-tokens1280"]
    made = runs["batchtopk-k2-tokens1280"]
    assert (type(made.nonlinearity).__name__, getattr(made.nonlinearity, "k", 0), made.tokens) == ("BatchTopK", 2, 1280)
