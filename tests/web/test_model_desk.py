"""The model is loaded once, on the first question, and its progress can be seen meanwhile."""

import threading

import pytest

from microtome.errors import ModelNotFound
from microtome.models import Model
from microtome.progress import Progress
from microtome.web import ModelDesk


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
