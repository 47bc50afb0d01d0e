"""Harvest stores what the model computes, whatever interrupts it."""

import errno
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from activations.texts import WriteLines, words

from microtome.activations import Corpus, CorpusConfig, HarvestConfig, Shards, build_corpus, context_batches, harvest
from microtome.artifacts import Draft
from microtome.errors import ActivationsNotFinite, ConfigError, DiskFull, ModelTapped, ShapeMismatch, SiteNotFound, WorkspaceBusy
from microtome.models import Model, Site, tiny

SITES = (Site("resid_post", 1), Site("mlp_out", 0))
CONFIG = HarvestConfig(sites=SITES, batch_tokens=96, shard_tokens=400, dtype="float32")


@pytest.fixture
def corpus(tmp_path: Path, model: Model, jsonl: WriteLines) -> Corpus:
    """32 documents of 4 to 40 words in contexts of 24 tokens."""
    path = jsonl([{"text": words(i, 4 + i * 11 % 37), "title": f"text {i}"} for i in range(32)])
    return build_corpus(model, CorpusConfig(source=str(path), context_length=24), out=tmp_path / "corpus")


def test_stored_rows_are_the_models_activations(tmp_path: Path, model: Model, corpus: Corpus) -> None:
    """Oracle: each context alone through the model."""
    shards = harvest(model, corpus, config=CONFIG, out=tmp_path / "shards")
    rows = {site: torch.cat([shards.block(i, site).x for i in range(len(shards.ranges))]) for site in SITES}
    assert shards.n_tokens == len(rows[SITES[0]]) == corpus.n_tokens
    for context in range(0, corpus.n_contexts, 7):
        start, end = (int(place) for place in corpus.context_start[context : context + 2])
        alone = model.capture(torch.from_numpy(corpus.tokens[start:end])[None].long(), SITES)
        for site in SITES:
            torch.testing.assert_close(rows[site][start:end], alone[site][0], atol=2e-6, rtol=2e-5)


def test_shards_are_consecutive_and_end_on_documents(tmp_path: Path, model: Model, corpus: Corpus) -> None:
    shards = harvest(model, corpus, config=CONFIG, out=tmp_path / "shards")
    assert len(shards.ranges) > 3
    assert [start for start, _ in shards.ranges] == [0, *(end for _, end in shards.ranges[:-1])]
    assert {end for _, end in shards.ranges} <= set(corpus.doc_start.tolist())
    assert shards.ranges[-1][1] == corpus.n_tokens
    assert all(end - start >= 400 for start, end in shards.ranges[:-1])


def test_keep_follows_the_policy_and_leaves_out_sinks(tmp_path: Path, model: Model, corpus: Corpus, *, monkeypatch: pytest.MonkeyPatch) -> None:
    capture = Model.capture
    sink = int(corpus.tokens[int(corpus.context_start[3]) + 5])

    def with_sinks(self: Model, tokens: torch.Tensor, sites: object, **rest: object) -> dict[Site, torch.Tensor]:
        values = capture(self, tokens, SITES, **rest)  # type: ignore[arg-type]  # the real one's own arguments
        return {site: torch.where((tokens == sink)[..., None], 1000 * x, x) for site, x in values.items()}

    monkeypatch.setattr(Model, "capture", with_sinks)
    keep = harvest(model, corpus, config=CONFIG, out=tmp_path / "shards").keep
    first = np.isin(np.arange(corpus.n_tokens), corpus.context_start)
    assert np.array_equal(keep, ~first & (corpus.tokens != sink))


def test_batches_hold_every_context_once_and_little_padding(corpus: Corpus) -> None:
    batches = list(context_batches(corpus, span=(0, corpus.n_tokens), batch_tokens=96))
    assert sorted(np.concatenate(batches).tolist()) == list(range(corpus.n_contexts))
    lengths = np.diff(corpus.context_start)
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    assert padded < 1.08 * corpus.n_tokens
    assert all(len(batch) * lengths[batch].max() <= 96 for batch in batches)


def test_finished_work_is_opened_not_redone(tmp_path: Path, model: Model, corpus: Corpus, *, monkeypatch: pytest.MonkeyPatch) -> None:
    first = harvest(model, corpus, config=CONFIG, out=tmp_path / "shards")
    monkeypatch.setattr(Model, "capture", _never)
    assert harvest(model, corpus, config=CONFIG, out=tmp_path / "shards").id == first.id


def _never(*_: object, **__: object) -> None:
    raise AssertionError("the model ran again")


