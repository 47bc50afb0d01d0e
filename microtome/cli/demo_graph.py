"""The demo's last stage: a graph of one prompt through the autoencoder that was just trained, and what the model says to its predictions."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from microtome.cli.session import Session

if TYPE_CHECKING:
    from microtome.models import Model

PROMPT = "The capital of France is the city of"
ROWS = 300
"""Features whose own inputs are traced."""
STRONG = RANDOM = 20
"""Nodes that are changed in the model."""


def graph_of_a_prompt(session: Session, model: "Model", *, dictionary: str, name: str) -> None:
    """Trace, keep, try in the model, and keep that; what is there already and of this dictionary is left as it is."""
    from microtome.artifacts import read_manifest
    from microtome.circuits import Graph, TraceConfig, TrialConfig, keep_tried, trace, trial, tried
    from microtome.dictionaries import DictionarySet, load_dictionary

    workspace, progress = session.workspace, session.progress
    weights = workspace.place("dictionary", dictionary)
    graph: Graph | None = None
    if name in workspace.names("graph"):
        kept = Graph.open(workspace.place("graph", name))
        graph = kept if kept.dictionaries == (read_manifest(weights).id,) and kept.prompt == PROMPT else None
    if graph is None:
        graph = trace(model, weights, PROMPT, config=TraceConfig(max_rows=ROWS), progress=progress)
        graph.save(workspace.place("graph", name), replace=True)
    if tried(workspace, name).trial is None:
        through = DictionarySet((load_dictionary(weights),))
        config = TrialConfig(strong=STRONG, random=RANDOM)
        keep_tried(workspace, name, trial=trial(model, through, graph=graph, config=config, progress=progress))


def predicted_against_measured(session: Session, *, name: str) -> dict[str, Mapping[str, Any]]:
    """The rank correlations of the graph's trial, of strong and of random nodes, where they exist."""
    from microtome.circuits import tried

    trial = tried(session.workspace, name).trial
    found = {each["name"]: each for each in (trial or {"results": ()})["results"]}
    return {group: found[f"ablated, {group}"] for group in ("strong", "random") if f"ablated, {group}" in found}
