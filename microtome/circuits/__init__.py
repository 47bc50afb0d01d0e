"""Circuits: why a model said that, as a graph of features from the tokens of a prompt to a target.

`trace(model, dictionaries, prompt)` gives a `Graph`: a value made of arrays, kept with `graph.save(path)` and read with `Graph.open(path)`. Its edges
are direct effects through a model whose attention patterns and norms are held and whose MLPs are replaced by a set of transcoders; what flows into
every target adds up to the pre-activation that the model measured.
"""

from microtome.circuits.attribute import TraceConfig, trace
from microtome.circuits.graph import BIASES, KINDS, Edges, Graph, Nodes
from microtome.circuits.replacement import Replacement
from microtome.circuits.targets import Along, FeatureTarget, LogitDifference, Logits, Loss, Target

__all__ = [
    "trace",
    "TraceConfig",
    "Logits",
    "LogitDifference",
    "FeatureTarget",
    "Along",
    "Loss",
    "Target",
    "Replacement",
    "Graph",
    "Nodes",
    "Edges",
    "KINDS",
    "BIASES",
]
