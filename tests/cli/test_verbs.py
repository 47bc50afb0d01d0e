"""The verbs in order on a tiny model: each one's JSON names what the next one reads, and a second run has nothing to do."""

import json
import re
import shutil
from pathlib import Path

import pytest

from microtome.artifacts import Workspace
from tests.cli.calls import Called, call

WORDS = re.findall(r"\w+", "the ship sailed north to the cold sea and the old captain wrote a letter about rivers birds stones")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty little texts in one JSON lines file."""
    file = tmp_path_factory.mktemp("texts") / "notes.jsonl"
    rows = [{"text": " ".join(WORDS[(i * 7 + j * (1 + i % 5)) % len(WORDS)] for j in range(30)), "label": "ab"[i % 2]} for i in range(40)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


HARVEST = ("harvest", "tiny:llama@3", "--site", "L1.resid_post", "--context-length", "64")
TRAIN = ("train", "notes", "--features", "48", "--k", "4", "--tokens", "4096", "--batch-size", "256", "--lr", "0.003")


@pytest.fixture(scope="module")
def lines(texts: Path, workspace: Path) -> dict[str, list[str]]:
    """The command lines that make everything, by verb."""
    there = ["--workspace", str(workspace), "--json"]
    return {
        "harvest": [*HARVEST, "--corpus", str(texts), "--label-key", "label", *there],
        "train": [*TRAIN, *there],
        "index": ["index", "notes", *there],
    }


@pytest.fixture(scope="module")
def made(lines: dict[str, list[str]]) -> dict[str, Called]:
    """What they answered, run in order."""
    return {verb: call(*line) for verb, line in lines.items()}


def test_harvest_train_index_lead_from_text_to_an_index(made: dict[str, Called], workspace: Path) -> None:
    assert [each.code for each in made.values()] == [0, 0, 0], [each.err for each in made.values()]
    assert made["harvest"].json["corpus"]["documents"] == 40
    assert made["train"].json["quality"]["l0"]["value"] <= 4
    assert made["index"].json["overview"]["counts"]["features"] == 48
    assert "cost:" in made["train"].err
    for kind in ("corpus", "shards", "dictionary", "index"):
        assert Workspace(workspace).names(kind) == ["notes"]


def test_a_second_run_finds_everything_there(lines: dict[str, list[str]], made: dict[str, Called]) -> None:
    first, second = made, {verb: call(*line) for verb, line in lines.items()}
    for verb in ("harvest", "train", "index"):
        answers = [{key: value for key, value in each[verb].json.items() if key != "costs"} for each in (first, second)]
        assert answers[0] == answers[1]
        assert [cost["reused"] for cost in second[verb].json["costs"] if cost["step"] in (verb, "corpus")] == [True] * (2 if verb == "harvest" else 1)


@pytest.mark.usefixtures("made")
def test_show_answers_about_workspace_artifact_index_and_feature(workspace: Path) -> None:
    there = ("--workspace", str(workspace))
    assert {row["kind"] for row in call("show", *there, "--json").json["artifacts"]} == {"corpus", "shards", "dictionary", "index"}
    assert call("show", str(workspace / "dictionaries" / "notes"), "--json").json["manifest"]["kind"] == "dictionary"
    assert call("show", str(workspace), "--json").json["artifacts"] == call("show", "--workspace", str(workspace), "--json").json["artifacts"]
    assert call("show", "notes", *there, "--json").json["overview"]["name"] == "notes"
    assert call("show", "notes", "7", *there, "--json").json["card"]["feature"] == 7
    assert "feature 7" in call("show", "notes", "7", *there).out
    assert call("show", "notes", "--text", "the cold sea", *there, "--json").json["search"]["text"] == "the cold sea"


@pytest.mark.usefixtures("made")
def test_an_index_is_asked_with_texts_and_a_token(workspace: Path, tmp_path: Path) -> None:
    there = ("--workspace", str(workspace))
    file = tmp_path / "prompts.txt"
    file.write_text("the cold sea\n\nold birds sailed\n")
    tested = call("show", "notes", "7", "--test", "the ship", "--test-file", str(file), *there, "--json").json["tests"]
    assert [one["text"] for one in tested["tests"]] == ["the ship", "the cold sea", "old birds sailed"]
    assert "3 prompts" in call("show", "notes", "7", "--test", "the ship", "--test-file", str(file), *there).out
    found = call("show", "notes", "--text", "the cold sea", "--text", "the sea", "--without", "birds", *there, "--json").json["prompts"]
    assert (found["positive"], found["negative"]) == (["the cold sea", "the sea"], ["birds"])
    assert "on all of 2 prompts" in call("show", "notes", "--text", "the cold sea", "--text", "the sea", *there).out
    assert call("show", "notes", "--token", " the", *there, "--json").json["token"]["occurrences"] > 0
    assert call("show", "notes", "--label", "token", *there, "--json").json["table"]["search"] == "token"
    other = tmp_path / "others.jsonl"
    other.write_text('"birds stones rivers"\n{"text": "a letter about birds"}\n')
    apart = call("show", "notes", "--separate", str(file), str(other), *there, "--json").json["separation"]
    assert (apart["n_positive"], apart["n_negative"]) == (2, 2)
    for line in (("--token", " the"), ("--label", "token"), ("--separate", str(file), str(other))):
        assert call("show", "notes", *line, *there).code == 0
    for wrong in (("--test", "a"), ("--without", "a"), ("--text", "a", "--token", "a"), ("7", "--test-file", str(tmp_path / "none"))):
        assert call("show", "notes", *wrong, *there).code == 2
    other.write_text("3\n")
    assert "holds no text" in call("show", "notes", "7", "--test-file", str(other), *there).err
    file.write_bytes("\ufeffthe cold sea\r\n old \u2028birds\n".encode())
    tested = call("show", "notes", "7", "--test-file", str(file), *there, "--json").json["tests"]
    assert [one["text"] for one in tested["tests"]] == ["the cold sea", " old \u2028birds"]
    file.write_bytes("the cold sea".encode("utf-16"))
    for line in (("7", "--test-file", str(file)), ("--separate", str(file), str(file)), ("7", "--test-file", str(tmp_path))):
        refused = call("show", "notes", *line, *there)
        assert refused.code == 2
        assert "is not UTF-8" in refused.err or "a folder" in refused.err


@pytest.mark.usefixtures("made")
def test_odd_features_a_map_and_what_is_kept(workspace: Path, tmp_path: Path) -> None:
    there = ("--workspace", str(shutil.copytree(workspace, tmp_path / "workspace")))
    odd = call("odd", "notes", "--ablate", "--contexts", "2", *there, "--json").json
    assert odd["odd"]["n_features"] == 48
    assert odd["ablation"]["removed"][0]["name"] == "dense features"
    assert "without the span" in call("odd", "notes", "--ablate", "--contexts", "2", *there).out
    assert "beside itself" in call("odd", "notes", "--against", "notes", *there).err
    made = call("map", "notes", "--min-cluster", "3", *there, "--json").json
    assert Path(made["path"]).name == "notes"
    assert "clusters of" in call("map", "notes", "--min-cluster", "3", *there).out
    assert call("keep", "notes", "3", "5", "--to", "mine", "--verdict", "partly", "--note", "two [b]", *there).code == 0
    dense = call("keep", "notes", "--where", "density > 0.1", "--to", "dense", *there, "--json").json
    assert dense["changed"] == sorted(one["feature"] for one in odd["odd"]["dense"] if one["density"] > 0.1)
    file = tmp_path / "kept.csv"
    out = call("keep", "notes", "--out", str(file), *there).out
    assert "two [b]" in out
    assert file.read_text().splitlines()[0].startswith("feature,site,label")
    assert call("keep", "notes", "--off", "mine", *there, "--json").json["kept"]["lists"][0]["name"] == "dense"
    for wrong in (("3",), ("--to", "x"), ("--out", "kept.txt"), ("99", "--to", "x"), ("--off", "dens"), ("3", "--to", "new", "--off", "dens")):
        assert call("keep", "notes", *wrong, *there).code == 2
    assert 'Did you mean "dense"?' in call("keep", "notes", "3", "--off", "dens", *there).err
    before = call("keep", "notes", *there, "--json").json["kept"]["lists"]
    assert [each["name"] for each in before] == ["dense"]
    moved = str(before[0]["features"][0])
    for refused in ((moved, "--off", "dense", "--to", "x" * 120), ("--off", "dense", "--to", "new"), ("--off", "dense", "--note", "none named")):
        assert call("keep", "notes", *refused, *there).code == 2
        assert call("keep", "notes", *there, "--json").json["kept"]["lists"] == before
    after = call("keep", "notes", moved, "--off", "dense", "--to", "new", *there, "--json").json["kept"]["lists"]
    assert [(each["name"], each["features"]) for each in after] == [("dense", before[0]["features"][1:]), ("new", [int(moved)])]


@pytest.mark.usefixtures("made")
def test_a_feature_is_dreamt_of_once(workspace: Path, tmp_path: Path) -> None:
    there = ("--workspace", str(shutil.copytree(workspace, tmp_path / "workspace")))
    rows = call("show", "notes", "--token", " the", *there, "--json").json["token"]["hits"]
    line = ("dream", "notes", str(rows[0]["feature"]), "--length", "3", "--iterations", "2", "--population", "2", "--children", "2", *there)
    first, again = call(*line, "--json"), call(*line, "--json")
    assert first.json["dream"] == again.json["dream"]
    assert first.json["dream"]["iterations"] == 2
    assert [cost["reused"] for cost in again.json["costs"] if cost["step"] == "dream"] == [True]
    said = " ".join(call(*line).out.split())
    area, corpus = first.json["dream"]["hypervolumes"][-1], first.json["dream"]["corpus_hypervolume"]
    ahead = "the dream is ahead" if area > corpus else "the corpus is ahead" if area < corpus else "neither is ahead"
    assert ahead in said
    assert f"an area of {area:.2f}, that of the corpus {corpus:.2f}" in said


@pytest.mark.usefixtures("made")
def test_what_looks_like_markup_is_printed_as_it_stands(workspace: Path, tmp_path: Path) -> None:
    hostile = "end [/b] :ship: tag"
    assert hostile in call("show", "notes", "--text", hostile, "--workspace", str(workspace)).out
    odd = tmp_path / "b] [" / "b] :ship:"
    shutil.copytree(workspace, odd)
    (odd / "indexes" / "notes").rename(odd / "indexes" / "[bold] :x:")
    there = ("--workspace", str(odd))
    unwrapped = "".join(call("show", *there).out.split())  # the line is broken where the path's length has it
    assert "b][/b]:ship:" in unwrapped
    assert "index [bold] :x:" in call("show", "[bold] :x:", *there).out
    assert "index [bold] :x:" in call("show", str(odd / "indexes" / "[bold] :x:"), *there).out


@pytest.mark.usefixtures("made")
def test_one_damaged_manifest_leaves_the_others_readable(workspace: Path, tmp_path: Path) -> None:
    there = tmp_path / "workspace"
    shutil.copytree(workspace, there)
    for kind in ("corpora", "shards"):
        shutil.copytree(there / kind / "notes", there / kind / "bad")
        (there / kind / "bad" / "manifest.json").write_text('{"kind": "corp')
    shown = call("show", "--workspace", str(there), "--json").json
    assert [row["name"] for row in shown["artifacts"]] == ["notes"] * 4
    assert [(row["kind"], row["name"], row["error"]) for row in shown["damaged"]] == [(k, "bad", "ArtifactDamaged") for k in ("corpus", "shards")]
    assert "damaged" in call("show", "--workspace", str(there)).out
    assert call("show", "notes", "--workspace", str(there), "--json").json["overview"]["name"] == "notes"


@pytest.mark.usefixtures("made")
def test_a_feature_outside_the_dictionary_is_named(workspace: Path) -> None:
    called = call("show", "notes", "48", "--workspace", str(workspace), "--json")
    assert called.code == 2
    assert called.json["error"] == "FeatureNotFound"


@pytest.mark.usefixtures("made")
def test_the_same_name_for_other_work_is_refused_and_nothing_is_lost(lines: dict[str, list[str]], workspace: Path) -> None:
    before = (workspace / "dictionaries" / "notes" / "manifest.json").read_bytes()
    called = call(*(argument if argument != "48" else "64" for argument in lines["train"]))
    assert called.code == 2
    assert called.json["error"] == "ArtifactConflict"
    assert (workspace / "dictionaries" / "notes" / "manifest.json").read_bytes() == before


def test_an_empty_workspace_says_how_to_begin(tmp_path: Path) -> None:
    called = call("show", "--workspace", str(tmp_path))
    assert called.code == 2
    assert "microtome demo" in called.err


def test_an_unknown_site_names_the_nearest(texts: Path, tmp_path: Path) -> None:
    called = call("harvest", "tiny:llama", "--corpus", str(texts), "--site", "L1.resid_pst", "--workspace", str(tmp_path), "--json")
    assert called.json["error"] == "SiteNotFound"
    assert "resid_post" in called.json["do"]


def test_check_lists_the_sites_and_what_was_proved() -> None:
    called = call("check", "tiny:gpt2", "--json")
    assert called.code == 0
    assert "L0.resid_mid" in called.json["sites"]
    assert all(row["ok"] for row in called.json["check"]["rows"])
