"""Two processes train what one does: the losses of every step within 1e-5, the same dead features, the same active features at the end."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from microtome.dictionaries import AbsTopK, BatchTopK, DictionarySet, Gated, JumpReLU, SparseCodes
from microtome.errors import ConfigError, ProcessLost
from microtome.models import Site
from microtome.training import KL, L0, L1, Fit, Matryoshka, StepRecord, TrainConfig, open_trained, train
from microtome.training.distributed import check_group, joined
from microtome.training.fit import Checkpoint, Checkpoints
from microtome.training.group import Group, Mode, _largest
from microtome.training.layout import layouts
from microtome.training.rules.topk import TopKRule
from microtome.training.start import start_from
from tests.training.planted import SITE, planted_rows, planted_shards, small_config
from tests.training.together import Laps, Make, together

OTHER = Site("resid_post", 1)
LAYERS: dict[str, object] = {"kind": "layers", "reads": (SITE, OTHER)}
DYING: dict[str, object] = {"d_dict": 96, "tokens": 24 * 128, "dead_after_tokens": 256, "checkpoint_every_tokens": 15 * 128}
SEARCH: dict[str, object] = {"lr": None, "lr_search": (1e-3, 4e-3), "lr_search_tokens": 3 * 128}
CASES: dict[str, dict[str, Any]] = {
    "data topk": {},
    "data batchtopk": {"nonlinearity": BatchTopK(k=3)},
    "data layers": LAYERS,
    "data jumprelu": {"nonlinearity": JumpReLU(), "losses": (L0(coefficient=0.05, target=None),)},
    "features topk": {},
    "features batchtopk": {"nonlinearity": BatchTopK(k=3)},
    "features abstopk": {"nonlinearity": AbsTopK(k=3)},
    "features matryoshka": {"losses": (Matryoshka(prefixes=(20, 60)),)},
    "features gated": {"nonlinearity": Gated(), "losses": (L1(coefficient=0.5),), **SEARCH},
    "features cross-layer": {**LAYERS, "kind": "cross-layer"},
}
SHORT = small_config(tokens=20 * 128, checkpoint_every_tokens=6 * 128, encoder_product="float32", **SEARCH)
ROWS, HELD = planted_rows(6000), planted_rows(500, seed=7)


def config_of(case: str) -> TrainConfig:
    return small_config(**{**DYING, "encoder_product": "float32", **CASES[case]})


def rows_of(config: TrainConfig, rows: torch.Tensor) -> Any:
    return rows if len(config.sites) == 1 else {site: rows.roll(number, dims=1) for number, site in enumerate(config.sites)}


def dense(codes: SparseCodes) -> torch.Tensor:
    return torch.zeros(len(codes.indices), codes.d_dict).scatter_add_(1, codes.indices.long(), codes.values)


def run(case: str, group: Group, folder: Path, *, last: Checkpoint | None = None) -> None:
    """Train a case, and let the first process write what came of it."""
    config = config_of(case)
    records: list[StepRecord] = []
    folder.mkdir(exist_ok=True)

    def put(checkpoint: Checkpoint) -> None:
        if group.leads:
            torch.save({"tensors": checkpoint.tensors, "position": checkpoint.position}, folder / f"{case}.checkpoint")

    batches = Laps(rows_of(config, ROWS), batch_size=config.batch_size)
    fit = Fit(batches, config, dev=rows_of(config, HELD), group=group, checkpoints=Checkpoints(put=put, last=last))
    made = fit.run(callbacks=[records.append])
    if not group.leads:
        return
    members = made.members if isinstance(made, DictionarySet) else (made,)
    held = rows_of(config, HELD)
    codes = [dense(member.encode(held if isinstance(held, torch.Tensor) else held[member.reads])) for member in members]
    steps = [[each.fvu, each.aux_loss, each.penalty, each.l0, each.dead] for each in records if each.phase == "train"]
    tried = [[trial.dev_fvu, trial.dev_objective] for trial in fit.trials]
    result = {"steps": steps, "lr": fit.lr, "tried": tried}
    (folder / f"{case}.json").write_text(json.dumps(result))
    torch.save(torch.cat(codes, dim=1), folder / f"{case}.pt")


def run_all(make: Make, folder: Path) -> None:
    for case in CASES:
        run(case, make("data" if case.startswith("data") else "features"), folder / "two")
    group = make("features")
    group.said(None)
    last = Checkpoint(**torch.load(folder / "two" / "features batchtopk.checkpoint"))
    run("features batchtopk", group, folder / "resumed", last=last)
    made = planted_shards(folder / f"planted-{group.rank}", n=3000)
    for mode in ("data", "features"):
        trained = train(made.shards, made.corpus, config=SHORT, out=folder / mode, group=make(mode))
        again = train(made.shards, made.corpus, config=SHORT, out=folder / mode, group=make(mode))
        assert again.id == trained.id


def outlive(make: Make, folder: Path) -> None:
    """The second process leaves; the first one notices at once."""
    group = make("data")
    if group.leads:
        with pytest.raises(ProcessLost, match="another process of the group is gone"):
            while True:
                group.total(1)
        (folder / "noticed").touch()


def test_a_process_that_dies_is_named_and_ends_the_wait(tmp_path: Path) -> None:
    together(outlive, tmp_path)
    assert (tmp_path / "noticed").exists()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    together(run_all, folder)
    return folder / "two"


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_what_one_does(case: str, results: Path, tmp_path: Path) -> None:
    run(case, Group(), tmp_path)
    one, two = (json.loads((folder / f"{case}.json").read_text()) for folder in (tmp_path, results))
    assert two["lr"] == one["lr"]
    curve = torch.tensor(one["steps"])
    assert len(curve) == 24
    torch.testing.assert_close(torch.tensor(two["steps"]), curve, rtol=0, atol=1e-5)
    assert len(one["tried"]) == len(config_of(case).schedule.lr_search) * (config_of(case).lr is None)
    torch.testing.assert_close(torch.tensor(two["tried"]), torch.tensor(one["tried"]), rtol=0, atol=1e-5)
    if case.endswith(("topk", "layers", "matryoshka")):
        assert curve[:, 4].max() > (0 if "batchtopk" in case else 8), "some were dead, and more than a row revives where it keeps k"
    mine, theirs = torch.load(tmp_path / f"{case}.pt"), torch.load(results / f"{case}.pt")
    alike = (mine != 0) == (theirs != 0)
    at_a_threshold = 2 if case.endswith(("jumprelu", "gated")) else 0  # of 48,000 places: as near to it as fp32 rounds
    assert int((~alike).sum()) <= at_a_threshold
    torch.testing.assert_close(theirs[alike], mine[alike], rtol=1e-4, atol=1e-5)


def test_a_checkpoint_of_two_processes_is_one_of_one_and_they_go_on_from_it(results: Path, tmp_path: Path) -> None:
    case = "features batchtopk"
    run(case, Group(), tmp_path)
    last = Checkpoint(**torch.load(results / f"{case}.checkpoint"))
    run(case, Group(), tmp_path / "alone", last=last)
    whole = torch.tensor(json.loads((tmp_path / f"{case}.json").read_text())["steps"])
    for folder in (tmp_path / "alone", results.parent / "resumed"):
        rest = torch.tensor(json.loads((folder / f"{case}.json").read_text())["steps"])
        torch.testing.assert_close(rest, whole[15:], rtol=0, atol=1e-5)
        assert torch.equal(torch.load(folder / f"{case}.pt") != 0, torch.load(tmp_path / f"{case}.pt") != 0)


@pytest.mark.parametrize("mode", ["data", "features"])
def test_the_artifact_that_the_first_process_writes_is_that_of_one(mode: Mode, results: Path, tmp_path: Path) -> None:
    made = planted_shards(tmp_path, n=3000)
    one = train(made.shards, made.corpus, config=SHORT, out=tmp_path / "one")
    two = open_trained(results.parent / mode)
    assert (two.config, two.lr) == (one.config, one.lr)
    assert [step["step"] for step in two.history] == [step["step"] for step in one.history]
    weights, wanted = (load_file(trained.path / "weights.safetensors") for trained in (two, one))
    assert weights.keys() == wanted.keys()
    for name, weight in wanted.items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-4, atol=1e-5)
    assert two.quality.fvu.value == pytest.approx(one.quality.fvu.value, rel=1e-4)
    search = json.loads((two.path / "training.json").read_text())
    assert search["distributed"] == {"mode": mode, "processes": 2}


@pytest.mark.parametrize(
    ("mode", "changes", "named"),
    [
        ("data", {"batch_size": 127}, "batch_size cannot be shared evenly"),
        ("features", {"d_dict": 33}, "d_dict cannot be shared evenly"),
        ("data", {"nonlinearity": JumpReLU(), "losses": (L0(target=3.0),)}, "this loss needs one process"),
        ("features", {"losses": (KL(),)}, "this loss needs one process"),
    ],
)
def test_what_cannot_be_shared_is_a_named_error(mode: Mode, changes: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        check_group(small_config(**changes), Group(mode=mode, size=2))


def test_a_rule_that_does_not_say_so_is_not_shared_by_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TopKRule, "shares_features", False)
    with pytest.raises(ConfigError, match="chosen part by part"):
        check_group(small_config(), Group(mode="features", size=2))
    check_group(small_config(), Group(mode="data", size=2))


def test_without_torchrun_there_is_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match="no other process"), joined("data"):
        pass


def test_of_equal_candidates_the_first_are_taken() -> None:
    values = torch.tensor([[1.0, 3.0, 3.0, 3.0, 0.0, 4.0], [2.0, 2.0, 2.0, 2.0, 2.0, 2.0]])
    assert _largest(values, 3).tolist() == [[False, True, True, False, False, True], [True, True, True, False, False, False]]


def test_the_parts_of_a_start_are_the_start_of_one() -> None:
    config = small_config(d_dict=8194)
    whole, *parts = (
        start_from({SITE: ROWS}, config, layouts=layouts(config), group=group).weights[0].members[0]
        for group in (Group(), *(Group(mode="features", rank=rank, size=2) for rank in range(2)))
    )
    for name, weight in whole.items():
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), weight, rtol=0, atol=1e-6)


def test_on_the_command_line_torchrun_starts_the_processes_and_the_first_one_speaks(tmp_path: Path) -> None:
    planted_shards(tmp_path / "made", n=1500)
    for kind, made in (("shards", "shards"), ("corpora", "corpus")):
        (tmp_path / kind).mkdir()
        (tmp_path / "made" / made).rename(tmp_path / kind / "planted")
    sizes = ["--features", "32", "--k", "3", "--tokens", "1280", "--batch-size", "128", "--lr", "0.004"]
    verb = ["-m", "microtome", "train", "planted", "--no-splice", "--json", "--workspace", str(tmp_path), "--distributed", "features", *sizes]
    started = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *verb]
    ended = subprocess.run(started, check=False, capture_output=True, text=True, timeout=200, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["lr"] == 0.004, "one process prints one document"
    assert json.loads((tmp_path / "dictionaries" / "planted" / "training.json").read_text())["distributed"] == {"mode": "features", "processes": 2}
