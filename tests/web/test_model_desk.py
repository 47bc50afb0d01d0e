"""The model is loaded once, on the first question, and its progress can be seen meanwhile."""

import threading
import time
from pathlib import Path

import httpx
import pytest

from microtome.errors import ModelNotFound
from microtome.models import Model
from microtome.progress import Progress
from microtome.web import ModelDesk, create_app
from microtome.web.model_desk import SEATS
from tests.web.serving import serving
from tests.web.small import INDEX


def test_it_loads_once_and_shows_how_far(model: Model) -> None:
    loading, go_on = threading.Event(), threading.Event()
    loads: list[str] = []

    def loader(ref: str, progress: Progress) -> Model:
        loads.append(ref)
        progress("reading weights", 1, 4, unit="files")
        loading.set()
        assert go_on.wait(10)
        return model

    desk = ModelDesk(loader)
    assert desk.state("tiny").state == "cold"
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(desk.use("tiny", lambda got: got.n_layers))) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert loading.wait(10)
    state = desk.state("tiny")
    assert (state.state, state.step, state.done, state.total) == ("loading", "reading weights", 1, 4)
    go_on.set()
    for thread in threads:
        thread.join()
    assert (loads, answers) == (["tiny"], [model.n_layers] * 3)
    assert desk.state("tiny").state == "ready"


def test_only_a_few_may_wait_and_pages_answer_meanwhile(model: Model, workspace: Path) -> None:
    loading, go_on = threading.Event(), threading.Event()

    def loader(ref: str, progress: Progress) -> Model:
        loading.set()
        assert go_on.wait(60)
        return model

    asked: list[tuple[int, str]] = []

    def ask(address: str) -> None:
        answer = httpx.get(f"{address}/api/s/{INDEX}/search?text=the", timeout=60)
        asked.append((answer.status_code, answer.json().get("error", "")))

    with serving(create_app(workspace, model_loader=loader)) as address:
        threads = [threading.Thread(target=ask, args=(address,)) for _ in range(48)]
        try:
            for thread in threads:
                thread.start()
            assert loading.wait(30)
            page = httpx.get(f"{address}/api/s/{INDEX}/f/3", timeout=20)
            while len(asked) < 48 - SEATS:
                time.sleep(0.05)
        finally:
            go_on.set()
            for thread in threads:
                thread.join()
    assert page.status_code == 200
    assert sorted(asked) == [(200, "")] * SEATS + [(503, "ModelBusy")] * (48 - SEATS)


def test_a_failed_load_is_reported_and_tried_again(model: Model) -> None:
    tries: list[str] = []

    def loader(ref: str, progress: Progress) -> Model:
        tries.append(ref)
        if len(tries) == 1:
            raise ModelNotFound("no such model.", got=ref, do="Try again.")
        return model

    desk = ModelDesk(loader)
    with pytest.raises(ModelNotFound):
        desk.use("tiny", lambda got: got)
    assert desk.state("tiny").state == "failed"
    assert desk.use("tiny", lambda got: got) is model
