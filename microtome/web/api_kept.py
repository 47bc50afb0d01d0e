"""What people keep of an index: lists, verdicts, labels and notes; read, written, and as a table for other programs."""

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from microtome.features import FeatureIndex, kept_csv
from microtome.web.api_texts import IndexName, Number
from microtome.web.recipes import call_of, curl_of, json_line, recipe
from microtome.web.replies import reply, with_recipe
from microtome.web.shelf import Shelf

MAX_FEATURES = 200_000
Features = Annotated[list[Annotated[int, Field(ge=0, le=2**40)]], Field(max_length=MAX_FEATURES)]
Words = Annotated[str, Field(max_length=500)]


class NameBody(BaseModel):
    """A person's label, or a note."""

    model_config = ConfigDict(extra="forbid")
    text: Words


class VerdictBody(BaseModel):
    """What became of a feature; empty takes it away."""

    model_config = ConfigDict(extra="forbid")
    verdict: Annotated[str, Field(max_length=20)]


class ListBody(BaseModel):
    """What changes of a list."""

    model_config = ConfigDict(extra="forbid")
    name: Words
    add: Features = []
    remove: Features = []
    drop: bool = False
    """Take the whole list away."""


def kept_routes(shelf: Shelf) -> APIRouter:
    """`/s/{name}/kept`, what is selected, and every write."""
    router = APIRouter()
    _add_reads(router, shelf)
    _add_writes(router, shelf)
    return router


def _add_reads(router: APIRouter, shelf: Shelf) -> None:
    where = shelf.workspace.path

    @router.get("/s/{name}/kept")
    def kept(request: Request, *, name: IndexName) -> Response:
        lines = recipe(where, name, call_of("kept"), shell=json_line(where, "keep", name))
        return reply(request, with_recipe(shelf.index(name).kept(), lines))

    @router.get("/s/{name}/kept.csv")
    def table(*, name: IndexName) -> Response:
        headers = {"content-disposition": 'attachment; filename="kept.csv"', "cache-control": "no-cache"}
        return Response(kept_csv(shelf.index(name).kept()), media_type="text/csv; charset=utf-8", headers=headers)

    @router.get("/s/{name}/select")
    def select(
        request: Request,
        *,
        name: IndexName,
        filter: Annotated[str, Field(max_length=500)] = "",
        search: Annotated[str, Field(max_length=500)] = "",
    ) -> Response:
        options = {"filter": filter, "search": search}
        lines = recipe(where, name, call_of("select", **options), shell=curl_of(request))
        return reply(request, {"features": shelf.index(name).select(**options), "reproduce": lines})


def _add_writes(router: APIRouter, shelf: Shelf) -> None:
    @router.post("/s/{name}/f/{feature}/label")
    def set_label(request: Request, *, name: IndexName, feature: Number, asked: NameBody) -> Response:
        index = shelf.index(name)
        index.set_label(feature, text=asked.text)
        return reply(request, index.label(feature))

    @router.post("/s/{name}/f/{feature}/notes")
    def add_note(request: Request, *, name: IndexName, feature: Number, asked: NameBody) -> Response:
        index = shelf.index(name)
        index.add_note(feature, text=asked.text)
        return reply(request, {"notes": index.card(feature).notes})

    @router.post("/s/{name}/f/{feature}/verdict")
    def set_verdict(request: Request, *, name: IndexName, feature: Number, asked: VerdictBody) -> Response:
        index = shelf.index(name)
        index.set_verdict(feature, verdict=asked.verdict)
        return reply(request, {"verdict": index.store.labelled().verdicts.get(feature, "")})

    @router.post("/s/{name}/lists")
    def change_list(request: Request, *, name: IndexName, asked: ListBody) -> Response:
        index = shelf.index(name)
        if asked.drop:
            index.drop_list(asked.name)
        else:
            index.change_list(asked.name, add=asked.add, remove=asked.remove)
        return reply(request, {"lists": _lists(index)})


def _lists(index: FeatureIndex) -> list[dict[str, object]]:
    return [{"name": name, "size": len(features)} for name, (_, features) in index.store.catalogue.lists(index.id).items()]
