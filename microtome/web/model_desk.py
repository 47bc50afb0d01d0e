"""The model behind the text boxes: loaded on the first question, by one thread, with its progress to be seen."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from microtome.errors import ModelBusy
from microtome.models import Model, load
from microtome.progress import Progress

ModelLoader = Callable[[str, Progress], Model]
Answer = TypeVar("Answer")
SEATS = 5
"""Questions that may be answered or wait at a time."""


@dataclass(frozen=True, kw_only=True)
class ModelState:
    """Where the loading of a model stands."""

    ref: str
    state: str
    """`cold` (nobody asked yet), `loading`, `ready` or `failed`."""
    step: str = ""
    """What is being done, while loading."""
    done: float = 0.0
    total: float = 0.0
    """`done` of `total` in the step's own unit; 0 when not known."""
    unit: str = ""


def load_model(ref: str, progress: Progress) -> Model:
    """The loader that the server uses unless it is given another."""
    return load(ref, progress=progress)


class ModelDesk:
    """Loads each model once. `use` waits for it; the state can be read meanwhile from another thread. A failure is tried again when asked again.

    Whoever waits holds one of the server's threads, so only a few may: the pages that need no model go on answering.
    """

    def __init__(self, loader: ModelLoader | None = None) -> None:
        self._loader = loader or load_model
        self._seats = threading.BoundedSemaphore(SEATS)
        self._lock = threading.Lock()
        self._models: dict[str, Model] = {}
        self._states: dict[str, ModelState] = {}

    def state(self, ref: str) -> ModelState:
        return self._states.get(ref, ModelState(ref=ref, state="cold"))

    def use(self, ref: str, ask: Callable[[Model], Answer]) -> Answer:
        """`ask(model)`, with the model loaded if it is not, one question at a time. Raises `ModelBusy` when `SEATS` others ask."""
        if not self._seats.acquire(blocking=False):
            do = "Ask again in a moment." if self.state(ref).state != "loading" else "The model is being loaded: ask again when it is there."
            raise ModelBusy("too many questions wait for the model.", got=f"{SEATS} before this one", wanted=f"at most {SEATS} at a time", do=do)
        try:
            with self._lock:
                return ask(self._loaded(ref))
        finally:
            self._seats.release()

    def model(self, ref: str) -> Model:
        """The model, loaded if it is not; for who answers many questions at once and sees to it that not too many wait."""
        with self._lock:
            return self._loaded(ref)

    def _loaded(self, ref: str) -> Model:
        if ref not in self._models:
            self._models[ref] = self._load(ref)
        return self._models[ref]

    def _load(self, ref: str) -> Model:
        def progress(step: str, done: float, total: float, *, unit: str = "", note: str = "") -> None:
            self._states[ref] = ModelState(ref=ref, state="loading", step=step, done=done, total=total, unit=unit)

        self._states[ref] = ModelState(ref=ref, state="loading", step="starting")
        ready = False
        try:
            model = self._loader(ref, progress)
            ready = True
        finally:
            self._states[ref] = ModelState(ref=ref, state="ready" if ready else "failed")
        return model