_WORKER = """
import os, sys, time
from microtome.activations import Corpus, HarvestConfig, harvest
from microtome.models import Site, tiny
module = sys.modules["microtome.activations.harvest"]
save = module.save_file
def slow(tensors, path):
    path.write_bytes(b"half")
    time.sleep(0.05)
    save(tensors, path)
module.save_file = slow
config = HarvestConfig(sites=(Site("resid_post", 1), Site("mlp_out", 0)), batch_tokens=96, shard_tokens=400, dtype="float32")
model, corpus = tiny("llama"), Corpus.open(sys.argv[1])
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        harvest(model, corpus, config=config, out=line.strip())
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_killed_at_any_moment_and_rerun_the_bytes_are_the_same(tmp_path: Path, corpus: Corpus) -> None:
    """SIGKILL with 0, 1, 3, … finished shards, most of them in the middle of a write; compared with a harvest that was left alone.

    The worker forks a fresh process for each harvest, so that Python, torch and the model start only once.
    """
    chance, out = random.Random(5), tmp_path / "killed"
    worker = subprocess.Popen(
        [sys.executable, "-c", _WORKER, str(corpus.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment()
    )
    assert worker.stdin is not None
    assert worker.stdout is not None

    def harvest_into(folder: Path, *, kill_at: int | None = None) -> int:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(f"{folder}\n")
        worker.stdin.flush()
        child = int(worker.stdout.readline())
        if kill_at is not None:
            _wait_until(lambda: len(list(folder.glob("*.safetensors"))) >= kill_at)
            time.sleep(chance.uniform(0, 0.05))
            os.kill(child, signal.SIGKILL)
        return int(worker.stdout.readline())

    with worker:
        for finished in (0, 1, 1, 3, 5):
            assert harvest_into(out, kill_at=finished) == -signal.SIGKILL
            assert not (out / "manifest.json").exists()
        assert harvest_into(out) == 0
        assert harvest_into(tmp_path / "whole") == 0
        worker.stdin.close()
    assert len(_hashes(out)) > 6
    assert _hashes(out) == _hashes(tmp_path / "whole")


def _wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("finished", [0, 1, 3])
def test_an_interrupted_harvest_redoes_only_what_is_missing(tmp_path: Path, model: Model, corpus: Corpus, *, finished: int) -> None:
    harvest(model, corpus, config=CONFIG, out=tmp_path / "whole")

    def stop(step: str, done: float, total: float, *, unit: str = "", note: str = "") -> None:
        if len(list((tmp_path / "cut").glob("*.safetensors"))) >= finished:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        harvest(model, corpus, config=CONFIG, out=tmp_path / "cut", progress=stop)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cut").glob("*.safetensors")}
    assert len(before) >= finished
    harvest(model, corpus, config=CONFIG, out=tmp_path / "cut")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert _hashes(tmp_path / "cut") == _hashes(tmp_path / "whole")


def test_a_full_disk_is_named_and_nothing_finished_is_lost(tmp_path: Path, model: Model, corpus: Corpus, *, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["microtome.activations.harvest"]  # the name itself is the function
    save = module.save_file
    room = iter(range(2))

    def full(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if next(room, None) is None:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(tensors, path)

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(DiskFull) as error:
        harvest(model, corpus, config=CONFIG, out=tmp_path / "shards")
    assert "resumes" in str(error.value)
    assert sorted(path.name for path in (tmp_path / "shards").glob("shard*")) == ["shard-00000.safetensors", "shard-00001.safetensors"]
    monkeypatch.setattr(module, "save_file", save)
    harvest(model, corpus, config=CONFIG, out=tmp_path / "shards").path.joinpath("manifest.json").stat()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_really_full_disk(tmp_path: Path, model: Model, corpus: Corpus) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)], check=False, capture_output=True).returncode != 0:
        pytest.skip("this system does not let root mount a tmpfs")
    try:
        with pytest.raises(DiskFull):
            harvest(model, corpus, config=CONFIG, out=disk / "shards")
        assert list((disk / "shards").glob("shard-*.safetensors"))
        assert not list((disk / "shards").glob("*.partial"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_two_processes_on_one_artifact(tmp_path: Path, model: Model, corpus: Corpus) -> None:
    inputs = {"corpus": corpus.id, "model": model.fingerprint}
    with Draft.open(tmp_path / "shards", "shards", config=CONFIG, inputs=inputs), pytest.raises(WorkspaceBusy):
        harvest(model, corpus, config=CONFIG, out=tmp_path / "shards")


def test_the_number_of_cores_changes_no_byte(tmp_path: Path, model: Model, corpus: Corpus) -> None:
    before = torch.get_num_threads()
    try:
        for cores in (1, 3):
            torch.set_num_threads(cores)
            harvest(model, corpus, config=CONFIG, out=tmp_path / str(cores))
            assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(before)
    first, second = (_hashes(tmp_path / str(cores)) for cores in (1, 3))
    for each in (first, second):
        del each["manifest.json"]  # holds when it was made
    assert first == second


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_activations_are_named(tmp_path: Path, corpus: Corpus, value: float) -> None:
    """One embedding row is poisoned: the first token that carries it is reported."""
    broken = tiny("llama", seed=0)
    doc = 17
    position = corpus.span(doc).end - 1
    with torch.no_grad():
        weight(broken)[int(corpus.tokens[position])] = value
    first = int(np.flatnonzero(corpus.tokens == corpus.tokens[position])[0])
    where = int(corpus.doc_of([first])[0])
    with pytest.raises(ActivationsNotFinite) as error:
        harvest(broken, corpus, config=HarvestConfig(sites=(Site("resid_post", 0),), shard_tokens=400), out=tmp_path / "shards")
    message = str(error.value)
    assert f"L0.resid_post of document {where} (text {where}), token {first - corpus.span(where).start}" in message
    assert "layer 0" in message


def test_overflow_of_the_storage_type_is_named(tmp_path: Path, corpus: Corpus) -> None:
    big = tiny("llama")
    with torch.no_grad():
        weight(big).mul_(1e8)
    config = HarvestConfig(sites=(Site("embed"),), dtype="float16")
    with pytest.raises(ActivationsNotFinite, match="embed of document 0") as error:
        harvest(big, corpus, config=config, out=tmp_path / "shards")
    assert "bfloat16" in str(error.value)
    assert harvest(big, corpus, config=HarvestConfig(sites=(Site("embed"),)), out=tmp_path / "wide").n_tokens == corpus.n_tokens


def test_what_does_not_fit_is_refused(tmp_path: Path, model: Model, corpus: Corpus, *, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SiteNotFound, match="L9"):
        harvest(model, corpus, config=HarvestConfig(sites=(Site("resid_post", 9),)), out=tmp_path / "a")
    with pytest.raises(ConfigError):
        HarvestConfig(sites=())
    with pytest.raises(ConfigError, match="dtype"):
        HarvestConfig(sites=SITES, dtype="bf16")
    with monkeypatch.context() as patch, pytest.raises(ShapeMismatch, match="contexts"):
        patch.setattr(Model, "max_context", 8)
        harvest(model, corpus, config=CONFIG, out=tmp_path / "b")
    monkeypatch.setattr(model.tokenizer, "fingerprint", "another")
    with pytest.raises(ShapeMismatch, match="another tokenizer"):
        harvest(model, corpus, config=CONFIG, out=tmp_path / "c")


def test_under_a_tap_nothing_is_stored_as_the_models_own(tmp_path: Path, model: Model, corpus: Corpus) -> None:
    with model.tap(edit={Site("resid_pre", 0): lambda x: 2 * x}), pytest.raises(ModelTapped, match="harvesting was begun inside a tap"):
        harvest(model, corpus, config=CONFIG, out=tmp_path / "shards")
    assert not (tmp_path / "shards").exists()


def test_progress_reaches_the_total(tmp_path: Path, model: Model, corpus: Corpus) -> None:
    steps = list[tuple[float, float]]()

    def watch(step: str, done: float, total: float, *, unit: str = "", note: str = "") -> None:
        assert (step, unit) == ("harvest", "tokens")
        steps.append((done, total))

    harvest(model, corpus, config=CONFIG, out=tmp_path / "shards", progress=watch)
    assert steps[-1] == (corpus.n_tokens, corpus.n_tokens)
    assert steps == sorted(steps)


def _environment() -> dict[str, str]:
    """One thread, since a fork and OpenMP's threads do not go together."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir()) if path.name != ".lock"}


def test_opened_shards_equal_the_returned_ones(tmp_path: Path, model: Model, corpus: Corpus) -> None:
    made = harvest(model, corpus, config=CONFIG, out=tmp_path / "shards")
    opened = Shards.open(tmp_path / "shards")
    assert (opened.id, opened.sites, opened.n_kept) == (made.id, SITES, int(opened.keep.sum()))
    assert (opened.model_ref, opened.model_fingerprint, opened.corpus_id) == (model.ref, model.fingerprint, corpus.id)


def weight(model: Model) -> torch.Tensor:
    """The model's embedding, to be written into."""
    found = model.hf.get_input_embeddings().weight
    assert isinstance(found, torch.Tensor)
    return found
