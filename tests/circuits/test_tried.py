"""What was tried on a graph stays beside it, as long as it is the same graph."""

from dataclasses import replace
from pathlib import Path

import pytest
from circuits.sets import transcoders

from microtome.artifacts import Workspace
from microtome.circuits import SwapConfig, TraceConfig, TrialConfig, Tried, keep_tried, missing_edges, trace, trial, tried
from microtome.errors import ArtifactDamaged, ArtifactMissing
from microtome.models import tiny


def test_what_was_tried_is_kept_until_the_graph_is_another(tmp_path: Path):
    model = tiny("llama")
    dictionaries = transcoders(model)
    graph = trace(model, dictionaries, "the world and the user", config=TraceConfig(max_rows=50))
    workspace = Workspace(tmp_path)
    with pytest.raises(ArtifactMissing):
        tried(workspace, "g")
    graph.save(workspace.place("graph", "g"))
    assert tried(workspace, "g") == Tried()
    made = trial(model, dictionaries, graph=graph, config=TrialConfig(strong=3, random=3))
    keep_tried(workspace, "g", trial=made)
    assert tried(workspace, "g") == Tried(trial=made.to_json())
    swapped = missing_edges(model, graph, config=SwapConfig(swaps=1))
    keep_tried(workspace, "g", missing=swapped)
    assert tried(workspace, "g") == Tried(trial=made.to_json(), missing=swapped.to_json())
    graph.save(workspace.place("graph", "g"), replace=True)
    assert tried(workspace, "g").trial is not None, "the same work is the same graph"
    replace(graph, prompt="another").save(workspace.place("graph", "g"), replace=True)
    assert tried(workspace, "g") == Tried()
    keep_tried(workspace, "g", missing=swapped)
    assert tried(workspace, "g") == Tried(missing=swapped.to_json())
    file = workspace.place("trial", "g") / "missing.json"
    file.write_text("{" * (file.stat().st_size - 1) + "\n")
    with pytest.raises(ArtifactDamaged):
        tried(workspace, "g")
