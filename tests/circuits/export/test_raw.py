"""circuit-tracer's pickled graphs: equal edges, and nothing in them is ever run."""

import pickle
import subprocess
import sys
import types
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from microtome.circuits import Graph
from microtome.circuits.export import read_raw
from microtome.circuits.graph import FEATURE
from microtome.circuits.names import target_words
from microtome.circuits.scores import scores
from microtome.circuits.view import view
from microtome.errors import GraphInvalid, PickleRefused
from tests.circuits.made import dense, random_graph


class LogitTarget(NamedTuple):
    token_str: str
    vocab_idx: int


class Config:
    def __init__(self, n_layers: int) -> None:
        self.n_layers, self.model_name, self.dtype = n_layers, "gemma-2-2b", torch.bfloat16


@pytest.fixture
def peer() -> Generator[None]:
    """Modules by the peer's names while a file is written; gone when it is read."""
    for name, kind in (("circuit_tracer.graph", LogitTarget), ("transformer_lens.config", Config)):
        module = types.ModuleType(name)
        kind.__module__, kind.__qualname__ = name, kind.__name__
        setattr(module, kind.__name__, kind)
        sys.modules[name.split(".")[0]] = types.ModuleType(name.split(".")[0])
        sys.modules[name] = module
    yield
    _forget()


def _forget() -> None:
    for name in ("circuit_tracer", "circuit_tracer.graph", "transformer_lens", "transformer_lens.config"):
        sys.modules.pop(name, None)


def as_peer(graph: Graph, *, shuffled: bool = False) -> dict[str, Any]:
    """The dict that circuit-tracer pickles; with `shuffled` its features come in another order and beside ones that were not selected."""
    features = graph.nodes.where("feature")
    order = np.random.default_rng(0).permutation(len(features)) if shuffled else np.arange(len(features))
    extra = [[0, 0, 999]] if shuffled else []
    chosen = np.stack([graph.nodes.layer[features], graph.nodes.position[features], graph.nodes.feature[features]], 1).astype(np.int64)[order]
    places = np.concatenate([features[order], np.arange(len(features), len(graph.nodes))])
    targets = graph.nodes.where("target")
    return {
        "input_string": graph.prompt,
        "input_tokens": torch.tensor(graph.nodes.feature[graph.nodes.where("embedding")].tolist()),
        "active_features": torch.tensor([*extra, *chosen.tolist()]),
        "activation_values": torch.tensor([0.0] * len(extra) + graph.nodes.activation[features][order].tolist()),
        "selected_features": torch.arange(len(extra), len(extra) + len(features)),
        "adjacency_matrix": torch.tensor(dense(graph)[np.ix_(places, places)], dtype=torch.float32),
        "logit_targets": [LogitTarget(target_words(graph, i), int(graph.nodes.feature[node])) for i, node in enumerate(targets)],
        "logit_probabilities": torch.tensor(graph.target_weight.tolist()),
        "vocab_size": 1000,
        "cfg": Config(graph.n_layers),
        "scan": "a/b",
    }


@pytest.mark.parametrize("shuffled", [False, True])
def test_its_edges_scores_and_targets_are_those_that_were_saved(peer: None, tmp_path: Path, shuffled: bool) -> None:
    graph, file = random_graph(1), tmp_path / "graph.pt"
    torch.save(as_peer(graph, shuffled=shuffled), file)
    _forget()
    found = read_raw(file)
    assert dense(found) == pytest.approx(dense(graph))
    assert scores(found) == scores(graph)
    assert found.target_labels == graph.target_labels
    assert found.nodes.feature.tolist()[-2:] == [40, 41]
    assert (found.model, found.n_layers, found.prompt) == ("gemma-2-2b", 4, graph.prompt)
    assert found.nodes.activation[found.nodes.kind == FEATURE].tolist() == graph.nodes.activation[graph.nodes.kind == FEATURE].tolist()
    assert view(found).scores.balance is None
    assert "circuit_tracer" not in sys.modules


def test_older_files_hold_the_ids_of_targets_as_a_tensor(peer: None, tmp_path: Path) -> None:
    value, file = as_peer(random_graph(1)), tmp_path / "graph.pt"
    del value["logit_targets"]
    torch.save({**value, "logit_tokens": torch.tensor([40, 41])}, file)
    _forget()
    assert read_raw(file).target_labels == ('logit."<40>"@2', 'logit."<41>"@2')


class Hostile:
    """Runs a command when it is unpickled as pickle does it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return subprocess.call, (["touch", str(self.trace)],)


@pytest.mark.parametrize("where", ["cfg", "scan", "adjacency_matrix"])
def test_a_hostile_file_is_refused_by_name_and_not_run(peer: None, tmp_path: Path, where: str) -> None:
    file, trace = tmp_path / "graph.pt", tmp_path / "it-ran"
    torch.save({**as_peer(random_graph(1)), where: Hostile(trace)}, file)
    with pytest.raises(PickleRefused, match="run its code") as caught:
        read_raw(file)
    assert str(caught.value.got).endswith(".call")
    assert not trace.exists()
    with file.open("rb") as handle:
        torch.load(handle, weights_only=False)
    assert trace.exists(), "the file must be one that harms who opens it otherwise"


def test_a_bare_hostile_pickle_is_refused(tmp_path: Path) -> None:
    file, trace = tmp_path / "graph.pt", tmp_path / "it-ran"
    file.write_bytes(pickle.dumps(Hostile(trace)))
    with pytest.raises(PickleRefused):
        read_raw(file)
    assert not trace.exists()


def test_what_is_no_graph_or_damaged_is_named(peer: None, tmp_path: Path) -> None:
    file, value = tmp_path / "graph.pt", as_peer(random_graph(1))
    torch.save({"a": torch.ones(3)}, file)
    with pytest.raises(GraphInvalid, match="lacks input_tokens"):
        read_raw(file)
    torch.save({**value, "adjacency_matrix": torch.ones(3, 3)}, file)
    with pytest.raises(GraphInvalid, match="do not fit each other"):
        read_raw(file)
    torch.save({**value, "cfg": "nothing"}, file)
    with pytest.raises(GraphInvalid, match="do not fit each other"):
        read_raw(file)
    torch.save(value, file)
    file.write_bytes(file.read_bytes()[:-300])
    with pytest.raises((GraphInvalid, PickleRefused)):
        read_raw(file)
    with pytest.raises(GraphInvalid, match="there is no file"):
        read_raw(tmp_path / "gone.pt")
