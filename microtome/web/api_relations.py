"""The JSON twins of a feature's panels: links, relations, surroundings, loss and measured effects; and many cards at once."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from microtome.errors import QueryInvalid
from microtome.web.api_texts import IndexName, Number, Rank, ref_of
from microtome.web.model_desk import ModelDesk
from microtome.web.recipes import call_of, command_line, curl_of, links_call, recipe
from microtome.web.replies import reply, with_recipe
from microtome.web.shelf import Shelf

MAX_CARDS = 200
Few = Annotated[int, Query(ge=1, le=200)]


def relation_routes(shelf: Shelf, desk: ModelDesk) -> APIRouter:
    """All routes below a feature but its card, its examples and its tests."""
    router = APIRouter()
    _add_links(router, shelf, desk)
    _add_relations(router, shelf)
    _add_input_side(router, shelf)
    _add_effects(router, shelf, desk)
    _add_cards(router, shelf)
    return router


def _add_links(router: APIRouter, shelf: Shelf, desk: ModelDesk) -> None:
    where = shelf.workspace.path

    @router.get("/s/{name}/f/{feature}/links")
    def links(request: Request, *, name: IndexName, feature: Number, rank: Rank = "twera", limit: Few = 12) -> Response:
        index, options = shelf.index(name), {"rank": rank, "limit": limit}
        found = {"downstream": index.downstream(feature, rank=rank, limit=limit), "upstream": index.upstream(feature, rank=rank, limit=limit)}
        lines = recipe(where, name, links_call(feature, **options), shell=curl_of(request))
        return reply(request, {**found, "reproduce": lines})

    @router.get("/s/{name}/f/{feature}/silenced")
    def silenced(
        request: Request, *, name: IndexName, feature: Number, limit: Few = 12, sample: Annotated[int, Query(ge=1, le=256)] = 64
    ) -> Response:
        index = shelf.index(name)
        found = desk.use(ref_of(index), lambda model: index.downstream(feature, limit=limit, model=model, sample=sample))
        call = f"index.downstream({feature}, limit={limit}, model=model, sample={sample})"
        return reply(request, with_recipe(found, recipe(where, name, call, shell=curl_of(request), runs_model=True)))


def _add_relations(router: APIRouter, shelf: Shelf) -> None:
    where = shelf.workspace.path

    @router.get("/s/{name}/f/{feature}/alike")
    def alike(request: Request, *, name: IndexName, feature: Number, limit: Few = 12) -> Response:
        lines = recipe(where, name, call_of("alike", feature, limit=limit), shell=curl_of(request))
        return reply(request, with_recipe(shelf.index(name).alike(feature, limit=limit), lines))

    @router.get("/s/{name}/f/{feature}/coactive")
    def coactive(
        request: Request,
        *,
        name: IndexName,
        feature: Number,
        rank: Rank = "jaccard",
        at_least: Annotated[int, Query(ge=1, le=2**40)] = 5,
        limit: Few = 12,
    ) -> Response:
        options: dict[str, Any] = {"rank": rank, "at_least": at_least, "limit": limit}
        lines = recipe(where, name, call_of("coactive", feature, **options), shell=curl_of(request))
        return reply(request, {"coactive": shelf.index(name).coactive(feature, **options), "reproduce": lines})

    @router.get("/s/{name}/f/{feature}/suspects")
    def suspects(request: Request, *, name: IndexName, feature: Number, limit: Few = 12) -> Response:
        lines = recipe(where, name, call_of("suspects", feature, limit=limit), shell=curl_of(request))
        return reply(request, {"suspects": shelf.index(name).suspects(feature, limit=limit), "reproduce": lines})

    @router.get("/s/{name}/f/{feature}/across")
    def across(request: Request, *, name: IndexName, feature: Number, limit: Few = 12) -> Response:
        lines = recipe(where, name, call_of("across", feature, limit=limit), shell=curl_of(request))
        return reply(request, with_recipe(shelf.index(name).across(feature, limit=limit), lines))

    @router.get("/s/{name}/f/{feature}/match/{other}")
    def match(request: Request, *, name: IndexName, feature: Number, other: IndexName, limit: Few = 12) -> Response:
        call = f'index.match({feature}, FeatureIndex.open(workspace.find("index", {other!r}), workspace), limit={limit})'
        found = shelf.index(name).match(feature, shelf.index(other), limit=limit)
        return reply(request, with_recipe(found, recipe(where, name, call, shell=curl_of(request))))


def _add_input_side(router: APIRouter, shelf: Shelf) -> None:
    where = shelf.workspace.path

    @router.get("/s/{name}/f/{feature}/around")
    def around(request: Request, *, name: IndexName, feature: Number, limit: Few = 8) -> Response:
        lines = recipe(where, name, call_of("surroundings", feature, limit=limit), shell=curl_of(request))
        return reply(request, with_recipe(shelf.index(name).surroundings(feature, limit=limit), lines))

    @router.get("/s/{name}/f/{feature}/loss")
    def loss(request: Request, *, name: IndexName, feature: Number) -> Response:
        lines = recipe(where, name, call_of("loss", feature), shell=curl_of(request))
        return reply(
            request, {"loss": shelf.index(name).loss(feature), "command": command_line(where, "index", name, "--losses"), "reproduce": lines}
        )


def _add_effects(router: APIRouter, shelf: Shelf, desk: ModelDesk) -> None:
    where = shelf.workspace.path

    @router.get("/s/{name}/f/{feature}/effects")
    def stored(request: Request, *, name: IndexName, feature: Number) -> Response:
        lines = recipe(where, name, call_of("effects", feature), shell=curl_of(request))
        return reply(
            request,
            {"effects": shelf.index(name).effects(feature), "command": command_line(where, "index", name, "--effects", 200), "reproduce": lines},
        )

    @router.post("/s/{name}/f/{feature}/effects")
    def measure(request: Request, *, name: IndexName, feature: Number) -> Response:
        index = shelf.index(name)
        found = desk.use(ref_of(index), lambda model: index.effects(feature, model=model))
        lines = recipe(where, name, f"index.effects({feature}, model=model)", shell=curl_of(request, body={}), runs_model=True)
        return reply(request, {"effects": found, "reproduce": lines})


def _add_cards(router: APIRouter, shelf: Shelf) -> None:
    where = shelf.workspace.path

    @router.get("/s/{name}/cards")
    def cards(request: Request, *, name: IndexName, features: Annotated[str, Query(max_length=4000)]) -> Response:
        wanted = _numbers(features)
        index = shelf.index(name)
        lines = recipe(where, name, f"[index.card(feature) for feature in {wanted}]", shell=curl_of(request))
        return reply(request, {"cards": [index.card(feature) for feature in wanted], "reproduce": lines})


def _numbers(text: str) -> list[int]:
    """`1,2,7` as numbers, at most `MAX_CARDS` of them."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts) or len(parts) > MAX_CARDS:
        do = "Ask for ?features=1,2,7."
        raise QueryInvalid("these are no feature numbers.", got=text[:80], wanted=f"at most {MAX_CARDS} numbers joined by commas", do=do)
    return [int(part) for part in parts]
