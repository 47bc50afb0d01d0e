"""The JSON twins: one route a page and one a question, each a call of the feature index and nothing else."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from microtome.web.api_dreams import dream_routes
from microtome.web.api_kept import kept_routes
from microtome.web.api_map import map_routes
from microtome.web.api_odd import odd_routes
from microtome.web.api_relations import relation_routes
from microtome.web.api_steer import steer_routes
from microtome.web.api_texts import IndexName, Number, Rank, text_routes
from microtome.web.model_desk import ModelDesk
from microtome.web.recipes import call_of, curl_of, recipe, shelf_recipe, show_line
from microtome.web.replies import reply, with_recipe
from microtome.web.shelf import Shelf

MAX_STRETCH_TOKENS = 4_096

Offset = Annotated[int, Query(ge=0, le=2**40)]
Words = Annotated[str, Query(max_length=500)]


def api_routes(shelf: Shelf, desk: ModelDesk) -> APIRouter:
    """All routes under `/api`."""
    router = APIRouter(prefix="/api")
    _add_pages(router, shelf)
    _add_documents(router, shelf)
    router.include_router(text_routes(shelf, desk))
    router.include_router(odd_routes(shelf, desk))
    router.include_router(map_routes(shelf))
    router.include_router(kept_routes(shelf))
    router.include_router(dream_routes(shelf))
    router.include_router(relation_routes(shelf, desk))
    router.include_router(steer_routes(shelf, desk))
    return router


def _add_pages(router: APIRouter, shelf: Shelf) -> None:
    where = shelf.workspace.path

    @router.get("")
    def workspace(request: Request) -> Response:
        return reply(request, with_recipe(shelf.list(), shelf_recipe(where)))

    @router.get("/s/{name}")
    def overview(request: Request, *, name: IndexName) -> Response:
        lines = recipe(where, name, call_of("overview"), shell=show_line(where, name))
        return reply(request, with_recipe(shelf.index(name).overview(), lines))

    @router.get("/s/{name}/features")
    def table(
        request: Request,
        *,
        name: IndexName,
        sort: Words = "feature",
        descending: bool = False,
        filter: Words = "",
        search: Words = "",
        offset: Offset = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        options: dict[str, Any] = {"sort": sort, "descending": descending, "filter": filter, "search": search, "offset": offset, "limit": limit}
        page = shelf.index(name).table(**options)
        lines = recipe(where, name, call_of("table", **options), shell=curl_of(request))
        return reply(request, with_recipe(page, lines))

    @router.get("/s/{name}/f/{feature}")
    def card(request: Request, *, name: IndexName, feature: Number) -> Response:
        lines = recipe(where, name, call_of("card", feature), shell=show_line(where, name, feature))
        return reply(request, with_recipe(shelf.index(name).card(feature), lines))

    @router.get("/s/{name}/f/{feature}/examples")
    def examples(
        request: Request,
        *,
        name: IndexName,
        feature: Number,
        stratum: Annotated[int | None, Query(ge=0, le=1000)] = None,
        split: Words | None = None,
        role: Words | None = None,
        corpus_label: Words | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 32,
    ) -> Response:
        options: dict[str, Any] = {"stratum": stratum, "split": split, "role": role, "corpus_label": corpus_label, "limit": limit}
        lines = recipe(where, name, call_of("examples", feature, **options), shell=curl_of(request))
        return reply(request, {"examples": shelf.index(name).examples(feature, **options), "reproduce": lines})


def _add_documents(router: APIRouter, shelf: Shelf) -> None:
    where = shelf.workspace.path

    @router.get("/s/{name}/documents")
    def documents(
        request: Request, *, name: IndexName, search: Words = "", offset: Offset = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> Response:
        options: dict[str, Any] = {"search": search, "offset": offset, "limit": limit}
        lines = recipe(where, name, call_of("documents", **options), shell=curl_of(request))
        return reply(request, with_recipe(shelf.index(name).documents(**options), lines))

    @router.get("/s/{name}/d/{doc}")
    def document(
        request: Request,
        *,
        name: IndexName,
        doc: Number,
        rank: Rank = "specific",
        offset: Offset = 0,
        length: Annotated[int, Query(ge=1, le=MAX_STRETCH_TOKENS)] = MAX_STRETCH_TOKENS,
        limit: Annotated[int, Query(ge=1, le=500)] = 60,
        feature: Annotated[int | None, Query(ge=0, le=2**40)] = None,
    ) -> Response:
        options: dict[str, Any] = {"rank": rank, "offset": offset, "length": length, "limit": limit, "feature": feature}
        lines = recipe(where, name, call_of("document", doc, **options), shell=curl_of(request))
        return reply(request, with_recipe(shelf.index(name).document(doc, **options), lines))

    @router.get("/s/{name}/d/{doc}/t/{offset}")
    def token(request: Request, *, name: IndexName, doc: Number, offset: Number) -> Response:
        lines = recipe(where, name, call_of("token", doc, offset=offset), shell=curl_of(request))
        return reply(request, with_recipe(shelf.index(name).token(doc, offset=offset), lines))
