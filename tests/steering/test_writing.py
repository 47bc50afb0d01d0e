from pathlib import Path

import torch
from steering.small import CHAT, tiny_model

from microtome.conversation import Conversation
from microtome.directions import asked
from microtome.models import Site
from microtome.steering import Sampling, Writing, generate

SHORT = Sampling(max_new_tokens=4, ends_at_eos=False)
ASKED = [asked("hello"), asked("and that?", system="be kind"), asked("of the world"), Conversation(turns=CHAT.turns[:2])]


def test_replies_are_the_models_own_in_order():
    model = tiny_model("llama")
    by_hand = [generate(model, each, sampling=SHORT)[0].text for each in ASKED]
    assert Writing(model=model, sampling=SHORT, batch_size=3)(ASKED) == by_hand


def test_batches_on_several_cores_hold_edits_around_them():
    model, threads = tiny_model("llama"), torch.get_num_threads()
    write = Writing(model=model, sampling=SHORT, batch_size=1)
    torch.set_num_threads(2)
    try:
        plain = write(ASKED)
        with model.tap(edit={Site("resid_post", 0): lambda x: 2 * x + 1}):
            edited = write(ASKED)
            by_hand = [generate(model, each, sampling=SHORT)[0].text for each in ASKED]
    finally:
        torch.set_num_threads(threads)
    assert plain == [generate(model, each, sampling=SHORT)[0].text for each in ASKED]
    assert edited == by_hand != plain


def test_a_killed_run_goes_on_with_what_it_kept(tmp_path: Path):
    model, keep = tiny_model("llama"), tmp_path / "replies" / "kept.jsonl"
    whole = Writing(model=model, sampling=SHORT)(ASKED)
    first = Writing(model=model, sampling=SHORT, keep=keep)
    first(ASKED[:2])
    with keep.open("a") as file:
        file.write('{"key": "abc", "rep')  # killed while it wrote
    seen: list[float] = []

    def progress(step: str, done: float, total: float, *, unit: str = "", note: str = "") -> None:
        seen.append(done)

    assert Writing(model=model, sampling=SHORT, keep=keep, progress=progress, batch_size=1)(ASKED) == whole
    assert min(seen) > 2  # the first two were there
    other = Writing(model=model, sampling=Sampling(max_new_tokens=2, ends_at_eos=False), keep=keep)(ASKED[:1])
    assert other != whole[:1]  # other settings, other replies
