"""`microtome export` and what `microtome show` says of the files."""

from pathlib import Path

import pytest

from microtome.features import FeatureIndex
from microtome.features.exchange import written_formats
from tests.cli.calls import call
from tests.features.small_store import D_DICT, make


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> FeatureIndex:
    return make(tmp_path_factory.mktemp("workspace")).build("small")


@pytest.fixture(scope="module")
def workspace(index: FeatureIndex) -> Path:
    return index.path.parent.parent


def test_an_export_is_listed_and_shown_by_name_and_by_path(workspace: Path, index: FeatureIndex) -> None:
    made = call("export", "small", "--to", "neuronpedia", "-w", str(workspace), "--json").json["export"]
    assert (made["features"], made["path"]) == (D_DICT, str(workspace / "exports" / "small-neuronpedia"))
    listed = call("show", "small-neuronpedia", "-w", str(workspace), "--limit", "3", "--json").json
    assert (listed["format"], listed["sources"][0]["id"], listed["sources"][0]["features"]) == ("neuronpedia", "1-small", D_DICT)
    assert [one["label"] for one in listed["features"]] == list(index.labels()[:3])
    shown = call("show", made["path"], "5", "-w", str(workspace), "--json").json["feature"]
    card = index.card(5)
    assert (shown["max"], shown["label"]) == (card.statistics.max, card.label.text)
    text = call("show", made["path"], "5", "-w", str(workspace)).out
    assert "feature 5 of 1-small" in text
    assert "raises" in text
    table = call("show", made["path"], "-w", str(workspace)).out
    assert "neuronpedia files at" in table


def test_some_features_and_another_format(workspace: Path, index: FeatureIndex, tmp_path: Path) -> None:
    base = ("-w", str(workspace), "--json")
    made = call("export", "--to", "saedashboard", "--features", "3,7-9", "--out", str(tmp_path / "some"), *base).json["export"]
    assert made["features"] == 4
    wanted = index.table(filter="density > 5%", limit=D_DICT).rows
    filtered = call("export", "--to", "saedashboard", "--filter", "density > 5%", "--out", str(tmp_path / "dense"), *base).json["export"]
    assert filtered["features"] == len(wanted)
    turned = call("export", str(tmp_path / "some"), "--to", "circuit-tracer", "--out", str(tmp_path / "turned"), *base).json["export"]
    assert (turned["features"], turned["format"]) == (4, "circuit-tracer")
    again = call("export", "--to", "saedashboard", "--features", "7-9,3", "--out", str(tmp_path / "some"), *base)
    assert again.json["export"]["id"] == made["id"]
    assert "nothing had to be done" in again.err


def test_a_static_copy(workspace: Path, tmp_path: Path) -> None:
    made = call("export", "--to", "static", "--documents", "2", "--out", str(tmp_path / "site"), "-w", str(workspace))
    assert "python -m http.server --directory" in made.out
    assert (tmp_path / "site" / "index.html").is_file()
    assert len(list((tmp_path / "site" / "data" / "documents").iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to", "neuronpdia"), 'no format is called "neuronpdia"'),
        (("--to", "neuronpedia", "--features", "3-1"), '--features holds "3-1"'),
        (("--to", "neuronpedia", "--features", "9999"), "has no feature 9999"),
        (("--to", "neuronpedia", "--filter", "densty > 1"), 'no column "densty"'),
        (("--to", "delphi", "--kept"), "--kept is of a static copy"),
        (("--to", "saedashboard", "--no-relations"), "--no-relations is of a static copy"),
    ],
)
def test_mistakes_are_named(workspace: Path, arguments: tuple[str, ...], said: str) -> None:
    out = workspace / "mistaken"
    found = call("export", "small", *arguments, "--out", str(out), "-w", str(workspace))
    assert found.code == 2
    assert said in found.err
    assert not (out / "manifest.json").exists()


def test_every_format_that_is_written_is_offered_and_no_other(workspace: Path, tmp_path: Path) -> None:
    there = ("-w", str(workspace))
    formats = written_formats()
    for wrong in ("nope", "neuron-record"):
        assert f"wanted: {', '.join(formats)}, static\n" in call("export", "small", "--to", wrong, *there).err
    said = " ".join(call("export", "--help").out.split())
    assert all(name in said for name in (*formats, "static"))
    files = tmp_path / "files"
    assert call("export", "small", "--to", "neuronpedia", "--features", "3", "--out", str(files), *there).code == 0
    for wrong in ("nope", "neuron-record"):
        assert f"wanted: {', '.join(formats)}\n" in call("export", str(files), "--to", wrong, *there).err
