"""Sweeps, and the cards of dictionaries, from the command line."""

import json
from pathlib import Path

import pytest
import torch

from microtome.activations import shards_from_matrix
from microtome.artifacts import Workspace
from microtome.dictionaries import SAE, TopK
from microtome.dictionaries.formats import write_foreign
from microtome.models import Site
from tests.cli.calls import call
from tests.training.planted import planted_rows

SITE = Site("resid_post", 0)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with planted shards."""
    folder = tmp_path_factory.mktemp("workspace")
    made = shards_from_matrix(planted_rows(4000), folder / "made", site=SITE, doc_tokens=32, dtype="float32")
    for kind, path in (("corpus", made.corpus.path), ("shards", made.shards.path)):
        place = Workspace(folder).place(kind, "rows")
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
    return folder


SIZES = ("--features", "32", "--tokens", "4096", "--batch-size", "128", "--lr", "0.004", "--no-splice")


def test_a_sweep_makes_its_dictionaries_its_table_and_its_page(workspace: Path) -> None:
    called = call("train", "rows", *SIZES, "--sweep", "k=1,2,4", "--sweep", "seed=0", "--workspace", str(workspace), "--json")
    assert called.code == 0, called.err
    runs = called.json["sweep"]["runs"]
    assert [run["label"] for run in runs] == ["k1-seed0", "k2-seed0", "k4-seed0"]
    assert {control["name"] for control in called.json["sweep"]["controls"]} == {"pca", "k-means"}
    assert Workspace(workspace).names("dictionary") == ["rows-k1-seed0", "rows-k2-seed0", "rows-k4-seed0"]
    page = Path(called.json["report"]).read_text()
    assert page.count("<svg") >= 1
    assert all(run["label"] in page for run in runs)
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    shown = call("show", str(workspace / "sweeps" / "rows"), "--workspace", str(workspace))
    assert shown.code == 0, shown.err
    assert "k-means" in shown.out


def test_what_cannot_be_swept_is_refused_with_what_can(workspace: Path) -> None:
    for axis, told in (("width=3", "cannot be swept"), ("k", "not what to sweep")):
        called = call("train", "rows", *SIZES, "--sweep", axis, "--workspace", str(workspace))
        assert called.code == 2
        assert told in called.err


def test_an_unknown_recipe_is_refused_with_the_known_ones(workspace: Path) -> None:
    called = call("train", "--recipe", "demo-pl", "--workspace", str(workspace))
    assert called.code == 2
    assert "demo-plt" in called.err


def test_the_card_says_what_on_what_how_good_and_what_is_not_known(workspace: Path) -> None:
    assert call("train", "rows", *SIZES, "--k", "3", "--name", "three", "--workspace", str(workspace)).code == 0
    called = call("show", "three", "--workspace", str(workspace), "--json")
    card = called.json["dictionary"]
    assert card["what"]["kind"] == "SAE"
    assert card["what"]["nonlinearity"] == "topk k 3"
    assert card["trained_on"]["text"].startswith("matrix")
    assert card["quality"]["fvu"]["baselines"].keys() == {"random", "k-means", "pca", "mean"}
    assert any("measured on" in limit for limit in card["limits"])
    shown = call("show", "three", "--workspace", str(workspace))
    assert "FVU" in shown.out
    assert "limit" in shown.out
    for control in ("random", "k-means", "pca", "mean", "no frozen decoder", "no neurons"):
        assert control in shown.out


def test_a_foreign_dictionary_has_a_card_that_claims_nothing_about_it(workspace: Path, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(8, 4, generator=generator)
    weights = {"W_enc": rows, "W_dec": rows.clone(), "b_enc": torch.zeros(8), "b_dec": torch.zeros(4)}
    write_foreign(SAE(site=SITE, nonlinearity=TopK(k=2), weights=weights, input_scale=1.0), tmp_path / "lens", format_name="saelens")
    called = call("show", str(tmp_path / "lens"), "--workspace", str(workspace), "--json")
    assert called.code == 0, called.err
    card = called.json["dictionary"]
    assert (card["what"]["features"], card["what"]["reads"]) == ("8", "L0.resid_post")
    assert card["quality"] == {}
    assert "not measured here" in json.dumps(card["limits"])


def test_two_models_are_trained_on_side_by_side(workspace: Path, tmp_path: Path) -> None:
    made = shards_from_matrix(planted_rows(4000, seed=5), tmp_path / "made", site=SITE, doc_tokens=32, dtype="float32")
    made.shards.path.rename(Workspace(workspace).place("shards", "second"))
    where = ("--workspace", str(workspace))
    called = call("train", "rows", "--beside", "second", "--kind", "crosscoder", "--name", "both", *SIZES, *where, "--json")
    assert called.code == 0, called.err
    assert [site["site"] for site in called.json["quality"]["by_site"]] == ["L0.resid_post", "L0.resid_post#2"]
    shown = call("show", "both", *where)
    assert "L0.resid_post#2" in shown.out
