"""The report on odd features as JSON; made once for an index and its labels, for it takes seconds on a large one."""

import threading

from fastapi import APIRouter, Request
from starlette.responses import Response

from microtome.features.odd import Odd, dense_ablation, odd_report, stability
from microtome.web.api_texts import IndexName, ref_of
from microtome.web.model_desk import ModelDesk
from microtome.web.recipes import ABLATION_CALL, ODD_CALL, curl_of, json_line, recipe
from microtome.web.replies import reply, with_recipe
from microtome.web.shelf import Shelf

_IMPORT = "from microtome.features.odd import"


def odd_routes(shelf: Shelf, desk: ModelDesk) -> APIRouter:
    """`/s/{name}/odd` and the two questions about dense features below it."""
    router = APIRouter()
    _add_report(router, shelf)
    _add_dense(router, shelf, desk)
    return router


def _add_report(router: APIRouter, shelf: Shelf) -> None:
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
        lines = recipe(where, name, ODD_CALL, shell=json_line(where, "odd", name))
        return reply(request, with_recipe(known[key], lines))


def _add_dense(router: APIRouter, shelf: Shelf, desk: ModelDesk) -> None:
    where = shelf.workspace.path

    @router.get("/s/{name}/odd/stability/{other}")
    def stable(request: Request, *, name: IndexName, other: IndexName) -> Response:
        second = f'FeatureIndex.open(workspace.find("index", {other!r}), workspace)'
        call = f"{_IMPORT} stability\n\nstability(index, {second})"
        found = stability(shelf.index(name), shelf.index(other))
        return reply(request, with_recipe(found, recipe(where, name, call, shell=json_line(where, "odd", name, "--against", other))))

    @router.get("/s/{name}/odd/ablation")
    def stored(request: Request, *, name: IndexName) -> Response:
        lines = recipe(where, name, ABLATION_CALL, shell=json_line(where, "odd", name, "--ablate"))
        return reply(request, {"ablation": dense_ablation(shelf.index(name)), "reproduce": lines})

    @router.post("/s/{name}/odd/ablation")
    def measure(request: Request, *, name: IndexName) -> Response:
        index = shelf.index(name)
        found = desk.use(ref_of(index), lambda model: dense_ablation(index, model))
        call = f"{_IMPORT} dense_ablation\n\ndense_ablation(index, model)"
        lines = recipe(where, name, call, shell=curl_of(request, body={}), runs_model=True)
        return reply(request, {"ablation": found, "reproduce": lines})
