"""The JSON twins of the graph page: one route a question, each a call of `microtome.circuits`."""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.responses import Response

from microtome.circuits import (
    EDGE_THRESHOLD,
    NODE_THRESHOLD,
    Graph,
    Labels,
    Pruned,
    Supernode,
    Thresholds,
    contrast,
    densities_from,
    find_node,
    group_edges,
    labels_from,
    node_name,
    paths,
    prune,
    subgraph_scores,
    suggest,
    tried,
    view_of,
    without,
)
from microtome.errors import ArtifactDamaged, QueryInvalid, ShapeMismatch
from microtome.features import FeatureIndex
from microtome.web.graph_recipes import contrast_lines, graph_lines, paths_lines, subgraph_lines, suggest_lines
from microtome.web.graph_shelf import GraphShelf, cards_of
from microtome.web.recipes import curl_of, shelf_recipe
from microtome.web.replies import reply, with_recipe

MAX_PINS = 400
"""Supernodes of a subgraph, and nodes in one."""
MAX_NAME_CHARS = 500

GraphName = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[^./\\][^/\\]*$")]
Share = Annotated[float, Query(gt=0, le=1)]
NodeName = Annotated[str, Query(min_length=1, max_length=MAX_NAME_CHARS)]
Groups = Annotated[str, Query(max_length=60_000)]


class GroupBody(BaseModel):
    """A supernode: its name, and the names of its nodes."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=MAX_NAME_CHARS)
    members: list[Annotated[str, Field(max_length=MAX_NAME_CHARS)]] = Field(min_length=1, max_length=MAX_PINS)


_GROUPS: TypeAdapter[list[GroupBody]] = TypeAdapter(Annotated[list[GroupBody], Field(min_length=1, max_length=MAX_PINS)])


def graph_routes(shelf: GraphShelf) -> APIRouter:
    """All routes under `/api/graphs`."""
    router = APIRouter(prefix="/api/graphs")
    where = shelf.workspace.path

    @router.get("")
    def graphs(request: Request) -> Response:
        return reply(request, {"graphs": shelf.list(), "reproduce": shelf_recipe(where, "graph")})

    @router.get("/{name}")
    def graph(request: Request, *, name: GraphName, node: Share = NODE_THRESHOLD, edge: Share = EDGE_THRESHOLD, density: Share = 1.0) -> Response:
        found = shelf.graph(name)
        index = shelf.index_of(found)
        labels = _labels(found, index)
        known = index if labels is not None else None
        shown = _shown(found, known, node=node, edge=edge, density=density)
        record = view_of(found, shown, thresholds=Thresholds(node=node, edge=edge), labels=labels, slug=name, tested=_trial(shelf, name))
        lines = graph_lines(where, name, known, node=node, edge=edge, density=density, shell=curl_of(request))
        return reply(request, {**with_recipe(record, lines), "name": name, "cards": cards_of(index), "has_densities": known is not None})

    @router.get("/{name}/suggest")
    def suggested(request: Request, *, name: GraphName, node: Share = NODE_THRESHOLD, edge: Share = EDGE_THRESHOLD) -> Response:
        """Groups of shown features that look alike, by their names."""
        found = shelf.graph(name)
        groups = suggest(found, np.flatnonzero(prune(found, node_threshold=node, edge_threshold=edge).nodes).tolist())
        names = [[node_name(found, member) for member in group] for group in groups]
        return reply(request, {"groups": names, "reproduce": suggest_lines(where, name, node=node, edge=edge, shell=curl_of(request))})

    _add_parts(router, shelf)
    _add_contrast(router, shelf)
    return router


def _add_parts(router: APIRouter, shelf: GraphShelf) -> None:
    where = shelf.workspace.path

    @router.get("/{name}/subgraph")
    def subgraph(request: Request, *, name: GraphName, groups: Groups) -> Response:
        """What nodes and supernodes feed each other, and how much of the prediction is explained when all other features count as errors."""
        found = shelf.graph(name)
        made = _supernodes(groups)
        kept = np.zeros(len(found.nodes), dtype=np.bool_)
        for group in made:
            kept[group.nodes(found)] = True
        record = {"edges": group_edges(found, made), "scores": subgraph_scores(found, kept)}
        return reply(request, {**record, "reproduce": subgraph_lines(where, name, made, shell=curl_of(request))})

    @router.get("/{name}/paths")
    def strongest(
        request: Request, *, name: GraphName, source: NodeName, target: NodeName, count: Annotated[int, Query(ge=1, le=50)] = 5
    ) -> Response:
        """The strongest paths from one node to another, each by the names of its nodes."""
        found = shelf.graph(name)
        best = paths(found, target=find_node(found, target), sources=[find_node(found, source)], count=count)
        record = [
            {"nodes": [node_name(found, i) for i in one.nodes], "weights": one.weights, "strength": one.strength, "sign": one.sign} for one in best
        ]
        lines = paths_lines(where, name, source=source, target=target, count=count, shell=curl_of(request))
        return reply(request, {"paths": record, "reproduce": lines})


def _add_contrast(router: APIRouter, shelf: GraphShelf) -> None:
    where = shelf.workspace.path

    @router.get("/{name}/contrast/{other}")
    def contrasted(request: Request, *, name: GraphName, other: GraphName, node: Share = NODE_THRESHOLD, edge: Share = EDGE_THRESHOLD) -> Response:
        """Two graphs aligned by their tokens and subtracted."""
        first, second = shelf.graph(name), shelf.graph(other)
        index = shelf.index_of(first)
        labels = [_labels(graph, index) for graph in (first, second)]
        known = {} if labels[0] is None or labels[1] is None else {**labels[0], **labels[1]}
        found = contrast(first, second, node_threshold=node, edge_threshold=edge, labels=known)
        edges = [{"source": one.source, "target": one.target, "weight": one.weight, "difference": one.difference} for one in found.edges]
        lines = contrast_lines(where, (name, other), index if known else None, node=node, edge=edge, shell=curl_of(request))
        return reply(request, {**with_recipe(found, lines), "edges": edges, "cards": cards_of(index), "thresholds": Thresholds(node=node, edge=edge)})


def _trial(shelf: GraphShelf, name: str) -> Mapping[str, Any] | None:
    """Predicted against measured, where it was; what is damaged is told where it is asked for by itself."""
    try:
        return tried(shelf.workspace, name).trial
    except ArtifactDamaged:
        return None


def _shown(graph: Graph, index: FeatureIndex | None, *, node: float, edge: float, density: float) -> Pruned:
    pruned = prune(graph, node_threshold=node, edge_threshold=edge)
    if density >= 1 or index is None:
        return pruned
    return without(graph, pruned, left_out=densities_from(index, graph) > density)


def _labels(graph: Graph, index: FeatureIndex | None) -> Labels | None:
    """The index' labels; none where it knows only some of the graph's layers."""
    try:
        return None if index is None else labels_from(index, graph)
    except ShapeMismatch:
        return None


def _supernodes(text: str) -> tuple[Supernode, ...]:
    try:
        given = _GROUPS.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        what = "the groups of a subgraph cannot be read."
        wanted = '[{"name": "…", "members": ["L3.f17@4", …]}, …]'
        raise QueryInvalid(what, got=text[:120], wanted=wanted, do=f"{first['msg']}.") from error
    return tuple(Supernode(name=group.name, members=tuple(group.members)) for group in given)
