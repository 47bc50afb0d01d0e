"""`microtome direction` and `microtome steer` on a tiny model: what one makes the other uses."""

import json
from pathlib import Path

import pytest

from microtome.cli.app import GROUPS, build_app
from microtome.directions import Reader, Span, asked, load_direction, load_measured, save_direction
from microtome.directions.recipes import drift
from microtome.models import Site, tiny
from microtome.steering import Ablate, Add, EditSet, Sampling, compare, load_variant, of_norm, raw
from tests.cli.calls import Called, call

MODEL = "tiny:llama@3"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the directions ocean and music."""
    folder = tmp_path_factory.mktemp("workspace")
    for word in ("ocean", "music"):
        made = call("direction", "concept", MODEL, "--word", word, "--site", "L1.resid_post", "--workspace", str(folder), "--json")
        assert made.code == 0, made.err
    return folder


def steer(workspace: Path, *arguments: str) -> Called:
    return call("steer", MODEL, "hello in the", *arguments, "--max-new-tokens", "5", "--workspace", str(workspace))


def test_a_concept_is_kept_with_its_figures_and_made_again_is_the_same(workspace: Path) -> None:
    kept = load_direction(workspace / "directions" / "ocean")
    assert kept.site == Site("resid_post", 1)
    again = call("direction", "concept", MODEL, "--word", "ocean", "--site", "L1.resid_post", "-w", str(workspace), "--json")
    assert again.code == 0
    (listed,) = again.json["directions"]
    assert listed["fingerprint"] == kept.fingerprint
    assert {result["name"] for result in again.json["results"]} == {"length", "specificity"}
    measured = load_measured(workspace / "directions" / "ocean")
    assert measured is not None
    assert [result.name for result in measured.results] == [result["name"] for result in again.json["results"]]
    assert (list(measured.notes), list(measured.raises)) == (again.json["notes"], listed["raises"])
    shown = call("show", "ocean", "-w", str(workspace), "--json")
    assert shown.json["direction"]["measured"]["results"] == again.json["results"]
    assert [other["name"] for other in shown.json["direction"]["others"]] == ["music"]
    assert "specificity" in call("show", "ocean", "-w", str(workspace)).out
    other = call("direction", "concept", MODEL, "--word", "music", "--name", "ocean", "-w", str(workspace))
    assert other.code == 2
    assert "ArtifactConflict" in other.err
    assert load_direction(workspace / "directions" / "ocean") == kept


def test_what_an_older_release_kept_is_measured_when_it_is_made_again(workspace: Path) -> None:
    path = workspace / "directions" / "ocean"
    kept, measured = load_direction(path), load_measured(path)
    save_direction(kept, path, replace=True)
    assert load_measured(path) is None
    assert "saved without" in call("show", "ocean", "-w", str(workspace)).out
    assert call("direction", "concept", MODEL, "--word", "ocean", "--site", "L1.resid_post", "-w", str(workspace)).code == 0
    assert load_measured(path) == measured


def test_side_by_side_is_what_compare_says(workspace: Path) -> None:
    called = steer(workspace, "--add", "ocean=4", "--json")
    assert called.code == 0, called.err
    model = tiny("llama", seed=3)
    edit = Add(component=load_direction(workspace / "directions" / "ocean"), strength=raw(4))
    both = compare(model, "hello in the", edits=edit, sampling=Sampling(max_new_tokens=5))
    assert called.json["unedited"]["text"] == both.unedited.text
    assert called.json["edited"]["text"] == both.edited.text
    assert called.json["cross_entropy"] == pytest.approx(list(both.surprise))
    assert called.json["fingerprint"] == EditSet.of(edit).fingerprint
    assert EditSet.from_json(called.json["edits"]) == EditSet.of(edit)


def test_a_dose_curve_and_effects_beside_their_controls(workspace: Path, tmp_path: Path) -> None:
    more = tmp_path / "prompts.txt"
    more.write_text("the world is\n\nand that was\n")
    controls = ("--wrong", "music", "--wrong-layer", "1", "--asking", "say it", "--random", "2")
    measured = ("--measure", "logits: the| of", "--dose", "0", "0.5", "2", "--prompts", str(more))
    arguments = ("--add", "ocean=0.3norm", *measured, *controls)
    called = steer(workspace, *arguments, "--json")
    assert called.code == 0, called.err
    assert [point["dose"] for point in called.json["doses"]] == [0, 0.5, 2]
    assert called.json["doses"][0]["effect"]["value"] == 0
    assert set(called.json["effects"]["controls"]) == {"random", "wrong_concept", "wrong_layer", "prompt"}
    assert called.json["effects"]["edited"]["n"] == 3
    shown = steer(workspace, *arguments)
    assert shown.code == 0
    for words in ("unedited", "dose against effect", "wrong_concept", "edited − prompt"):
        assert words in shown.out


def test_edits_of_every_kind_and_from_a_file(workspace: Path, tmp_path: Path) -> None:
    ocean = load_direction(workspace / "directions" / "ocean")
    file = tmp_path / "edits.json"
    file.write_text(json.dumps(EditSet.of(Ablate(component=ocean)).to_json()))
    from_file = steer(workspace, "--edits", str(file), "--json")
    assert from_file.json["edits"] == steer(workspace, "--ablate", "ocean", "--json").json["edits"]
    floor = steer(workspace, "--floor", "ocean=2", "--at", "L0.resid_post", "L2.resid_post", "--where", "generation", "--json")
    (edit,) = floor.json["edits"]["edits"]
    assert (edit["edit"], edit["side"], edit["sites"], edit["where"]["phases"]) == (
        "cap",
        "floor",
        ["L0.resid_post", "L2.resid_post"],
        ["generation"],
    )
    chat = call("steer", MODEL, "hello", "--chat", "--add", "ocean=0.1norm", "--max-new-tokens", "2", "-w", str(workspace), "--json")
    assert EditSet.from_json(chat.json["edits"]) == EditSet.of(Add(component=ocean, strength=of_norm(0.1)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nothing to edit"),
        (("--add", "ocean"), "how much"),
        (("--add", "ocean=lots"), "no strength"),
        (("--add", "ocaen=1"), 'Did you mean "ocean"'),
        (("--add", "nowhere/3=1"), "no dictionary"),
        (("--clamp", "ocean=1"), "no feature"),
        (("--add", "ocean=p25"), "not known"),
        (("--add", "ocean=1", "--where", "{nowhere"), "where-clause"),
        (("--add", "ocean=1", "--where", '{"role": ["user"]}'), 'Did you mean "roles"'),
        (("--add", "ocean=1", "--measure", "loudness"), "no measure"),
        (("--add", "ocean=1", "--at", "L9.resid_post"), "L9.resid_post"),
        (("--add", "ocean=1", "--prompts", "nowhere.txt"), "no file"),
        (("--edits", "nowhere.json"), "No such file"),
    ],
)
def test_what_cannot_be_is_an_error_of_four_parts(workspace: Path, arguments: tuple[str, ...], said: str) -> None:
    called = steer(workspace, *arguments)
    assert called.code == 2
    assert said in called.err
    assert "do:" in called.err


def test_contrasts_and_probes_come_from_files(workspace: Path, tmp_path: Path) -> None:
    high, low = tmp_path / "high.txt", tmp_path / "low.jsonl"
    high.write_text("".join(f"hello in the world {i}!\n" for i in range(8)))
    low.write_text("".join(json.dumps({"text": f"was of the user {i}"}) + "\n" for i in range(8)))
    sides = ("--positive", str(high), "--negative", str(low), "--workspace", str(workspace), "--json")
    contrast = call("direction", "contrast", MODEL, *sides, "--span", "all", "--name", "greeting")
    assert contrast.code == 0, contrast.err
    assert load_direction(workspace / "directions" / "greeting").sign == "towards greeting"
    probe = call("direction", "probe", MODEL, *sides, "--name", "reads-greeting")
    assert probe.code == 0, probe.err
    (auc,) = probe.json["results"]
    assert set(auc["baselines"]) >= {"bag_of_words", "shuffled"}
    low.write_text('{"text": 3}\n')
    broken = call("direction", "contrast", MODEL, *sides)
    assert broken.code == 2
    assert "low.jsonl:1" in broken.err


def test_personas_axes_and_emotions_run_on_what_the_model_says(workspace: Path) -> None:
    there = ("--workspace", str(workspace), "--json", "--site", "L1.resid_post")
    persona = call("direction", "persona", MODEL, "--trait", "wordy", "--questions", "1", "--max-new-tokens", "3", *there)
    axis = call("direction", "axis", MODEL, "--roles", "2", "--questions", "1", "--max-new-tokens", "3", *there)
    emotion = call("direction", "emotion", MODEL, *there)
    for called in (persona, axis, emotion):
        assert called.code == 0, called.err
    assert persona.json["pairs"] + persona.json["dropped"] == 2
    assert [each["role"] for each in sorted(axis.json["roles"], key=lambda each: each["coordinate"])] == [each["role"] for each in axis.json["roles"]]
    assert len(emotion.json["directions"]) == 10
    capped = steer(workspace, "--floor", "assistant-axis=p25", "--json")  # the axis is calibrated
    assert capped.code == 0, capped.err
    assert (workspace / "replies").is_dir()
    assert "no trait" in call("direction", "persona", MODEL, "--trait", "poetik", *there).err
    refusal = call("direction", "refusal", MODEL, "--min-induce", "-99", "--max-kl", "99", *there)
    assert refusal.code == 2 or refusal.json["candidates"]


@pytest.mark.parametrize("name", [name for make in GROUPS for name in make().name])
def test_the_help_of_every_recipe_has_examples_and_explains_every_option(name: str) -> None:
    group = build_app()[name]
    for verb in (verb for verb in group if not verb.startswith("-")):
        called = call(name, verb, "--help")
        assert called.code == 0
        assert f"    microtome {name} {verb}" in called.out
        for argument in group[verb].assemble_argument_collection(parse_docstring=True):
            assert argument.parameter.name == ("*",) or argument.parameter.help, f"{name} {verb} {argument.names} has no words of help"


def test_a_misspelt_recipe_is_told_the_nearest() -> None:
    called = call("direction", "consept", MODEL)
    assert called.code == 2
    assert 'Did you mean "concept"?' in called.err


def test_edits_kept_under_a_name_are_listed_used_again_and_removed(workspace: Path) -> None:
    made = steer(workspace, "--add", "ocean=4", "--save-as", "sailor", "--json")
    assert made.code == 0, made.err
    assert load_variant(workspace / "variants" / "sailor").edits == EditSet.from_json(made.json["edits"])
    again = steer(workspace, "--edits", "sailor", "--json")
    assert again.json["edited"] == made.json["edited"]
    other = steer(workspace, "--ablate", "ocean", "--save-as", "sailor")
    assert (other.code, "ArtifactConflict" in other.err) == (2, True)
    listed = call("variants", "-w", str(workspace), "--json").json["variants"]
    assert [(each["name"], each["model"], each["edits"], each["fingerprint"]) for each in listed] == [
        ("sailor", MODEL, ["add"], made.json["fingerprint"])
    ]
    assert "sailor" in call("variants", "-w", str(workspace)).out
    assert call("variants", "--remove", "sailor", "-w", str(workspace), "--json").json["variants"] == []
    assert not (workspace / "variants" / "sailor").exists()
    gone = call("variants", "--remove", "sailor", "-w", str(workspace))
    assert (gone.code, "ArtifactMissing" in gone.err) == (2, True)


def test_a_file_of_edits_may_use_names(workspace: Path, tmp_path: Path) -> None:
    file = tmp_path / "named.json"
    file.write_text(json.dumps([{"edit": "add", "component": "ocean", "strength": "0.1norm"}]))
    spelled = EditSet.of(Add(component=load_direction(workspace / "directions" / "ocean"), strength=of_norm(0.1)))
    assert steer(workspace, "--edits", str(file), "--json").json["fingerprint"] == spelled.fingerprint


def test_a_vector_is_trained_and_slots_are_found_from_files(workspace: Path, tmp_path: Path) -> None:
    place = ("--site", "L1.resid_post", "--workspace", str(workspace), "--json")
    pairs = tmp_path / "sea.jsonl"
    lines = [{"prompt": f"hello {i} the", "target": " sea", "against": " hill"} for i in range(8)]
    pairs.write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = call("direction", "trained", MODEL, "--preferences", str(pairs), "--steps", "3", *place)
    assert made.code == 0, made.err
    assert {"random", "mean_difference", "shuffled"} == set(made.json["results"][0]["baselines"])
    assert load_direction(workspace / "directions" / "sea").provenance["steps"] == 3
    told = tmp_path / "told.jsonl"
    names = ["Ann", "Bob", "Cy"]
    stories = [{"sentences": [f"{names[i % 3]} is.", f"{names[(i + 1) % 3]} was."], "entities": [names[i % 3], names[(i + 1) % 3]]} for i in range(9)]
    told.write_text("".join(json.dumps(story) + "\n" for story in stories))
    made = call("direction", "slots", MODEL, "--stories", str(told), "--name", "who", *place)
    assert made.code == 0, made.err
    assert sorted(each["name"] for each in made.json["directions"])[0] == "who-current-Ann"
    assert {row["slot"] for row in made.json["right"]} == {"current", "prior"}
    pairs.write_text('{"prompt": "a", "target": "b"}\n')
    assert "no preference" in call("direction", "trained", MODEL, "--preferences", str(pairs), *place).err
    told.write_text('{"sentences": "a", "entities": ["b"]}\n')
    assert "no story" in call("direction", "slots", MODEL, "--stories", str(told), *place).err


def test_a_direction_is_calibrated_on_texts_and_watched_turn_by_turn(workspace: Path, tmp_path: Path) -> None:
    texts, talks = tmp_path / "texts.txt", tmp_path / "talks.jsonl"
    texts.write_text("hello world\nthe user and the\n")
    place = ("--workspace", str(workspace), "--json")
    made = call("direction", "calibrate", MODEL, "ocean", "--passages", str(texts), *place)
    assert made.code == 0, made.err
    kept, plain = (load_direction(workspace / "directions" / name) for name in ("ocean-calibrated", "ocean"))
    model = tiny("llama", seed=3)
    tokens = Reader(model=model, site=plain.site, span=Span(kind="all")).tokens(["hello world", "the user and the"])
    assert kept == plain.calibrated(plain.project(tokens), source="texts.txt")
    assert load_measured(workspace / "directions" / "ocean-calibrated") == load_measured(workspace / "directions" / "ocean")
    assert [result["value"] for result in made.json["results"]][2] == pytest.approx(float(plain.project(tokens).median()), abs=0.1)
    assert steer(workspace, "--floor", "ocean-calibrated=p75", "--json").code == 0
    said = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "the world"}]
    talks.write_text(json.dumps({"messages": said}) + "\n")
    watched = call("direction", "drift", MODEL, "ocean", "--conversations", str(talks), *place)
    assert watched.code == 0, watched.err
    (turn,) = drift(Reader(model=model, site=plain.site), plain, conversation=asked("hello", reply="the world"))
    assert watched.json["turns"] == [{"conversation": 0, "turn": 1, "coordinate": pytest.approx(turn.coordinate)}]
    assert "no conversation" in call("direction", "drift", MODEL, "ocean", "--conversations", str(texts), *place).err
