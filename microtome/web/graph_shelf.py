"""The graphs of a workspace, opened when asked for, and the feature index that knows the features of each."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

from microtome.artifacts import read_manifest
from microtome.circuits import Graph
from microtome.errors import MicrotomeError
from microtome.features import FeatureIndex
from microtome.web.shelf import Shelf, ShelfEntry

KEPT = 8
"""Graphs that stay in memory."""


@dataclass(frozen=True, kw_only=True)
class Cards:
    """Where the cards of one layer's features are."""

    index: str
    """Name of the feature index."""
    first: int
    """The id in it of the dictionary's feature 0."""


class GraphShelf:
    """Opens a graph when it is asked for and keeps the last few; one that was traced again is opened anew."""

    def __init__(self, shelf: Shelf) -> None:
        self.workspace = shelf.workspace
        self._shelf = shelf
        self._lock = threading.Lock()
        self._open: OrderedDict[str, tuple[int, Graph]] = OrderedDict()

    def graph(self, name: str) -> Graph:
        """The graph called `name`; `ArtifactMissing` names the nearest one, `ArtifactDamaged` the file."""
        folder = self.workspace.find("graph", name)
        stamp = (folder / "manifest.json").stat().st_mtime_ns
        with self._lock:
            known = self._open.pop(name, None)
            if known is None or known[0] != stamp:
                known = (stamp, Graph.open(folder))
            self._open[name] = known
            while len(self._open) > KEPT:
                self._open.popitem(last=False)
            return known[1]

    def list(self) -> tuple[ShelfEntry, ...]:
        """Every graph with what its manifest says; one that cannot be read is listed with its error."""
        return self._shelf.entries("graph")

    def index_of(self, graph: Graph) -> FeatureIndex | None:
        """The first feature index, by name, of one of the graph's dictionaries; None where there is none that can be read."""
        for name in self.workspace.names("index"):
            try:
                made_of = read_manifest(self.workspace.place("index", name)).inputs.get("dictionary")
                if made_of in graph.dictionaries:
                    return self._shelf.index(name)
            except MicrotomeError:  # the first page shows what is wrong with it; the graph is whole without
                continue
        return None


def cards_of(index: FeatureIndex | None) -> dict[str, Cards]:
    """By layer, where its features' cards are. Graphs name features by layer, so only the first site of a layer counts."""
    found: dict[str, Cards] = {}
    for site in index.sites if index is not None else ():
        if index is not None and site.layer is not None:
            found.setdefault(str(site.layer), Cards(index=index.name, first=index.feature(site, 0)))
    return found
