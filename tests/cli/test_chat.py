"""`microtome chat` with its lines on standard input."""

import io
from dataclasses import replace
from pathlib import Path

import pytest

from microtome.conversation import Conversation, Turn
from microtome.directions import Direction, asked, load_direction, save_direction
from microtome.models import Site, tiny
from microtome.shapes import Tensor
from microtome.steering import Add, EditSet, Sampling, generate, raw
from tests.cli.calls import Called, call

SAMPLING = Sampling(max_new_tokens=4, temperature=0.0)
MODEL = tiny("llama", seed=3)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    vector: Tensor = MODEL.unembed()[9].float()
    save_direction(Direction(name="nine", site=Site("resid_post", 1), vector=vector), tmp_path / "directions" / "nine")
    return tmp_path


def chat(workspace: Path, monkeypatch: pytest.MonkeyPatch, *lines: str, json: bool = True, more: tuple[str, ...] = ()) -> Called:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    options = ("--add", "nine=40", *more, "--max-new-tokens", "4", "--temperature", "0", "--workspace", str(workspace))
    return call("chat", "tiny:llama@3", *options, *(("--json",) if json else ()))


def test_replies_are_those_of_generate_at_the_dose(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = chat(workspace, monkeypatch, "hello", "/off", "/again", "and that?", "/dose 0.5", "/new", "hello", "/on", "/end", "never said")
    assert called.code == 0, called.err
    edits = EditSet.of(Add(component=load_direction(workspace / "directions" / "nine"), strength=raw(40)))
    on, off, half = (generate(MODEL, asked("hello"), edits=edits.at(dose), sampling=SAMPLING)[0].text for dose in (1, 0, 0.5))
    second = Conversation(turns=(*asked("hello", reply=off).turns, Turn(role="user", content="and that?")))
    said = [(turn["assistant"], *turn["doses"]) for turn in called.json["turns"]]
    assert said == [(on, 1), (off, 0), (generate(MODEL, second, sampling=SAMPLING)[0].text, 0), (half, 0.5)]
    assert on != off
    assert called.json["turns"][1]["tokens_edited"] == 0


def test_each_edit_has_its_own_slider(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nine = load_direction(workspace / "directions" / "nine")
    save_direction(replace(nine, name="ten", vector=MODEL.unembed()[10].float()), workspace / "directions" / "ten")
    lines = ("/off ten", "hello", "/dose nine 0.5", "/on ten", "/again", "/edits", "/off eleven")
    called = chat(workspace, monkeypatch, *lines, more=("--add", "ten=30"))
    assert [turn["doses"] for turn in called.json["turns"]] == [[1, 0], [0.5, 1]]
    edits = [Add(component=load_direction(workspace / "directions" / name), strength=raw(n)) for name, n in (("nine", 40), ("ten", 30))]
    both = EditSet.of(replace(edits[0], dose=0.5), edits[1])
    assert called.json["turns"][0]["assistant"] == generate(MODEL, asked("hello"), edits=edits[0], sampling=SAMPLING)[0].text
    assert called.json["turns"][1]["assistant"] == generate(MODEL, asked("hello"), edits=both, sampling=SAMPLING)[0].text
    told = chat(workspace, monkeypatch, "/edits", "/off eleven", json=False)
    assert "nine dose 1" in told.out
    assert 'no edit is called "eleven"' in told.out


def test_what_is_not_understood_is_told_what_there_is(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = chat(workspace, monkeypatch, "/dose much", "/nonsense", "/again", "", json=False)
    assert called.code == 0
    assert called.out.count("/dose 0.5") == 3
