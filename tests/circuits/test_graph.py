"""Graphs on disk: what is read is what was written, and a changed file is named, never read half."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from microtome.artifacts import Draft
from microtome.circuits import Edges, Graph, Nodes
from microtome.circuits.storage import ARRAYS, FILE
from microtome.errors import ArtifactDamaged, ArtifactForeign, GraphInvalid, NodeNotFound


def small() -> Graph:
    """Two features, two embeddings, a target: everything adds up but by 0.5 in the last row."""
    nodes = Nodes(
        kind=np.array([3, 3, 0, 0, 4], dtype=np.int8),
        layer=np.array([0, 1, -1, -1, 2], dtype=np.int16),
        position=np.array([0, 1, 0, 1, 1], dtype=np.int32),
        feature=np.array([7, 9, 5, 6, 8], dtype=np.int32),
        activation=np.array([1, 2, 1, 1, 0.5], dtype=np.float32),
    )
    edges = Edges(
        indptr=np.array([0, 2, 5], dtype=np.int64),
        source=np.array([0, 2, 0, 1, 3], dtype=np.int32),
        weight=np.array([1, 2, 4, -1, 1], dtype=np.float32),
    )
    return Graph(
        prompt="a b",
        tokens=(5, 6),
        pieces=("a", " b"),
        model="tiny",
        model_fingerprint="f" * 16,
        quantised=None,
        n_layers=2,
        dictionaries=("d" * 16,),
        nodes=nodes,
        rows=np.array([1, 4], dtype=np.int32),
        edges=edges,
        dropped=np.array([0, 0.5], dtype=np.float32),
        dropped_abs=np.array([0, 0.5], dtype=np.float32),
        pre=np.array([3, 5], dtype=np.float32),
        target_weight=np.array([0.5], dtype=np.float32),
        target_labels=('logit." c"@1',),
        config={"max_rows": 1},
    )


def test_rows_their_sums_and_their_balance() -> None:
    graph = small()
    assert graph.sums().tolist() == [3, 4]
    assert graph.balances().tolist() == [0, 0.1]
    assert graph.balance() == 0.1
    assert graph.row_of(1) == 0
    assert graph.row_of(0) is None
    assert graph.node("feature", layer=1) == 1
    with pytest.raises(NodeNotFound, match="2 nodes"):
        graph.node("embedding")


def test_a_graph_is_read_as_it_was_written(tmp_path: Path) -> None:
    graph = small()
    artifact = graph.save(tmp_path / "g")
    read = Graph.open(tmp_path / "g")
    assert artifact.manifest.summary["edges"] == 5
    for name in ("rows", "dropped", "dropped_abs", "pre", "target_weight"):
        assert np.array_equal(getattr(read, name), getattr(graph, name))
        assert getattr(read, name).dtype == getattr(graph, name).dtype
    assert all(np.array_equal(getattr(read.nodes, name), getattr(graph.nodes, name)) for name in vars(graph.nodes))
    assert all(np.array_equal(getattr(read.edges, name), getattr(graph.edges, name)) for name in vars(graph.edges))
    assert (read.prompt, read.tokens, read.pieces, read.config) == (graph.prompt, graph.tokens, graph.pieces, graph.config)


def changed(arrays: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    return {**arrays, name: value}


HOSTILE: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "a source beyond the nodes": lambda arrays: changed(arrays, "edges.source", np.array([0, 2, 0, 1, 99], dtype=np.int32)),
    "a negative source": lambda arrays: changed(arrays, "edges.source", np.array([0, 2, 0, 1, -1], dtype=np.int32)),
    "rows that run back": lambda arrays: changed(arrays, "edges.indptr", np.array([0, 9, 5], dtype=np.int64)),
    "a kind that is not": lambda arrays: changed(arrays, "nodes.kind", np.array([3, 3, 0, 0, 9], dtype=np.int8)),
    "not finite": lambda arrays: changed(arrays, "edges.weight", np.array([1, 2, np.nan, 0, 0], dtype=np.float32)),
    "another type": lambda arrays: changed(arrays, "edges.weight", np.zeros(5, dtype=np.float64)),
    "a column too short": lambda arrays: changed(arrays, "nodes.layer", np.zeros(2, dtype=np.int16)),
    "a column missing": lambda arrays: {name: array for name, array in arrays.items() if name != "pre"},
    "one too many": lambda arrays: changed(arrays, "surprise", np.zeros(1, dtype=np.float32)),
    "a row twice": lambda arrays: changed(arrays, "rows", np.array([4, 4], dtype=np.int32)),
}


def stored(path: Path, arrays: dict[str, Any], facts: str) -> None:
    """An artifact with whole hashes and a strange content."""
    with Draft.open(path, "graph", config={}, inputs={}) as draft:
        save_file(arrays, draft.path / ARRAYS)
        draft.write(FILE, facts)
        draft.finish()


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_named(tmp_path: Path, case: str) -> None:
    small().save(tmp_path / "g")
    arrays, facts = load_file(tmp_path / "g" / ARRAYS), (tmp_path / "g" / FILE).read_text()
    stored(tmp_path / "bad", HOSTILE[case](arrays), facts)
    with pytest.raises(GraphInvalid):
        Graph.open(tmp_path / "bad")


@pytest.mark.parametrize("facts", ["{", "[]", "{}", '{"prompt": 1}', "null"])
def test_a_hostile_description_is_named(tmp_path: Path, facts: str) -> None:
    small().save(tmp_path / "g")
    stored(tmp_path / "bad", load_file(tmp_path / "g" / ARRAYS), facts)
    with pytest.raises(GraphInvalid):
        Graph.open(tmp_path / "bad")


def test_a_changed_byte_and_another_kind_are_named(tmp_path: Path) -> None:
    small().save(tmp_path / "g")
    file = tmp_path / "g" / FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), "prompt": "x y"}, sort_keys=True))
    with pytest.raises(ArtifactDamaged):
        Graph.open(tmp_path / "g")
    with Draft.open(tmp_path / "c", "corpus", config={}, inputs={}) as draft:
        draft.finish()
    with pytest.raises(ArtifactForeign):
        Graph.open(tmp_path / "c")


def test_arrays_that_do_not_fit_are_refused_in_memory_too() -> None:
    with pytest.raises(GraphInvalid, match="targets"):
        replace(small(), target_labels=())
