"""What the features of a graph are called."""

from collections.abc import Mapping
from typing import TypeAlias

from microtome.circuits.graph import Graph
from microtome.errors import ShapeMismatch
from microtome.features import FeatureIndex

Labels: TypeAlias = Mapping[tuple[int, int], str]
"""The label of a feature, by layer and number."""


def labels_from(index: FeatureIndex, graph: Graph) -> dict[tuple[int, int], str]:
    """The labels of a graph's features in an index of the same dictionaries: a person's where there is one, else the rule's.

    Raises `ShapeMismatch` where the index has no dictionary for a layer, or fewer features than the graph speaks of.
    """
    by_layer = {site.layer: site for site in index.sites}
    texts = index.labels()
    nodes = graph.nodes
    wanted = {(int(nodes.layer[i]), int(nodes.feature[i])) for i in nodes.where("feature")}
    missing = sorted({layer for layer, _ in wanted if layer not in by_layer})
    if missing:
        got = ", ".join(map(str, index.sites))
        do = "Give the index that was made of the graph's dictionaries (`microtome index DICT`)."
        raise ShapeMismatch(f"index {index.name} has no dictionary of layer {missing[0]}.", got=got, wanted=f"layer {missing[0]}", do=do)
    return {(layer, feature): texts[index.feature(by_layer[layer], feature)] for layer, feature in sorted(wanted)}
