"""Circuits: why a model said that, as a graph of features from the tokens of a prompt to a target.

`trace(model, dictionaries, prompt)` gives a `Graph`: a value made of arrays, kept with `graph.save(path)` and read with `Graph.open(path)`. Its edges
are direct effects through a model whose attention patterns and norms are held and whose MLPs are replaced by a set of transcoders; what flows into
every target adds up to the pre-activation that the model measured.
"""

from microtome.circuits.attribute import TraceConfig, trace
from microtome.circuits.density import densities_from, without
from microtome.circuits.graph import BIASES, KINDS, STREAM_ERROR, Edges, Graph, Nodes
from microtome.circuits.heads import Loadings, head_loadings
from microtome.circuits.influence import Influence, influence
from microtome.circuits.intervene import Intervention, Patched, Patching, SweepPoint, continuations, interventions, patch, sweep_end_layers
from microtome.circuits.labels import Labels, labels_from
from microtome.circuits.looking import Looking, Pair, looking
from microtome.circuits.merge import Column, Merged, SharedEdge, SharedNode, align, contrast, merge
from microtome.circuits.missing import MissingEdges, SwapConfig, SwapTest, missing_edges
from microtome.circuits.names import find_node, node_name
from microtome.circuits.outcome import Outcome, Shift, outcome, predicted_change
from microtome.circuits.paths import FoundPath, paths, target_paths
from microtome.circuits.predict import NodeEffects, Trial, TrialConfig, TrialNode, effects_on, trial
from microtome.circuits.prune import EDGE_THRESHOLD, NODE_THRESHOLD, Pruned, prune
from microtome.circuits.replacement import Replacement
from microtome.circuits.scores import Scores, scores, subgraph_scores
from microtome.circuits.supernodes import GroupEdge, Supernode, group_edges, name_groups, suggest
from microtome.circuits.targets import Along, FeatureTarget, LogitDifference, Logits, Loss, Target, TurnFeature
from microtome.circuits.tried import Tried, keep_tried, tried
from microtome.circuits.turns import TokenColumn, by_columns, turn_columns
from microtome.circuits.view import GraphView, Hidden, NodeView, ScoresView, Thresholds, slug_of, view, view_of

__all__ = [
    "trace",
    "TraceConfig",
    "Logits",
    "LogitDifference",
    "FeatureTarget",
    "Along",
    "Loss",
    "TurnFeature",
    "Target",
    "Replacement",
    "head_loadings",
    "Loadings",
    "looking",
    "Looking",
    "Pair",
    "Graph",
    "Nodes",
    "Edges",
    "KINDS",
    "BIASES",
    "STREAM_ERROR",
    "view",
    "view_of",
    "slug_of",
    "GraphView",
    "NodeView",
    "ScoresView",
    "Hidden",
    "Thresholds",
    "Labels",
    "labels_from",
    "node_name",
    "find_node",
    "influence",
    "Influence",
    "prune",
    "NODE_THRESHOLD",
    "EDGE_THRESHOLD",
    "Pruned",
    "densities_from",
    "without",
    "scores",
    "subgraph_scores",
    "Scores",
    "paths",
    "target_paths",
    "FoundPath",
    "Supernode",
    "GroupEdge",
    "group_edges",
    "name_groups",
    "suggest",
    "align",
    "contrast",
    "merge",
    "Merged",
    "Column",
    "SharedNode",
    "SharedEdge",
    "Intervention",
    "interventions",
    "Patching",
    "Patched",
    "patch",
    "SweepPoint",
    "sweep_end_layers",
    "continuations",
    "NodeEffects",
    "effects_on",
    "TrialConfig",
    "TrialNode",
    "Trial",
    "trial",
    "predicted_change",
    "outcome",
    "Outcome",
    "Shift",
    "Tried",
    "tried",
    "keep_tried",
    "TokenColumn",
    "turn_columns",
    "by_columns",
    "SwapConfig",
    "SwapTest",
    "MissingEdges",
    "missing_edges",
]
