"""The steering page's JSON: one prompt unedited and edited, and dose against effect; each a call of `microtome.steering`."""

import threading
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from microtome.directions import asked
from microtome.errors import QueryInvalid
from microtome.steering import Bench, Controls, EditSet, Feature, Prompt, Sampling, compare, measure_of, side_by_side, spoken_set, sweep
from microtome.steering.serving import Library
from microtome.web.api_texts import MAX_QUERY_CHARS, MAX_TEXT_CHARS, IndexName, ref_of
from microtome.web.model_desk import ModelDesk
from microtome.web.replies import reply, with_recipe
from microtome.web.shelf import Shelf
from microtome.web.steer_recipes import compare_lines, parts_lines, sweep_lines

MAX_EDITS = 16
MAX_EDIT_CHARS = 300
MAX_DOSES = 9
MAX_NEW_TOKENS = 200
_Words = Annotated[str, Field(min_length=1, max_length=MAX_EDIT_CHARS)]


class SteerBody(BaseModel):
    """A prompt, edits in few words, and how continuations are drawn."""

    model_config = ConfigDict(extra="forbid")
    text: str = Field(min_length=1, max_length=MAX_TEXT_CHARS)
    edit: list[_Words] = Field(default=[], max_length=MAX_EDITS)
    """`clamp 17=5max` (a number alone is a feature of this index), `add ocean=4`, `ablate ocean`."""
    chat: bool = False
    system: str = Field(default="", max_length=MAX_TEXT_CHARS)
    tokens: int = Field(default=40, ge=1, le=MAX_NEW_TOKENS)
    temperature: float = Field(default=0.0, ge=0, le=5)
    seed: int = Field(default=0, ge=0, le=2**31)

    @property
    def prompt(self) -> Prompt:
        return asked(self.text, system=self.system) if self.chat or self.system else self.text

    @property
    def sampling(self) -> Sampling:
        return Sampling(max_new_tokens=self.tokens, temperature=self.temperature, seed=self.seed)


class DosesBody(SteerBody):
    """The same, with the doses of a curve."""

    dose: list[Annotated[float, Field(ge=-20, le=20)]] = Field(default=[0.0, 0.5, 1.0, 1.5, 2.0], min_length=1, max_length=MAX_DOSES)
    measure: str = Field(default="kl", max_length=MAX_QUERY_CHARS)
    random: int = Field(default=1, ge=0, le=5)


def steer_routes(shelf: Shelf, desk: ModelDesk) -> APIRouter:
    """`/s/{name}/steer`, `…/doses` and `…/parts`; GET for links and POST for long texts."""
    router, table = APIRouter(prefix="/s/{name}/steer"), _Table(shelf)
    where = shelf.workspace.path

    def both(request: Request, name: str, given: SteerBody) -> Response:
        edits, library = table.edits(name, given.edit)
        ref = ref_of(shelf.index(name))

        def ask(model: Any) -> Any:
            return side_by_side(compare(model, given.prompt, edits=edits, sampling=given.sampling, dictionaries=library.dictionaries))

        found = desk.use(ref, ask)
        return reply(request, with_recipe(found, compare_lines(where, ref, given, edits=edits, request=request)))

    def curve(request: Request, name: str, given: DosesBody) -> Response:
        edits, library = table.edits(name, given.edit)
        ref, measure = ref_of(shelf.index(name)), measure_of(given.measure)

        def ask(model: Any) -> Any:
            bench = Bench(model=model, prompts=[given.prompt], sampling=given.sampling, dictionaries=library.dictionaries)
            return sweep(bench, edits, measure=measure, doses=given.dose, controls=Controls(random=given.random))

        found = desk.use(ref, ask)
        return reply(request, {"doses": found, "reproduce": sweep_lines(where, ref, given, edits=edits, request=request)})

    @router.get("/parts")
    def parts(request: Request, *, name: IndexName) -> Response:
        """What edits may name besides features: the directions of the workspace."""
        shelf.index(name)
        names = shelf.workspace.names("direction")
        return reply(request, {"dictionary": table.dictionary(name), "directions": names, "reproduce": parts_lines(where, request=request)})

    @router.get("")
    def both_by_link(request: Request, *, name: IndexName, given: Annotated[SteerBody, Query()]) -> Response:
        return both(request, name, given)

    @router.post("")
    def both_by_text(request: Request, *, name: IndexName, given: SteerBody) -> Response:
        return both(request, name, given)

    @router.get("/doses")
    def curve_by_link(request: Request, *, name: IndexName, given: Annotated[DosesBody, Query()]) -> Response:
        return curve(request, name, given)

    @router.post("/doses")
    def curve_by_text(request: Request, *, name: IndexName, given: DosesBody) -> Response:
        return curve(request, name, given)

    return router


class _Table:
    """Looks up what the words of edits name: for each index its dictionary's features with their maxima, and the workspace's directions."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._lock = threading.Lock()
        self._libraries: dict[str, Library] = {}

    def dictionary(self, name: str) -> str:
        """The name of the dictionary that an index is of."""
        return self._shelf.workspace.by_id("dictionary", self._shelf.index(name).overview().sources["dictionary_id"]).name

    def edits(self, name: str, words: list[str]) -> tuple[EditSet, Library]:
        """The set, with the dictionaries that it names opened. Raises `QueryInvalid` for no edit, `EditInvalid`, `ArtifactMissing`."""
        if not words:
            do = "Add a feature or a direction, e.g. edit=clamp 17=5max."
            raise QueryInvalid("there is nothing to edit.", got="no edits", wanted="at least one", do=do)
        index, dictionary = self._shelf.index(name), self.dictionary(name)
        with self._lock:
            library = self._libraries.setdefault(f"{name} {index.id}", Library(self._shelf.workspace))

        def component(text: str) -> Any:
            found = library.component(f"{dictionary}/{text}" if text.isdigit() and text.isascii() else text)
            if not isinstance(found, Feature) or found.dictionary != dictionary:
                return found
            return Feature(dictionary=dictionary, index=found.index, max_activation=index.card(found.index).statistics.max)

        return spoken_set(words, component=component), library
