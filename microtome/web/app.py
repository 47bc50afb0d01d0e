"""The application: guarded routes, pages, and errors in four parts."""

from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from microtome.errors import MicrotomeError, PageNotFound, QueryInvalid, ServerFailed
from microtome.steering.serving import Limits
from microtome.web.api import api_routes
from microtome.web.completions import Offers, completion_routes
from microtome.web.direction_api import direction_routes
from microtome.web.graph_api import graph_routes
from microtome.web.graph_desk import GraphDesk
from microtome.web.graph_runs import run_routes
from microtome.web.graph_shelf import GraphShelf
from microtome.web.guard import HEADERS, Guard
from microtome.web.model_desk import ModelDesk, ModelLoader
from microtome.web.replies import error_reply, parts_reply
from microtome.web.shelf import Shelf

STATIC = Path(__file__).parent / "static"
PAGES = (
    "/",
    "/s/{name}",
    "/s/{name}/features",
    "/s/{name}/search",
    "/s/{name}/odd",
    "/s/{name}/steer",
    "/s/{name}/map",
    "/s/{name}/kept",
    "/s/{name}/f/{feature}",
    "/s/{name}/documents",
    "/s/{name}/d/{doc}",
    "/g/{name}",
    "/directions/{name}",
)


def create_app(
    workspace: Path,
    *,
    model_loader: ModelLoader | None = None,
    token: str | None = None,
    hosts: Iterable[str] = (),
    models: Iterable[str] = (),
    limits: Limits = Limits(),  # noqa: B008  # frozen
) -> FastAPI:
    """The workbench over one workspace, which also speaks the OpenAI protocol.

    `model_loader` loads a model reference (for the text boxes; `microtome.models.load` unless given), `token` must be shown by every request
    when set, `hosts` are names allowed in the Host header beside the loopback ones. `models` are offered to clients of the protocol beside those
    of the indexes and the saved variants, within `limits`.
    """
    app = FastAPI(title="microtome", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")
    app.state.needs_token = token is not None
    app.add_middleware(Guard, token=token, hosts=tuple(hosts))
    shelf, desk = Shelf(workspace), ModelDesk(model_loader)
    app.include_router(api_routes(shelf, desk))
    app.include_router(completion_routes(Offers(shelf, desk, models=models, limits=limits)))
    app.include_router(direction_routes(shelf))
    graphs = GraphShelf(shelf)
    app.include_router(run_routes(graphs, GraphDesk(graphs.workspace, desk)))
    app.include_router(graph_routes(graphs))
    app.mount("/static", _Static(directory=STATIC), name="static")

    def page() -> Response:
        return FileResponse(STATIC / "index.html", media_type="text/html", headers={"cache-control": "no-cache"})

    for path in PAGES:
        app.add_api_route(path, page, methods=["GET"], include_in_schema=False)

    @app.get("/favicon.ico", include_in_schema=False)
    def favicon() -> Response:
        return FileResponse(STATIC / "icon.svg", media_type="image/svg+xml")

    _add_error_replies(app)
    return app


def _add_error_replies(app: FastAPI) -> None:
    @app.exception_handler(MicrotomeError)
    async def known(request: Request, error: MicrotomeError) -> Response:
        return error_reply(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = " → ".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
        what = f"the request's {where} cannot be used."
        return error_reply(request, QueryInvalid(what, got=_short(first.get("input")), wanted=first["msg"], do="Correct the address or the text."))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        asked = f"{request.method} {request.scope['path']}"
        if error.status_code == HTTPStatus.NOT_FOUND and not request.scope["path"].startswith(("/api", "/static", "/v1")):
            return FileResponse(STATIC / "index.html", status_code=404, media_type="text/html")
        if error.status_code in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
            do = "Begin at the first page, /, or at /api; /api/openapi.json lists all addresses."
            parts = PageNotFound("there is nothing at this address.", got=asked, wanted="a page's address and method", do=do).to_json()
        else:
            parts = QueryInvalid("the request cannot be read.", got=asked, wanted="JSON in UTF-8", do=f"{error.detail}.").to_json()
        return parts_reply(request, parts, status=error.status_code)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        """The outer edge, outside of the guard too. The exception goes on to the server, which logs its traceback."""
        asked = f"{request.method} {request.scope['path']}"
        do = "The server's terminal shows where: please report it with this address. Other pages still answer."
        parts = ServerFailed("the server made a mistake.", got=f"{type(error).__name__} at {asked}", wanted="an answer", do=do).to_json()
        answer = parts_reply(request, parts, status=500)
        answer.raw_headers.extend(HEADERS)
        return answer


class _Static(StaticFiles):
    """Files that the browser asks after every time (their ETag makes that cheap), so that an upgrade never mixes old modules with new."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:119] + "…"
