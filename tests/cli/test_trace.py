"""`microtome trace` on a tiny model: what it prints is what `trace` and `view` say, and what it writes opens again."""

import json
from pathlib import Path

import pytest
import torch

from microtome.artifacts import Draft, Workspace
from microtome.circuits import (
    Graph,
    LogitDifference,
    Logits,
    TraceConfig,
    by_columns,
    missing_edges,
    trace,
    trial,
    turn_columns,
    view,
)
from microtome.circuits.export import read_graph_file, view_from
from microtome.conversation import from_messages
from microtome.dictionaries import SAE, DictionarySet, ReLU, Transcoder, load_any, save
from microtome.models import Model, Site, render, tiny
from tests.cli.calls import Called, call

MODEL, PROMPT = "tiny:llama@3", "hello in the"


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny("llama", seed=3)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, model: Model) -> Path:
    """With transcoders of the model's layers."""
    folder, lot, d = tmp_path_factory.mktemp("workspace"), torch.Generator().manual_seed(0), model.d_model
    members: list[Transcoder] = []
    for layer in range(model.n_layers):
        shapes = {"W_enc": (20, d), "W_dec": (20, d), "b_enc": (20,), "b_dec": (d,)}
        weights = {name: torch.randn(shape, generator=lot) / 4 for name, shape in shapes.items()}
        members.append(Transcoder(reads=Site("mlp_in", layer), writes=(Site("mlp_out", layer),), nonlinearity=ReLU(), weights=weights))
    with Draft.open(Workspace(folder).place("dictionary", "plt"), "dictionary", config={}, inputs={"model": model.fingerprint}) as draft:
        save(DictionarySet(tuple(members)), draft)
        draft.finish()
    return folder


def traced(workspace: Path, *arguments: str) -> Called:
    return call("trace", PROMPT, "--model", MODEL, "--dict", "plt", "--workspace", str(workspace), *arguments)


def test_it_is_what_trace_and_view_say_and_the_artifact_opens_again(workspace: Path, model: Model) -> None:
    called = traced(workspace, "--json", "--name", "first")
    assert called.code == 0, called.err
    graph = trace(model, workspace / "dictionaries" / "plt", PROMPT, target=Logits(), config=TraceConfig())
    shown = view(graph, slug="first")
    assert called.json["graph"] == json.loads(json.dumps(shown.to_json()))
    assert called.json["graph"]["scores"]["balance"] < 1e-3
    assert view(Graph.open(called.json["path"]), slug="first") == shown
    strengths = [path["strength"] for path in called.json["paths"]]
    assert strengths == sorted(strengths, reverse=True)
    assert len(strengths) == 5
    assert {step["id"] for path in called.json["paths"] for step in (path["nodes"][0],)} <= {"E@0", "E@1", "E@2", "E@3", "E@4", "E@5"}
    again = call("show", "first", "--workspace", str(workspace), "--json")
    assert again.code == 0, again.err
    assert again.json["graph"] == called.json["graph"]
    assert again.json["paths"] == called.json["paths"]


def test_a_person_reads_scores_paths_and_features(workspace: Path) -> None:
    called = traced(workspace, "--target", " the", "--against", " of", "--paths", "2")
    assert called.code == 0, called.err
    for words in (
        "replacement",
        "error share",
        "adds up to its pre-activation",
        "strongest paths",
        "top features",
        "next: microtome show",
        "hidden:",
    ):
        assert words in called.out
    assert "cost:" in called.err


def test_targets_of_every_kind(workspace: Path, model: Model) -> None:
    told = traced(workspace, "--target", " the", "--target", " of", "--json").json["graph"]["nodes"]
    assert sum(node["kind"] == "target" for node in told) == 2
    difference = traced(workspace, "--target", " the", "--against", " of", "--json")
    graph = trace(model, workspace / "dictionaries" / "plt", PROMPT, target=LogitDifference(token=" the", against=" of"))
    assert difference.json["graph"]["nodes"] == json.loads(json.dumps(view(graph).to_json()))["nodes"]
    last = len(graph.tokens) - 1
    nodes = graph.nodes
    active = next(int(i) for i in nodes.where("feature") if nodes.layer[i] == 1 and nodes.position[i] == last)
    of_feature = traced(workspace, "--target", f"L1.f{nodes.feature[active]}", "--json")
    assert of_feature.code == 0, of_feature.err
    (target,) = [node for node in of_feature.json["graph"]["nodes"] if node["kind"] == "target"]
    assert target["feature"] == -1


