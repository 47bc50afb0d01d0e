"""The report on odd features as JSON; made once for an index and its labels, for it takes seconds on a large one."""

import threading

from fastapi import APIRouter, Request
from starlette.responses import Response

from microtome.features.odd import Odd, odd_report
from microtome.web.api_texts import IndexName
from microtome.web.recipes import recipe, show_line
from microtome.web.replies import reply, with_recipe
from microtome.web.shelf import Shelf

_CALL = "from microtome.features.odd import odd_report\n\nodd_report(index)"


def odd_routes(shelf: Shelf) -> APIRouter:
    """`/s/{name}/odd`."""
    router = APIRouter()
    known: dict[tuple[str, int], Odd] = {}
    lock = threading.Lock()

    @router.get("/s/{name}/odd")
    def odd(request: Request, *, name: IndexName) -> Response:
        index = shelf.index(name)
        with lock:
            key = (index.id, index.store.catalogue.revision)
            if key not in known:
                for old in [each for each in known if each[0] == index.id]:
                    del known[old]
                known[key] = odd_report(index)
        where = shelf.workspace.path
        lines = recipe(where, name, _CALL, shell=f"{show_line(where, name)} --odd")
        return reply(request, with_recipe(known[key], lines))

    return router
