"""The JSON twins: one route a page and one a question, each a call of the feature index and nothing else."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from microtome.features import FeatureIndex
from microtome.web.model_desk import ModelDesk
from microtome.web.recipes import call_of, curl_line, recipe, shelf_recipe, show_line
from microtome.web.replies import reply, with_recipe
from microtome.web.shelf import Shelf

MAX_TEXT_CHARS = 20_000
MAX_QUERY_CHARS = 2_000
MAX_STRETCH_TOKENS = 4_096

IndexName = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[^./\\][^/\\]*$")]
Number = Annotated[int, Path(ge=0, le=2**40)]
Offset = Annotated[int, Query(ge=0, le=2**40)]
Text = Annotated[str, Query(max_length=MAX_QUERY_CHARS)]
Words = Annotated[str, Query(max_length=500)]
MAX_RANK_CHARS = 20
Rank = Annotated[str, Query(max_length=MAX_RANK_CHARS)]


class TextBody(BaseModel):
    """A text to run the model on."""

    model_config = ConfigDict(extra="forbid")
    text: str = Field(max_length=MAX_TEXT_CHARS)
    rank: str = Field(default="specific", max_length=MAX_RANK_CHARS)
    limit: int = Field(default=50, ge=1, le=500)


class NameBody(BaseModel):
    """A person's label; empty takes it away."""

    model_config = ConfigDict(extra="forbid")
    text: str = Field(max_length=500)


def api_routes(shelf: Shelf, desk: ModelDesk) -> APIRouter:
    """All routes under `/api`."""
    router = APIRouter(prefix="/api")
    _add_pages(router, shelf)
    _add_documents(router, shelf)
    _add_model_questions(router, shelf, desk)
    _add_writes(router, shelf)
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
        lines = recipe(where, name, call_of("table", **options), shell=_curl(request))
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
        limit: Annotated[int, Query(ge=1, le=200)] = 32,
    ) -> Response:
        options: dict[str, Any] = {"stratum": stratum, "split": split, "role": role, "limit": limit}
        lines = recipe(where, name, call_of("examples", feature, **options), shell=_curl(request))
        return reply(request, {"examples": shelf.index(name).examples(feature, **options), "reproduce": lines})


def _add_documents(router: APIRouter, shelf: Shelf) -> None:
    where = shelf.workspace.path

    @router.get("/s/{name}/documents")
    def documents(
        request: Request, *, name: IndexName, search: Words = "", offset: Offset = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> Response:
        options: dict[str, Any] = {"search": search, "offset": offset, "limit": limit}
        lines = recipe(where, name, call_of("documents", **options), shell=_curl(request))
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
        lines = recipe(where, name, call_of("document", doc, **options), shell=_curl(request))
        return reply(request, with_recipe(shelf.index(name).document(doc, **options), lines))

    @router.get("/s/{name}/d/{doc}/t/{offset}")
    def token(request: Request, *, name: IndexName, doc: Number, offset: Number) -> Response:
        lines = recipe(where, name, call_of("token", doc, offset=offset), shell=_curl(request))
        return reply(request, with_recipe(shelf.index(name).token(doc, offset=offset), lines))


def _add_model_questions(router: APIRouter, shelf: Shelf, desk: ModelDesk) -> None:
    where = shelf.workspace.path

    def ref_of(index: FeatureIndex) -> str:
        return index.overview().sources["model"]

    def search(request: Request, name: str, asked: TextBody) -> Response:
        index = shelf.index(name)
        found = desk.use(ref_of(index), lambda model: index.search(model, asked.text, rank=asked.rank, limit=asked.limit))
        call = call_of("search", ..., asked.text, rank=asked.rank, limit=asked.limit)
        lines = recipe(where, name, call, shell=show_line(where, name, text=asked.text), runs_model=True)
        return reply(request, with_recipe(found, lines))

    def test(request: Request, name: str, *, feature: int, asked: TextBody) -> Response:
        index = shelf.index(name)
        tested = desk.use(ref_of(index), lambda model: index.test(model, feature, text=asked.text))
        call = call_of("test", ..., feature, text=asked.text)
        lines = recipe(where, name, call, shell=_curl(request, body={"text": asked.text}), runs_model=True)
        return reply(request, with_recipe(tested, lines))

    @router.get("/s/{name}/model")
    def model_state(request: Request, *, name: IndexName) -> Response:
        return reply(request, desk.state(ref_of(shelf.index(name))))

    @router.get("/s/{name}/search")
    def search_by_link(request: Request, *, name: IndexName, text: Text, rank: Rank = "specific", limit: int = 50) -> Response:
        return search(request, name, TextBody(text=text, rank=rank, limit=max(1, min(limit, 500))))

    @router.post("/s/{name}/search")
    def search_by_text(request: Request, *, name: IndexName, asked: TextBody) -> Response:
        return search(request, name, asked)

    @router.get("/s/{name}/f/{feature}/test")
    def test_by_link(request: Request, *, name: IndexName, feature: Number, text: Text) -> Response:
        return test(request, name, feature=feature, asked=TextBody(text=text))

    @router.post("/s/{name}/f/{feature}/test")
    def test_by_text(request: Request, *, name: IndexName, feature: Number, asked: TextBody) -> Response:
        return test(request, name, feature=feature, asked=asked)


def _add_writes(router: APIRouter, shelf: Shelf) -> None:
    @router.post("/s/{name}/f/{feature}/label")
    def set_label(request: Request, *, name: IndexName, feature: Number, asked: NameBody) -> Response:
        index = shelf.index(name)
        index.set_label(feature, text=asked.text)
        return reply(request, index.card(feature).label)

    @router.post("/s/{name}/f/{feature}/notes")
    def add_note(request: Request, *, name: IndexName, feature: Number, asked: NameBody) -> Response:
        index = shelf.index(name)
        index.add_note(feature, text=asked.text)
        return reply(request, {"notes": index.card(feature).notes})


def _curl(request: Request, *, body: Mapping[str, Any] | None = None) -> str:
    """The request as a command line: as it was asked, without a token in its query; with a `body`, as a POST to the same path."""
    path = request.scope.get("raw_path", request.scope["path"].encode()).decode("latin-1")
    parts = [part for part in request.url.query.split("&") if part and not part.startswith("token=")]
    query = f"?{'&'.join(parts)}" if parts and body is None else ""
    return curl_line(str(request.base_url), path + query, body=body, needs_token=request.app.state.needs_token)
