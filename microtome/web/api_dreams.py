"""The dreams of a feature as JSON: what `microtome dream` has found so far, and the line that dreams on."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from microtome.features.dreaming import dreams_of
from microtome.web.api_texts import IndexName, Number
from microtome.web.recipes import command_line, dreams_call, json_line, recipe
from microtome.web.replies import reply
from microtome.web.shelf import Shelf


def dream_routes(shelf: Shelf) -> APIRouter:
    """`/s/{name}/f/{feature}/dreams`."""
    router = APIRouter()
    where = shelf.workspace.path

    @router.get("/s/{name}/f/{feature}/dreams")
    def dreams(request: Request, *, name: IndexName, feature: Number) -> Response:
        lines = recipe(where, name, dreams_call(feature), shell=json_line(where, "dream", name, feature))
        return reply(
            request, {"dreams": dreams_of(shelf.index(name), feature), "command": command_line(where, "dream", name, feature), "reproduce": lines}
        )

    return router
