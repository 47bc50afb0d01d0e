"""Costs add up over interruptions, and a step that was there keeps the cost of making it."""

import errno
import os
from pathlib import Path

import pytest

from microtome.costs import CostLedger, folder_bytes
from microtome.errors import DiskFull


def test_a_step_states_time_throughput_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_bytes(b"12345")
    ledger = CostLedger(tmp_path / "costs.json")
    with ledger.step("harvest") as step:
        step.output = tmp_path / "out"
        step.count(1000, "tokens")
    (cost,) = ledger.costs
    assert (cost.step, cost.amount, cost.unit, cost.bytes_written, cost.finished) == ("harvest", 1000, "tokens", 5, True)
    assert cost.rate is not None
    assert cost.peak_memory_bytes > 0


def test_an_interrupted_step_adds_up_and_a_reused_one_stays(tmp_path: Path) -> None:
    file = tmp_path / "costs.json"
    with pytest.raises(KeyboardInterrupt), CostLedger(file).step("train"):
        raise KeyboardInterrupt
    (interrupted,) = CostLedger(file).costs
    assert not interrupted.finished
    with CostLedger(file).step("train"):
        pass
    (made,) = CostLedger(file).costs
    assert made.finished
    assert made.seconds > interrupted.seconds
    with CostLedger(file).step("train"):  # leaves nothing behind: the first time counts
        pass
    again = CostLedger(file)
    assert again.costs == (made,)
    with again.step("train") as step:
        step.reused = True
    assert again.costs == (made,)
    assert again.session[0].reused


def test_an_unreadable_file_is_started_afresh(tmp_path: Path) -> None:
    (tmp_path / "costs.json").write_text("[{")
    assert CostLedger(tmp_path / "costs.json").costs == ()


def test_costs_that_cannot_be_written_hide_no_error_and_stop_no_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("microtome.costs.write_atomic", full)
    ledger = CostLedger(tmp_path / "costs.json")
    with pytest.raises(DiskFull), ledger.step("harvest"):
        raise DiskFull("the disk is full.", do="Free some space.")
    with ledger.step("train"):
        pass
    assert [cost.step for cost in ledger.costs] == ["harvest", "train"]


def test_bytes_of_a_folder_are_those_of_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "x").write_bytes(b"123")
    (tmp_path / "a" / "b" / "y").write_bytes(b"4567")
    assert folder_bytes(tmp_path / "a") == 7
    assert folder_bytes(tmp_path / "a" / "x") == 3
    assert folder_bytes(tmp_path / "nothing") == 0
