"""The questions that are asked with texts: a feature on prompts, features by prompts, by a token, by two sets of texts. Most run the model."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from microtome.features import FeatureIndex
from microtome.web.model_desk import ModelDesk
from microtome.web.recipes import call_of, curl_of, recipe, show_line
from microtome.web.replies import reply, with_recipe
from microtome.web.shelf import Shelf

MAX_TEXT_CHARS = 20_000
MAX_QUERY_CHARS = 2_000
"""Most characters of what is no text to run a model on."""
MAX_TEXTS = 200
"""Most prompts of one question."""

IndexName = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[^./\\][^/\\]*$")]
Number = Annotated[int, Path(ge=0, le=2**40)]
Text = Annotated[str, Query(max_length=MAX_TEXT_CHARS)]
MAX_RANK_CHARS = 20
Rank = Annotated[str, Query(max_length=MAX_RANK_CHARS)]
Limit = Annotated[int, Query(ge=1, le=500)]
_Prompts = list[Annotated[str, Field(max_length=MAX_TEXT_CHARS)]]
Texts = Annotated[_Prompts, Query(max_length=MAX_TEXTS)]
LongTexts = Annotated[_Prompts, Field(max_length=MAX_TEXTS)]


class TextBody(BaseModel):
    """A text to run the model on."""

    model_config = ConfigDict(extra="forbid")
    text: str = Field(max_length=MAX_TEXT_CHARS)
    rank: str = Field(default="specific", max_length=MAX_RANK_CHARS)
    limit: int = Field(default=50, ge=1, le=500)


class TextsBody(BaseModel):
    """Prompts to run one feature on."""

    model_config = ConfigDict(extra="forbid")
    texts: LongTexts


class PromptsBody(BaseModel):
    """Prompts with and without something."""

    model_config = ConfigDict(extra="forbid")
    positive: LongTexts
    negative: LongTexts = []
    rank: str = Field(default="specific", max_length=MAX_RANK_CHARS)
    misses: int = Field(default=0, ge=0, le=MAX_TEXTS)
    allow: float = Field(default=0.0, ge=0, le=100)
    limit: int = Field(default=50, ge=1, le=500)


class SetsBody(BaseModel):
    """Two sets of texts to tell apart."""

    model_config = ConfigDict(extra="forbid")
    positive: LongTexts
    negative: LongTexts
    pool: str = Field(default="max", max_length=MAX_RANK_CHARS)
    shuffles: int = Field(default=999, ge=19, le=9999)
    seed: int = Field(default=0, ge=0, le=2**31)
    limit: int = Field(default=50, ge=1, le=500)


def text_routes(shelf: Shelf, desk: ModelDesk) -> APIRouter:
    """All routes that take texts; each that runs the model answers GET for links and POST for long texts."""
    router = APIRouter()
    _add_tests(router, shelf, desk)
    _add_searches(router, shelf, desk)
    _add_sets(router, shelf, desk)
    return router


def ref_of(index: FeatureIndex) -> str:
    """The model that an index was made with."""
    return index.overview().sources["model"]


def _add_tests(router: APIRouter, shelf: Shelf, desk: ModelDesk) -> None:
    where = shelf.workspace.path

    def test(request: Request, name: str, *, feature: int, asked: TextBody) -> Response:
        index = shelf.index(name)
        tested = desk.use(ref_of(index), lambda model: index.test(model, feature, text=asked.text))
        call = call_of("test", ..., feature, text=asked.text)
        lines = recipe(where, name, call, shell=curl_of(request, body={"text": asked.text}), runs_model=True)
        return reply(request, with_recipe(tested, lines))

    def tests(request: Request, name: str, *, feature: int, texts: list[str]) -> Response:
        index = shelf.index(name)
        tested = desk.use(ref_of(index), lambda model: index.test_all(model, feature, texts=texts))
        call = call_of("test_all", ..., feature, texts=texts)
        lines = recipe(where, name, call, shell=curl_of(request, body={"texts": texts}), runs_model=True)
        return reply(request, with_recipe(tested, lines))

    @router.get("/s/{name}/model")
    def model_state(request: Request, *, name: IndexName) -> Response:
        return reply(request, desk.state(ref_of(shelf.index(name))))

    @router.get("/s/{name}/f/{feature}/test")
    def test_by_link(request: Request, *, name: IndexName, feature: Number, text: Text) -> Response:
        return test(request, name, feature=feature, asked=TextBody(text=text))

    @router.post("/s/{name}/f/{feature}/test")
    def test_by_text(request: Request, *, name: IndexName, feature: Number, asked: TextBody) -> Response:
        return test(request, name, feature=feature, asked=asked)

    @router.get("/s/{name}/f/{feature}/tests")
    def tests_by_link(request: Request, *, name: IndexName, feature: Number, text: Texts) -> Response:
        return tests(request, name, feature=feature, texts=text)

    @router.post("/s/{name}/f/{feature}/tests")
    def tests_by_text(request: Request, *, name: IndexName, feature: Number, asked: TextsBody) -> Response:
        return tests(request, name, feature=feature, texts=asked.texts)


def _add_searches(router: APIRouter, shelf: Shelf, desk: ModelDesk) -> None:
    where = shelf.workspace.path

    def search(request: Request, name: str, asked: TextBody) -> Response:
        index = shelf.index(name)
        found = desk.use(ref_of(index), lambda model: index.search(model, asked.text, rank=asked.rank, limit=asked.limit))
        call = call_of("search", ..., asked.text, rank=asked.rank, limit=asked.limit)
        lines = recipe(where, name, call, shell=show_line(where, name, text=asked.text), runs_model=True)
        return reply(request, with_recipe(found, lines))

    def prompts(request: Request, name: str, asked: PromptsBody) -> Response:
        index = shelf.index(name)
        options: dict[str, Any] = asked.model_dump(exclude={"positive"})
        found = desk.use(ref_of(index), lambda model: index.by_prompts(model, asked.positive, **options))
        call = call_of("by_prompts", ..., asked.positive, **options)
        lines = recipe(where, name, call, shell=curl_of(request, body=asked.model_dump()), runs_model=True)
        return reply(request, with_recipe(found, lines))

    @router.get("/s/{name}/search")
    def search_by_link(request: Request, *, name: IndexName, text: Text, rank: Rank = "specific", limit: int = 50) -> Response:
        return search(request, name, TextBody(text=text, rank=rank, limit=max(1, min(limit, 500))))

    @router.post("/s/{name}/search")
    def search_by_text(request: Request, *, name: IndexName, asked: TextBody) -> Response:
        return search(request, name, asked)

    @router.get("/s/{name}/prompts")
    def prompts_by_link(
        request: Request,
        *,
        name: IndexName,
        positive: Texts,
        negative: Texts = [],  # noqa: B006  read only
        rank: Rank = "specific",
        misses: Annotated[int, Query(ge=0, le=MAX_TEXTS)] = 0,
        allow: Annotated[float, Query(ge=0, le=100)] = 0.0,
    ) -> Response:
        return prompts(request, name, PromptsBody(positive=positive, negative=negative, rank=rank, misses=misses, allow=allow))

    @router.post("/s/{name}/prompts")
    def prompts_by_text(request: Request, *, name: IndexName, asked: PromptsBody) -> Response:
        return prompts(request, name, asked)

    @router.get("/s/{name}/token")
    def token(
        request: Request, *, name: IndexName, text: Annotated[str, Query(max_length=MAX_QUERY_CHARS)], spellings: bool = False, limit: Limit = 50
    ) -> Response:
        options: dict[str, Any] = {"spellings": spellings, "limit": limit}
        lines = recipe(where, name, call_of("by_token", text, **options), shell=curl_of(request))
        return reply(request, with_recipe(shelf.index(name).by_token(text, **options), lines))


def _add_sets(router: APIRouter, shelf: Shelf, desk: ModelDesk) -> None:
    where = shelf.workspace.path

    def separate(request: Request, name: str, asked: SetsBody) -> Response:
        index = shelf.index(name)
        options: dict[str, Any] = asked.model_dump(exclude={"positive"})
        found = desk.use(ref_of(index), lambda model: index.separate(model, asked.positive, **options))
        call = call_of("separate", ..., asked.positive, **options)
        lines = recipe(where, name, call, shell=curl_of(request, body=asked.model_dump()), runs_model=True)
        return reply(request, with_recipe(found, lines))

    @router.get("/s/{name}/separate")
    def separate_by_link(
        request: Request, *, name: IndexName, positive: Texts, negative: Texts, pool: Rank = "max", seed: Annotated[int, Query(ge=0, le=2**31)] = 0
    ) -> Response:
        return separate(request, name, SetsBody(positive=positive, negative=negative, pool=pool, seed=seed))

    @router.post("/s/{name}/separate")
    def separate_by_text(request: Request, *, name: IndexName, asked: SetsBody) -> Response:
        return separate(request, name, asked)
