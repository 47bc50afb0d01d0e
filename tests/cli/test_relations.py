"""`microtome show INDEX FEATURE` with relations, surroundings, loss and effects: the same figures as the Python calls."""

from pathlib import Path

import pytest

from microtome.artifacts import Workspace
from microtome.config import to_dict
from microtome.features import FeatureIndex, Summary
from tests.cli.calls import call
from tests.features.small_set import D, make_set
from tests.features.small_store import make


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of a set, with losses and two features measured, made by the command."""
    folder = tmp_path_factory.mktemp("relations")
    name = make_set(make(folder)).dictionary.name
    words = ["index", name, "--model", "tiny:llama@0", "--name", "set", "--effects", "2", "--losses", "--workspace", str(folder), "--json"]
    indexed = call(*words)
    assert indexed.code == 0, indexed.err
    assert indexed.json["effects"] == {"features": 2, "new": 2}
    again = call(*words)
    assert again.json["effects"] == {"features": 2, "new": 0}
    return folder


def test_each_option_adds_its_record_and_its_table(workspace: Path) -> None:
    index = FeatureIndex.open(Workspace(workspace).find("index", "set"), workspace)
    asked = ["--alike", "--coactive", "--suspects", "--across", "--match", "set", "--around", "--loss", "--effects", "--limit", "4"]
    shown = call("show", "set", "3", "--site", "L1.mlp_in", *asked, "--workspace", str(workspace), "--json")
    assert shown.code == 0, shown.err
    feature = D + 3
    wanted = {
        "alike": index.alike(feature, limit=4),
        "coactive": index.coactive(feature, limit=4),
        "suspects": index.suspects(feature, limit=4),
        "across": index.across(feature, limit=4),
        "match": index.match(feature, index, limit=4),
        "around": index.surroundings(feature, limit=4),
        "loss": index.loss(feature),
        "effects": index.effects(feature),
    }
    assert wanted["loss"] is not None
    assert wanted["effects"] is not None
    assert {name: shown.json[name] for name in wanted} == {name: _plain(record) for name, record in wanted.items()}
    printed = call("show", "set", "3", "--site", "L1.mlp_in", *asked, "--workspace", str(workspace))
    assert printed.code == 0, printed.err
    said = " ".join(printed.out.split())
    for words in (
        "writes alike (decoder cosine)",
        "fires together with",
        "by correlation (moved along",
        "n-grams that end on it",
        "loss in nats",
        "ablated: KL",
    ):
        assert words in said, words


def test_links_on_another_corpus_are_those_of_its_sums(workspace: Path) -> None:
    opened = Workspace(workspace)
    index = FeatureIndex.open(opened.find("index", "set"), workspace)
    (corpus,) = opened.names("corpus")
    asked = ["show", "set", "3", "--site", "L1.mlp_in", "--over", corpus, "--limit", "4", "--workspace", str(workspace)]
    shown = call(*asked, "--json")
    assert shown.code == 0, shown.err
    (made,) = opened.names("summary")
    over = Summary.open(opened.place("summary", made))
    assert shown.json["downstream"] == to_dict(index.downstream(D + 3, over=over, limit=4))
    assert shown.json["upstream"] == to_dict(index.upstream(D + 3, over=over, limit=4))
    assert shown.json["upstream"]["over"] == corpus
    both = call(*asked, "--silenced")
    assert both.code == 2, both.err
    again = call(*asked)
    assert again.code == 0, again.err
    assert "summarise" not in again.err, "the sums are there"


@pytest.mark.parametrize(
    "option", [["--links"], ["--over", "wiki"], ["--silenced"], ["--alike"], ["--coactive"], ["--suspects"], ["--across"], ["--match", "set"]]
)
def test_what_would_be_left_out_is_refused(workspace: Path, option: list[str]) -> None:
    there = ("--workspace", str(workspace))
    alone = call("show", "set", *option, *there)
    assert (alone.code, "no feature is named" in alone.err, f"{option[0]} without a number" in alone.err) == (2, True, True)
    nowhere = call("show", *option, *there)
    assert (nowhere.code, nowhere.out) == (2, "")
    for question in (["--text", "the ship"], ["--token", " the"], ["7", "--test", "the ship"]):
        beside = call("show", "set", *question, *option, *there)
        assert beside.code == 2
        assert f"{option[0]} and {question[-2]}" in beside.err


def test_files_of_another_tool_have_no_relations(workspace: Path, tmp_path: Path) -> None:
    there = ("--workspace", str(workspace))
    assert call("export", "set", "--to", "neuronpedia", "--features", "3", "--out", str(tmp_path / "out"), *there).code == 0
    shown = call("show", str(tmp_path / "out"), "3", "--alike", *there)
    assert (shown.code, "do not hold this" in shown.err) == (2, True)
    assert call("show", str(tmp_path / "out"), "3", *there).code == 0


def _plain(record: object) -> object:
    return [to_dict(each) for each in record] if isinstance(record, tuple) else to_dict(record)