def test_a_contrast_and_a_file_for_other_tools(workspace: Path, tmp_path: Path) -> None:
    called = traced(workspace, "--contrast", "hello on the", "--out", str(tmp_path / "data"), "--name", "second", "--json")
    assert called.code == 0, called.err
    assert called.json["contrast"]["prompts"] == [PROMPT, "hello on the"]
    shared = {edge["target"] for edge in called.json["contrast"]["edges"]}
    assert shared <= set(range(len(called.json["contrast"]["nodes"])))
    written = view_from(read_graph_file(called.json["written"]))
    ours = [node["id"] for node in called.json["graph"]["nodes"] if node["kind"] != "bias"]
    assert [node.id for node in written.nodes] == ours
    assert (tmp_path / "data" / "graph-metadata.json").is_file()
    shown = traced(workspace, "--contrast", "hello on the")
    assert "less those of" in shown.out


def test_a_graph_is_tested_in_the_model_and_shown_with_it(workspace: Path, model: Model) -> None:
    base = ("--model", MODEL, "--dict", "plt", "--workspace", str(workspace))
    called = call("trace", f"{PROMPT} of the and on", *base, "--test", "--swap", "--name", "tested", "--json")
    assert called.code == 0, called.err
    graph = Graph.open(called.json["path"])
    dictionaries = load_any(workspace / "dictionaries" / "plt")
    assert isinstance(dictionaries, DictionarySet)
    tried = json.loads(json.dumps({"trial": trial(model, dictionaries, graph=graph).to_json(), "missing": missing_edges(model, graph).to_json()}))
    assert called.json["tried"] == tried
    assert called.json["graph"]["tested"] == tried["trial"]
    again = call("show", "tested", "--workspace", str(workspace), "--json")
    assert (again.json["graph"], again.json["tried"]) == (called.json["graph"], tried)
    read = call("show", "tested", "--workspace", str(workspace)).out
    for words in ("predicted against measured", "ablated, strong", "tokens swapped for others"):
        assert words in read


def test_a_conversation_is_shown_by_turns_and_kept_by_tokens(workspace: Path, model: Model, tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "hello in the"}, {"role": "assistant", "content": "of the"}, {"role": "user", "content": "and on"}]
    (file := tmp_path / "talk.json").write_text(json.dumps(talk))
    draw = torch.Generator().manual_seed(1)
    shapes = {"W_enc": (8, model.d_model), "W_dec": (8, model.d_model), "b_enc": (8,), "b_dec": (model.d_model,)}
    weights = {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    sae = SAE(site=Site("resid_post", 1), nonlinearity=ReLU(), weights=weights, input_scale=1.0, pooling="turn")
    with Draft.open(Workspace(workspace).place("dictionary", "turns"), "dictionary", config={}, inputs={}) as draft:
        save(sae, draft)
        draft.finish()
    base = ("--model", MODEL, "--dict", "plt", "--workspace", str(workspace), "--json")
    called = call("trace", str(file), "--turns", "--turn-dict", "turns", "--target", "T2.f3", "--name", "talk", *base)
    assert called.code == 0, called.err
    assert [each for each in called.json["graph"]["tokens"] if "⟨" not in each] == ["1 user", "2 assistant", "3 user"]
    whole, turns = (Graph.open(workspace / "graphs" / name) for name in ("talk-tokens", "talk"))
    rendered = render(model, from_messages(talk), add_generation_prompt=True)
    assert whole.tokens == rendered.tokens
    wanted = by_columns(whole, turn_columns(rendered.turns, len(rendered.tokens)))
    assert json.loads(json.dumps(view(wanted, slug="talk").to_json())) == called.json["graph"]
    assert max(turns.balance(), whole.balance()) < 1e-4
    assert turns.target_labels == ("L1.resid_post.f3@5",)
    through = call("trace", str(file), "--turns", "--name", "through", *base[:3], "turns", *base[4:])
    assert through.code == 0, through.err
    assert (
        json.loads(json.dumps(view(trace(model, sae, rendered.tokens, turns=rendered.turns), slug="through").to_json()["nodes"]))
        == through.json["graph"]["nodes"]
    )
    assert "through-tokens" not in Workspace(workspace).names("graph")
    assert "CommandInvalid" in call("trace", str(file), "--turns", "--turn-dict", "turns", "--target", "T9.f3", *base).err
    assert "CorpusNotFound" in call("trace", "nowhere.json", "--turns", *base).err


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--target", "no single token at all"), "TargetInvalid"),
        (("--against", " of"), "CommandInvalid"),
        (("--target", " the", "--position", "99"), "TargetInvalid"),
        (("--node-threshold", "1.5"), "CommandInvalid"),
        (("--index", "none"), "ArtifactMissing"),
        (("--turn-dict", "plt"), "CommandInvalid"),
    ],
)
def test_what_cannot_be_traced_is_an_error(workspace: Path, arguments: tuple[str, ...], error: str) -> None:
    called = traced(workspace, *arguments)
    assert called.code == 2
    assert error in called.err
