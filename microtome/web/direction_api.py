"""The JSON of a workspace's directions: their list, and the card of each."""

import shlex
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response

from microtome.artifacts import Workspace, read_manifest
from microtome.directions import DirectionCard, direction_card
from microtome.errors import MicrotomeError
from microtome.web.graph_api import GraphName
from microtome.web.recipes import shelf_recipe, show_line
from microtome.web.replies import reply, with_recipe
from microtome.web.shelf import Shelf


def direction_routes(shelf: Shelf) -> APIRouter:
    """`/api/directions` and `/api/directions/{name}`."""
    router, workspace = APIRouter(prefix="/api/directions"), shelf.workspace

    @router.get("")
    def listed(request: Request) -> Response:
        return reply(request, {"directions": shelf.entries("direction"), "reproduce": shelf_recipe(workspace.path, "direction")})

    @router.get("/{name}")
    def card(request: Request, *, name: GraphName) -> Response:
        found = direction_card(workspace.find("direction", name), workspace=workspace)
        asked = {"card": found, "indexes": _indexes_of(shelf, found), "steer": _steer_line(workspace.path, found)}
        return reply(request, with_recipe(asked, _card_lines(workspace.path, name)))

    return router


def _indexes_of(shelf: Shelf, card: DirectionCard) -> list[str]:
    """The indexes on whose steering page it can be tried: those of its model. A number there means a feature, so that such a name has none."""
    names: list[str] = []
    if card.model is None or card.name.isdigit():
        return names
    for name in shelf.workspace.names("index"):
        try:
            if read_manifest(shelf.workspace.place("index", name)).inputs.get("model") == card.model:
                names.append(name)
        except MicrotomeError:  # the first page shows what is wrong with it
            continue
    return names


def _steer_line(workspace: Path, card: DirectionCard) -> str:
    """How to try it in a terminal."""
    model = str(card.provenance.get("model", "MODEL"))
    return shlex.join(["microtome", "steer", model, "A prompt", "--add", f"{card.name}=1", "--workspace", str(workspace)])


def _card_lines(workspace: Path, name: str) -> dict[str, str]:
    python = (
        "from microtome.artifacts import Workspace\nfrom microtome.directions import direction_card\n\n"
        f"workspace = Workspace({str(workspace)!r})\ndirection_card(workspace.find('direction', {name!r}), workspace=workspace)"
    )
    return {"python": python, "shell": show_line(workspace, Workspace(workspace).place("direction", name))}
