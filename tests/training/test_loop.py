"""The whole run on shards: it learns, it is reported, and a killed run finishes with the same bytes (on one CPU, with the same number of threads)."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from microtome.activations import shards_from_matrix
from microtome.artifacts import read_manifest, sha256_of
from microtome.errors import NotEnoughTokens, ShapeMismatch, SiteNotFound, TrainingDiverged
from microtome.models import Site, tiny
from microtome.training import StepRecord, open_trained, train
from tests.training.planted import planted_rows, planted_shards, small_config

KILLED_RUN = """
import os, signal, sys
from microtome.activations import Corpus, Shards
from microtome.training import train
from tests.training.test_loop import RESUMED
work = sys.argv[1]

def die(record):
    if (record.phase, record.step) == (sys.argv[2], int(sys.argv[3])):
        os.kill(os.getpid(), signal.SIGKILL)

train(Shards.open(work + "/shards"), Corpus.open(work + "/corpus"), config=RESUMED, out=work + "/killed", callbacks=[die])
"""
RESUMED = small_config(lr=None, lr_search=(2e-3, 8e-3), lr_search_tokens=20 * 128, checkpoint_every_tokens=7 * 128)


def files_of(folder: Path) -> dict[str, str]:
    return {file.name: sha256_of(file) for file in folder.iterdir() if file.name != ".lock"}


def test_a_run_killed_twice_finishes_with_the_bytes_of_an_uninterrupted_one(tmp_path: Path) -> None:
    made = planted_shards(tmp_path)
    whole = train(made.shards, made.corpus, config=RESUMED, out=tmp_path / "whole")
    for phase, step in (("search", "13"), ("train", "40")):
        ended = subprocess.run([sys.executable, "-c", KILLED_RUN, str(tmp_path), phase, step], check=False, env=os.environ, timeout=120)
        assert ended.returncode == -signal.SIGKILL
    assert (tmp_path / "killed" / "checkpoint.safetensors").is_file()
    steps: list[StepRecord] = []
    resumed = train(made.shards, made.corpus, config=RESUMED, out=tmp_path / "killed", callbacks=[steps.append])
    assert (steps[0].phase, steps[0].step) == ("train", 36), "it goes on from the last checkpoint, not from the start"
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
    assert resumed.id == whole.id


def test_a_stop_soon_after_the_search_repeats_none_of_it(tmp_path: Path) -> None:
    made = planted_shards(tmp_path)
    steps: list[StepRecord] = []

    def stop(record: StepRecord) -> None:
        if (record.phase, record.step) == ("train", 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(made.shards, made.corpus, config=RESUMED, out=tmp_path / "stopped", callbacks=[stop])
    train(made.shards, made.corpus, config=RESUMED, out=tmp_path / "stopped", callbacks=[steps.append])
    assert (steps[0].phase, steps[0].step) == ("train", 1)
    train(made.shards, made.corpus, config=RESUMED, out=tmp_path / "whole")
    assert files_of(tmp_path / "stopped") == files_of(tmp_path / "whole")


def test_a_run_resumed_elsewhere_keeps_the_encoders_product_that_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = planted_shards(tmp_path)

    class Killed(Exception):
        pass

    def die(record: StepRecord) -> None:
        if record.step == 30:
            raise Killed

    config = small_config(checkpoint_every_tokens=7 * 128)
    monkeypatch.setattr("microtome.training.fit.pick_product", lambda device: "bfloat16")
    whole = train(made.shards, made.corpus, config=config, out=tmp_path / "whole")
    with pytest.raises(Killed):
        train(made.shards, made.corpus, config=config, out=tmp_path / "killed", callbacks=[die])
    monkeypatch.setattr("microtome.training.fit.pick_product", lambda device: "float32")
    assert train(made.shards, made.corpus, config=config, out=tmp_path / "killed").id == whole.id
    search = json.loads((tmp_path / "killed" / "training.json").read_bytes())
    assert (search["encoder_product"], search["devices"]) == ("bfloat16", ["cpu"])


def test_it_finds_the_planted_dictionary_and_reports_itself(tmp_path: Path) -> None:
    made = planted_shards(tmp_path)
    steps: list[StepRecord] = []
    trained = train(made.shards, made.corpus, config=small_config(tokens=200 * 128), out=tmp_path / "d", callbacks=[steps.append])
    assert len(steps) == 200
    assert trained.quality.fvu.value < 0.7 * trained.quality.fvu.baselines["random"]
    assert trained.history == tuple(json.loads(line) for line in (tmp_path / "d" / "steps.jsonl").read_text().splitlines())
    assert trained.history[-1]["step"] == 200
    assert read_manifest(tmp_path / "d").summary["fvu"] == trained.quality.fvu.value
    assert open_trained(tmp_path / "d").quality == trained.quality


def test_the_rate_with_the_lowest_dev_fvu_trains(tmp_path: Path) -> None:
    made = planted_shards(tmp_path)
    trained = train(made.shards, made.corpus, config=small_config(lr=None, lr_search=(1e-6, 4e-3), lr_search_tokens=2560), out=tmp_path / "d")
    assert [trial.lr for trial in trained.lr_trials] == [1e-6, 4e-3]
    assert trained.lr == 4e-3
    slow, quick = (trial.dev_fvu for trial in trained.lr_trials)
    assert slow is not None
    assert quick is not None
    assert quick < slow


def test_a_finished_run_is_opened_and_not_repeated(tmp_path: Path) -> None:
    made = planted_shards(tmp_path)
    first = train(made.shards, made.corpus, config=small_config(), out=tmp_path / "d")
    steps: list[StepRecord] = []
    second = train(made.shards, made.corpus, config=small_config(), out=tmp_path / "d", callbacks=[steps.append])
    assert second.id == first.id
    assert steps == []


def weights_of(path: Path) -> torch.Tensor:
    return load_file(path / "weights.safetensors")["W_enc"]


def test_the_seed_decides_the_weights(tmp_path: Path) -> None:
    made = planted_shards(tmp_path)
    runs = [train(made.shards, made.corpus, config=small_config(seed=seed), out=tmp_path / name) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    same, again, other = (weights_of(run.path) for run in runs)
    assert torch.equal(same, again)
    assert not torch.equal(same, other)


def test_divergence_is_named_with_its_learning_rate(tmp_path: Path) -> None:
    made = planted_shards(tmp_path)
    with pytest.raises(TrainingDiverged, match=r"learning rate 1e\+30"):
        train(made.shards, made.corpus, config=small_config(lr=1e30), out=tmp_path / "d")


def test_divergence_in_the_last_step_is_named_too(tmp_path: Path) -> None:
    """One step: its loss was taken before the weights went to infinity."""
    made = planted_shards(tmp_path)
    one_step = {"tokens": 128, "warmup_share": 0.0, "decay_share": 0.0}
    with pytest.raises(TrainingDiverged, match="at step 1 with learning rate"):
        train(made.shards, made.corpus, config=small_config(lr=1e38, **one_step), out=tmp_path / "d")


def test_a_trial_that_diverges_in_its_last_step_leaves_the_search(tmp_path: Path) -> None:
    made = planted_shards(tmp_path)
    config = small_config(lr=None, lr_search=(4e-3, 1e38), lr_search_tokens=128, warmup_share=0.0, decay_share=0.0)
    trained = train(made.shards, made.corpus, config=config, out=tmp_path / "d")
    assert trained.lr == 4e-3
    assert [trial.dev_fvu is None for trial in trained.lr_trials] == [False, True]


def test_a_trial_that_diverges_leaves_the_search(tmp_path: Path) -> None:
    made = planted_shards(tmp_path)
    trained = train(made.shards, made.corpus, config=small_config(lr=None, lr_search=(4e-3, 1e30), lr_search_tokens=2560), out=tmp_path / "d")
    assert [trial.dev_fvu is None for trial in trained.lr_trials] == [False, True]


def test_too_few_tokens_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    made = planted_shards(tmp_path, n=400)
    with pytest.raises(NotEnoughTokens) as caught:
        train(made.shards, made.corpus, config=small_config(batch_size=4096, tokens=8192), out=tmp_path / "d")
    assert caught.value.wanted == 4096
    assert not (tmp_path / "d").exists()


def test_a_site_that_was_not_harvested_is_answered_with_the_nearest(tmp_path: Path) -> None:
    made = planted_shards(tmp_path, n=1000)
    with pytest.raises(SiteNotFound, match=r"L0\.resid_post"):
        train(made.shards, made.corpus, config=small_config(reads=(Site("resid_pre", 0),)), out=tmp_path / "d")


def test_shards_of_another_corpus_are_refused(tmp_path: Path) -> None:
    made = planted_shards(tmp_path / "a")
    other = shards_from_matrix(planted_rows(3000, seed=5), tmp_path / "b", doc_tokens=64)
    with pytest.raises(ShapeMismatch, match="another corpus"):
        train(made.shards, other.corpus, config=small_config(), out=tmp_path / "d")


def test_another_model_than_the_shards_is_refused_before_training(tmp_path: Path) -> None:
    made = planted_shards(tmp_path, n=1000)
    steps: list[StepRecord] = []
    with pytest.raises(ShapeMismatch, match="of another model"):
        train(made.shards, made.corpus, config=small_config(), out=tmp_path / "d", model=tiny("llama"), callbacks=[steps.append])
    assert steps == []
    assert not (tmp_path / "d").exists()
