"""The JSON twins of what a graph page does with the model: interventions, predicted against measured, and swaps of tokens."""

from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from microtome.circuits import (
    Graph,
    Intervention,
    Patching,
    SwapConfig,
    TrialConfig,
    find_node,
    interventions,
    keep_tried,
    missing_edges,
    outcome,
    trial,
    tried,
)
from microtome.steering import Sampling, raw, times_current
from microtome.web.graph_api import MAX_NAME_CHARS, MAX_PINS, GraphName
from microtome.web.graph_desk import GraphDesk
from microtome.web.graph_recipes import outcome_lines, trial_lines
from microtome.web.graph_shelf import GraphShelf
from microtome.web.recipes import curl_of
from microtome.web.replies import reply, with_recipe

MAX_NEW_TOKENS = 200
NodeText = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]


class InterveneBody(BaseModel):
    """The same change of several nodes."""

    model_config = ConfigDict(extra="forbid")
    nodes: list[NodeText] = Field(min_length=1, max_length=MAX_PINS)
    operation: Literal["set", "multiply", "add"] = "multiply"
    value: float = Field(default=0.0, ge=-1e6, le=1e6, allow_inf_nan=False)
    """`multiply`: by this; `set`, `add`: in units of the activation."""
    target: NodeText | None = None
    attention: Literal["frozen", "live"] = "frozen"
    end_layer: int | None = Field(default=None, ge=0, le=10_000)
    new_tokens: int = Field(default=0, ge=0, le=MAX_NEW_TOKENS)
    temperature: float = Field(default=0.0, ge=0, le=10, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0, le=2**31)

    def group(self) -> tuple[Intervention, ...]:
        strength = times_current(self.value) if self.operation == "multiply" else raw(self.value)
        return interventions(self.nodes, strength, operation=self.operation)

    def patching(self) -> Patching:
        return Patching(attention=self.attention, end_layer=self.end_layer)

    def sampling(self) -> Sampling | None:
        return Sampling(max_new_tokens=self.new_tokens, temperature=self.temperature, seed=self.seed) if self.new_tokens else None


class TrialBody(BaseModel):
    """How many nodes are tried."""

    model_config = ConfigDict(extra="forbid")
    strong: int = Field(default=20, ge=1, le=200)
    random: int = Field(default=20, ge=0, le=200)
    seed: int = Field(default=0, ge=0, le=2**31)
    target: NodeText | None = None

    def config(self, graph: Graph) -> TrialConfig:
        target = None if self.target is None else find_node(graph, self.target)
        return TrialConfig(strong=self.strong, random=self.random, seed=self.seed, target=target)


class SwapBody(BaseModel):
    """How many other tokens are tried at each position."""

    model_config = ConfigDict(extra="forbid")
    swaps: int = Field(default=4, ge=1, le=32)
    ends: bool = False
    seed: int = Field(default=0, ge=0, le=2**31)

    def config(self) -> SwapConfig:
        return SwapConfig(swaps=self.swaps, ends=self.ends, seed=self.seed)


def run_routes(shelf: GraphShelf, desk: GraphDesk) -> APIRouter:
    """The routes under `/api/graphs/NAME` that run the model, and those that read what came of it."""
    router = APIRouter(prefix="/api/graphs")
    where = shelf.workspace.path

    @router.get("/{name}/model")
    def model_state(request: Request, *, name: GraphName) -> Response:
        return reply(request, desk.state(shelf.graph(name)))

    @router.post("/{name}/intervene")
    def intervene(request: Request, *, name: GraphName, asked: InterveneBody) -> Response:
        graph = shelf.graph(name)
        target = None if asked.target is None else find_node(graph, asked.target)
        found = desk.use(
            graph,
            lambda model, dictionaries: outcome(
                model, dictionaries, graph=graph, group=asked.group(), target=target, patching=asked.patching(), sampling=asked.sampling()
            ),
        )
        return reply(
            request, with_recipe(found.to_json(), outcome_lines(where, name, asked.model_dump(), shell=curl_of(request, body=asked.model_dump())))
        )

    @router.get("/{name}/tested")
    def kept(request: Request, *, name: GraphName) -> Response:
        """What was tried on the graph: predicted against measured, and swaps."""
        return reply(request, with_recipe(tried(shelf.workspace, name), trial_lines(where, name, shell=curl_of(request))))

    @router.post("/{name}/trial")
    def try_nodes(request: Request, *, name: GraphName, asked: TrialBody) -> Response:
        graph = shelf.graph(name)
        made = desk.use(graph, lambda model, dictionaries: trial(model, dictionaries, graph=graph, config=asked.config(graph)))
        lines = trial_lines(where, name, trial=asked.config(graph), shell=curl_of(request, body=asked.model_dump()))
        return reply(request, with_recipe(keep_tried(shelf.workspace, name, trial=made), lines))

    @router.post("/{name}/missing")
    def try_swaps(request: Request, *, name: GraphName, asked: SwapBody) -> Response:
        graph = shelf.graph(name)
        made = desk.model(graph, lambda model: missing_edges(model, graph, config=asked.config()))
        lines = trial_lines(where, name, swaps=asked.config(), shell=curl_of(request, body=asked.model_dump()))
        return reply(request, with_recipe(keep_tried(shelf.workspace, name, missing=made), lines))

    return router
