"""Leaving out features that fire nearly everywhere: they are in every graph and say little about this prompt."""

from dataclasses import replace

import numpy as np

from microtome.circuits.graph import FEATURE, Graph
from microtome.circuits.influence import Floats, Mask
from microtome.circuits.prune import Pruned
from microtome.features import FeatureIndex


def densities_from(index: FeatureIndex, graph: Graph) -> Floats:
    """For each node the share of the index' kept tokens on which its feature fires; NaN for other kinds and features that it does not know."""
    found = np.full(len(graph.nodes), np.nan)
    known: Floats = index.store.rows.numbers["density"]
    sites = {site.layer: site for site in reversed(index.sites)}
    features = graph.nodes.where("feature")
    for layer in np.unique(graph.nodes.layer[features]).tolist():
        if layer in sites:
            here = features[graph.nodes.layer[features] == layer]
            ids = index.feature(sites[layer], 0) + graph.nodes.feature[here].astype(np.int64)
            inside = ids < len(known)
            found[here[inside]] = known[ids[inside]]
    return found


def without(graph: Graph, pruned: Pruned, *, left_out: Mask) -> Pruned:
    """A pruned graph without some more features, and without the edges that end at them.

    Nothing else is pruned anew, so that a node stays where only its partners have gone. Kinds other than features stay.
    """
    nodes = pruned.nodes & ~(left_out & (graph.nodes.kind == FEATURE))
    stays = nodes[graph.edges.source[pruned.edges]] & nodes[graph.rows[pruned.edge_rows]]
    return replace(pruned, nodes=nodes, edges=pruned.edges[stays], edge_rows=pruned.edge_rows[stays], edge_scores=pruned.edge_scores[stays])
