"""Which models a server offers: those it was told to, those of its indexes, and the saved variants; each with an engine of its own."""

import asyncio
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from microtome.errors import MicrotomeError, ModelBusy, ModelNotFound, nearest
from microtome.models import Model
from microtome.steering import EditSet, Variant
from microtome.steering.serving import Engine, Library, Limits, Metrics, OnPiece, Request, Ticket
from microtome.web.completions.asked import Asked
from microtome.web.model_desk import ModelDesk
from microtome.web.shelf import Shelf

READERS = 4
"""Threads that load models and read prompts."""
WAITING_TO_BE_READ = 256


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One name that a request may give as its model."""

    name: str
    model: str
    """The reference of the model itself."""
    edits: str | None = None
    """Fingerprint of a variant's edits."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """A request that was taken in."""

    offer: Offer
    model: Model
    fingerprint: str
    """Of the model."""
    edits: EditSet
    tickets: tuple[Ticket, ...]


class Offers:
    """Finds the model that a request names, and hands the request to its engine."""

    def __init__(self, shelf: Shelf, desk: ModelDesk, *, models: Iterable[str] = (), limits: Limits = Limits()) -> None:  # noqa: B008  # frozen
        self.limits = limits
        self.library = Library(shelf.workspace, maximum=self._maximum)
        self._shelf = shelf
        self._desk = desk
        self._given = tuple(models)
        self._lock = threading.Lock()
        self._engines: dict[str, Engine] = {}
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="microtome-reader")
        self._unread = 0

    def list(self) -> tuple[Offer, ...]:
        """Every name, models first. A variant that cannot be read, or that has a model's name, is left out."""
        variants = [variant for name in self.library.workspace.names("variant") if (variant := self._variant(name)) is not None]
        refs = dict.fromkeys([*self._given, *self._of_indexes(), *(variant.model for variant in variants)])
        of_variants = [Offer(name=each.name, model=each.model, edits=each.edits.fingerprint) for each in variants if each.name not in refs]
        return (*(Offer(name=ref, model=ref) for ref in refs), *of_variants)

    def find(self, name: str) -> Offer:
        """The offer of that name. Raises `ModelNotFound`."""
        if name in self._given or name in self._engines:
            return Offer(name=name, model=name)
        offers = {offer.name: offer for offer in self.list()}
        if name not in offers:
            do = nearest(name, offers) if offers else "Start the server with --model demo, or save a variant with `microtome steer … --save-as NAME`."
            raise ModelNotFound(f'no model "{name}" is offered here.', got=name, wanted=", ".join(offers) or "none is offered yet", do=do)
        return offers[name]

    async def take(self, asked: Asked, *, on_piece: OnPiece | None) -> Order:
        """Read the request in a thread and put it into its engine's queue. Raises what is wrong with it; `ModelBusy` when too many wait."""
        if self._unread >= WAITING_TO_BE_READ:
            wanted, do = f"at most {WAITING_TO_BE_READ} at a time", "Ask again in a moment."
            raise ModelBusy("too many requests wait to be read.", got=f"{self._unread} before this one", wanted=wanted, do=do)
        self._unread += 1
        reading = asyncio.get_running_loop().run_in_executor(self._readers, self._take, asked, on_piece)
        reading.add_done_callback(self._has_read)
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            reading.add_done_callback(_take_back)
            raise

    def metrics(self) -> Mapping[str, Metrics]:
        """Of each engine, by its model's reference."""
        with self._lock:
            return {ref: engine.metrics() for ref, engine in self._engines.items()}

    def states(self) -> Mapping[str, str]:
        """Of each model, whether it is loaded."""
        return {ref: self._desk.state(ref).state for ref in dict.fromkeys(offer.model for offer in self.list())}

    def _take(self, asked: Asked, on_piece: OnPiece | None) -> Order:
        offer = self.find(asked.model)
        edits = self._edits(offer, asked.edits)
        engine = self._engine(offer.model)
        rows = [
            row
            for prompt in asked.prompts
            for row in Request(prompt=prompt, edits=edits, sampling=asked.sampling, dictionaries=self.library.dictionaries).choices(asked.n)
        ]
        fingerprint = engine.model.fingerprint
        return Order(offer=offer, model=engine.model, fingerprint=fingerprint, edits=edits, tickets=engine.submit(rows, on_piece=on_piece))

    def _edits(self, offer: Offer, given: object) -> EditSet:
        """Those of the variant, then those of the request; the request's policies hold where it states a set with its own."""
        asked = EditSet() if given is None else self.library.edits(given)
        if offer.edits is None:
            return asked
        kept = self.library.variant(offer.name).edits
        self.library.open_named(kept)
        rules = asked if isinstance(given, Mapping) else kept
        return EditSet(edits=(*kept.edits, *asked.edits), on_conflict=rules.on_conflict, on_unmatched=rules.on_unmatched)

    def _engine(self, ref: str) -> Engine:
        model = self._desk.model(ref)
        with self._lock:
            if ref not in self._engines:
                self._engines[ref] = Engine(model, limits=self.limits)
            return self._engines[ref]

    def _has_read(self, reading: "asyncio.Future[Order]") -> None:
        self._unread -= 1

    def _variant(self, name: str) -> Variant | None:
        try:
            return self.library.variant(name)
        except MicrotomeError:
            return None

    def _of_indexes(self) -> Iterable[str]:
        for entry in self._shelf.list().indexes:
            try:
                yield self._shelf.index(entry.name).overview().sources["model"]
            except MicrotomeError:
                continue

    def _maximum(self, dictionary: str, index: int) -> float | None:
        if dictionary not in self.library.workspace.names("index"):
            return None
        opened = self._shelf.index(dictionary)
        return opened.card(index).statistics.max if 0 <= index < opened.n_features else None


def _take_back(reading: "asyncio.Future[Order]") -> None:
    """Nobody waits for it any more."""
    if not reading.cancelled() and reading.exception() is None:
        for ticket in reading.result().tickets:
            ticket.cancel()
