"""The map of an index as JSON: made once for a map and kept as bytes, for it is megabytes."""

import threading

from fastapi import APIRouter, Request
from starlette.responses import Response

from microtome.features.geometry import map_of
from microtome.web.api_texts import IndexName
from microtome.web.recipes import MAP_CALL, command_line, json_line, recipe
from microtome.web.replies import encode, reply, reply_bytes, with_recipe
from microtome.web.shelf import Shelf


def map_routes(shelf: Shelf) -> APIRouter:
    """`/s/{name}/map`."""
    router = APIRouter()
    known: dict[str, tuple[str, bytes]] = {}
    lock = threading.Lock()
    where = shelf.workspace.path

    @router.get("/s/{name}/map")
    def points(request: Request, *, name: IndexName) -> Response:
        index = shelf.index(name)
        drawn = map_of(index.store)
        lines = recipe(where, name, MAP_CALL, shell=json_line(where, "map", name))
        if drawn is None:
            return reply(request, {"map": None, "command": command_line(where, "map", name), "reproduce": lines})
        with lock:
            if known.get(index.id, ("",))[0] != drawn.id:
                body = encode(with_recipe(drawn.view(index), lines))
                known[index.id] = (drawn.id, body)
        return reply_bytes(request, known[index.id][1])

    return router
