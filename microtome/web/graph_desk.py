"""Questions about a graph that run its model: with the dictionaries that it was traced with, one set kept in memory."""

import threading
from collections.abc import Callable
from typing import TypeVar

from microtome.artifacts import Workspace
from microtome.circuits import Graph
from microtome.dictionaries import DictionarySet, load_any
from microtome.models import Model
from microtome.web.model_desk import ModelDesk, ModelState

Answer = TypeVar("Answer")


class GraphDesk:
    """Runs the model of a graph."""

    def __init__(self, workspace: Workspace, desk: ModelDesk) -> None:
        self._workspace, self._desk = workspace, desk
        self._lock = threading.Lock()
        self._kept: tuple[tuple[str, ...], DictionarySet] | None = None

    def state(self, graph: Graph) -> ModelState:
        return self._desk.state(graph.model)

    def use(self, graph: Graph, ask: Callable[[Model, DictionarySet], Answer]) -> Answer:
        """`ask(model, dictionaries)`. Raises `ArtifactMissing` where the graph's dictionaries are not in the workspace, and what `ModelDesk` does."""
        dictionaries = self._dictionaries(graph)
        return self._desk.use(graph.model, lambda model: ask(model, dictionaries))

    def model(self, graph: Graph, ask: Callable[[Model], Answer]) -> Answer:
        """`ask(model)`, for what needs no dictionaries."""
        return self._desk.use(graph.model, ask)

    def _dictionaries(self, graph: Graph) -> DictionarySet:
        with self._lock:
            if self._kept is None or self._kept[0] != graph.dictionaries:
                found = load_any(self._workspace.by_id("dictionary", graph.dictionaries[0] if graph.dictionaries else "none"))
                self._kept = (graph.dictionaries, found if isinstance(found, DictionarySet) else DictionarySet((found,)))
            return self._kept[1]
