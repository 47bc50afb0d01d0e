"""Many requests at once: every row is what it would be alone, and none sees another."""

import threading
from dataclasses import replace
from itertools import cycle, islice
from time import sleep

import pytest
import torch
from steering.small import CHAT, CONDITIONALS, DICTIONARIES, EDITS, PROMPTS, SITE, direction, tiny_model

from microtome.errors import EditInvalid, ModelBusy, NothingToEdit, QueryInvalid, TokenOutOfRange
from microtome.models import TINY_FAMILIES, Model
from microtome.steering import Add, EditSet, Generation, KVEdit, Prompt, Row, Sampling, Where, Window, generate, kv_difference, raw
from microtome.steering.serving import Engine, Limits, Piece, Request

FREE = Sampling(max_new_tokens=8, ends_at_eos=False)


def every_edit(model: Model) -> list[EditSet]:
    cached = kv_difference(model, [PROMPTS[0]], negative=[PROMPTS[1]], layer=1)
    assert cached.values is not None
    edits = [*EDITS.values(), *CONDITIONALS.values(), KVEdit(layer=1, values=tuple(20 * value for value in cached.values))]
    return [EditSet(edits=(edit,), on_unmatched="allow") for edit in edits]


def requests(model: Model) -> list[Request]:
    """One for each edit, and two without: prompts, lengths, temperatures and seeds differ."""
    prompts: list[Prompt] = [*PROMPTS, CHAT, PROMPTS[0][:1]]
    sets = [*every_edit(model), EditSet(), EditSet()]
    lengths, heats = cycle((3, 9, 6, 1, 14)), cycle((0.0, 1.0, 0.0))
    return [
        Request(
            prompt=prompts[i % len(prompts)],
            edits=edits,
            sampling=Sampling(max_new_tokens=next(lengths), temperature=next(heats), seed=i, ends_at_eos=False, top_logprobs=1),
            dictionaries=DICTIONARIES,
        )
        for i, edits in enumerate(sets)
    ]


def alone(model: Model, asked: Request) -> Generation:
    return generate(model, asked.prompt, edits=asked.edits, sampling=asked.sampling, dictionaries=asked.dictionaries)[0]


def same(left: Generation, right: Generation) -> None:
    assert left.tokens == right.tokens
    assert (left.text, left.ending, left.n_edited) == (right.text, right.ending, right.n_edited)
    assert [(count.selected, count.edited) for count in left.counts] == [(count.selected, count.edited) for count in right.counts]
    assert [each.logprob for each in left.choices] == pytest.approx([each.logprob for each in right.choices], abs=2e-4)


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_rows_that_come_and_go_are_what_they_are_alone(family: str):
    """Every edit, in rows of five lengths, seven at a time: each step some begin and some end. A third of the rows are compared for each family."""
    model = tiny_model(family)
    asked = requests(model)
    made = Engine(model, limits=Limits(rows=7)).generate(asked)
    for request, row in list(zip(asked, made, strict=True))[TINY_FAMILIES.index(family) % 3 :: 3]:
        same(row, alone(model, request))


def test_long_rows_pass_the_sliding_window():
    """Mistral's window is 16: rows of other lengths beyond it, joined late, one of them ending first."""
    model = tiny_model("mistral")
    texts = [" ".join(islice(cycle(("the world", "hello", "and the user of")), n)) for n in (3, 14, 8, 22, 1)]
    asked = [Request(prompt=text, sampling=Sampling(max_new_tokens=12 + 4 * i, ends_at_eos=False)) for i, text in enumerate(texts)]
    made = Engine(model, limits=Limits(rows=2)).generate(asked)
    for request, row in zip(asked, made, strict=True):
        same(row, alone(model, request))


def test_an_edit_of_one_row_never_reaches_another(llama: Model):
    """The strongest leak test there is: a row beside rows under enormous edits is what it is beside none."""
    quiet = Request(prompt=PROMPTS[1], sampling=replace(FREE, max_new_tokens=20))
    loud = [
        Request(prompt=prompt, edits=EditSet.of(Add(component=direction(i), strength=raw(1e4))), sampling=replace(FREE, max_new_tokens=5 + i))
        for i, prompt in enumerate([*PROMPTS, CHAT, PROMPTS[0]])
    ]
    made = Engine(llama).generate([*loud[:2], quiet, *loud[2:]])
    same(made[2], alone(llama, quiet))
    assert {each.n_edited for each in made} - {0} != set()
    assert made[2].n_edited == 0


def test_the_model_is_as_it_was(llama: Model):
    tokens = torch.tensor([llama.tokenizer.encode(PROMPTS[0])])
    before = llama.logits(tokens)
    engine = Engine(llama)
    tickets = engine.submit(requests(llama))
    while not all(ticket.future.done() for ticket in tickets):
        assert torch.equal(llama.logits(tokens), before)  # another thread's forwards meet none of the engine's edits
    assert torch.equal(llama.logits(tokens), before)


def test_pieces_make_the_text_and_a_stop_across_tokens_is_never_shown(llama: Model):
    warm = replace(FREE, max_new_tokens=24, temperature=1.0, seed=2)
    free = generate(llama, PROMPTS[0], sampling=warm)[0]
    offsets = [sum(len(choice.text) for choice in free.choices[:i]) for i in range(len(free.choices))]
    cut = next(at for at in offsets[10:] if free.text.find(free.text[at - 1 : at + 2]) == at - 1)
    stop = free.text[cut - 1 : cut + 2]  # from the end of one token into the next
    pieces: list[Piece] = []
    request = Request(prompt=PROMPTS[0], sampling=replace(warm, stop=(stop, "never said")))
    (ticket,) = Engine(llama).submit([request], on_piece=pieces.append)
    made = ticket.result()
    assert (made.ending, made.text) == ("stop", free.text[: cut - 1])
    assert "".join(piece.text for piece in pieces) == made.text
    shown = [choice for piece in pieces for choice in piece.choices]
    assert shown == list(made.choices[: len(shown)])
    assert len("".join(choice.text for choice in shown[:-1])) < len(made.text) <= len("".join(choice.text for choice in shown))
    assert len(pieces) > 2


def test_a_cancelled_row_ends_and_the_others_go_on(llama: Model):
    engine = Engine(llama)
    seen = threading.Event()

    def note(piece: Piece) -> None:
        if piece.row == 0:
            seen.set()

    long, short = Request(prompt=PROMPTS[0], sampling=replace(FREE, max_new_tokens=100)), Request(prompt=PROMPTS[1], sampling=FREE)
    first, second = engine.submit([long, short], on_piece=note)
    assert seen.wait(20)
    first.cancel()
    cancelled = first.result()
    assert cancelled.ending == "cancelled"
    assert 0 < len(cancelled.tokens) < 100
    assert cancelled.tokens == alone(llama, long).tokens[: len(cancelled.tokens)]
    same(second.result(), alone(llama, short))
    waiting = engine.metrics()
    assert (waiting.running, waiting.waiting, waiting.endings) == (0, 0, {"cancelled": 1, "length": 1})


def test_a_full_queue_says_so_and_takes_all_or_none(llama: Model):
    engine = Engine(llama, limits=Limits(rows=1, waiting=3))
    held = threading.Event()
    long = Request(prompt=PROMPTS[0], sampling=replace(FREE, max_new_tokens=60))
    first = engine.submit([long], on_piece=lambda _: (held.wait(20), None)[1])[0]
    while engine.metrics().running == 0:
        pass
    engine.submit([long, long])
    with pytest.raises(ModelBusy, match="no room"):
        engine.submit([long, long])
    (last,) = engine.submit([long])
    held.set()
    assert last.result().tokens == first.result().tokens
    found = engine.metrics()
    assert (found.rows, found.refused, found.endings) == (4, 2, {"length": 4})
    assert found.generated_tokens == 240


def test_time_ends_a_row_with_what_it_has_and_a_waiting_one_with_an_error(llama: Model):
    engine = Engine(llama, limits=Limits(rows=1, seconds=0.2))
    long = Request(prompt=PROMPTS[0], sampling=replace(FREE, max_new_tokens=100))
    first, second = engine.submit([long, long], on_piece=lambda _: sleep(0.05))
    made = first.result()
    assert (made.ending, len(made.tokens) < 100) == ("time", True)
    with pytest.raises(ModelBusy, match="time ended"):
        second.result()


def test_what_can_be_refused_is_refused_at_once_and_leaves_no_seat_taken(llama: Model):
    engine = Engine(llama, limits=Limits(new_tokens=50))
    nowhere = EditSet.of(Add(component=direction(), strength=raw(1), where=Where(text="not in the prompt")))
    for wrong, kind in (
        (Request(prompt=PROMPTS[0], edits=nowhere, sampling=FREE), NothingToEdit),
        (Request(prompt=PROMPTS[0], sampling=Sampling(max_new_tokens=51)), QueryInvalid),
        (Request(prompt="", sampling=FREE), TokenOutOfRange),
        (Request(prompt=Row(tokens=(5, 10**6)), sampling=FREE), TokenOutOfRange),
        (Request(prompt="the " * 200, sampling=FREE), TokenOutOfRange),
    ):
        with pytest.raises(kind):
            engine.submit([Request(prompt=PROMPTS[0], sampling=FREE), wrong])
    assert engine.metrics().waiting == 0


def test_an_edit_that_breaks_one_row_breaks_only_that(llama: Model):
    huge = EditSet.of(Add(component=direction(), strength=raw(1e38), where=Where(steps=(Window(start=1),))))
    broken = Request(prompt=PROMPTS[0], edits=huge, sampling=FREE)
    fine = Request(prompt=PROMPTS[1], edits=EditSet.of(EDITS["add"]), sampling=FREE)
    first, second = Engine(llama).submit([broken, fine])
    with pytest.raises(EditInvalid, match="not finite"):
        first.result()
    same(second.result(), alone(llama, fine))


def test_an_edit_that_waits_in_vain_is_an_error_at_the_end(llama: Model):
    late = EditSet.of(Add(component=direction(), strength=raw(1), where=Where(phases=("generation",), tokens=(1,), exclude=(Where(tokens=(1,)),))))
    (ticket,) = Engine(llama).submit([Request(prompt=PROMPTS[0], edits=late, sampling=FREE)])
    with pytest.raises(NothingToEdit):
        ticket.result()


def test_a_closed_engine_ends_what_it_has(llama: Model):
    engine = Engine(llama, limits=Limits(rows=1))
    long = Request(prompt=PROMPTS[0], sampling=replace(FREE, max_new_tokens=100))
    began = threading.Event()
    first, second = engine.submit([long, long], on_piece=lambda _: began.set())
    assert began.wait(20)
    engine.close()
    for ticket in (first, second):
        with pytest.raises(ModelBusy, match="ending"):
            ticket.result()
    with pytest.raises(ModelBusy):
        engine.submit([long])


def test_a_draw_from_the_head_is_the_draw_from_all():
    """Against sorting everything, over settings whose mass lies within, beyond and at the edge of the head."""
    from microtome.steering.sampling import _HEAD, Stream, _drawn

    random, stream = torch.Generator().manual_seed(0), Stream(Sampling(seed=1))
    for spread in (0.01, 1.0, 6.0):
        scores = spread * torch.randn(4 * _HEAD, generator=random)
        scores[5:25] = scores[4]  # ties
        for settings in ({}, {"top_p": 0.9}, {"top_p": 0.05}, {"top_k": 7}, {"top_k": _HEAD + 9}, {"top_k": 300, "top_p": 0.99}):
            sampling = Sampling(temperature=0.8, **settings)  # type: ignore[arg-type]  # of two types
            ordered = scores.double().sort(descending=True, stable=True)
            cumulative = (ordered.values / 0.8).softmax(-1).cumsum(-1)
            kept = min(int((cumulative < sampling.top_p).sum()) + 1, sampling.top_k or len(scores), len(scores))
            for _ in range(20):
                numbers = stream.draw(len(scores))
                times = numbers[ordered.indices[:kept]].double() / (ordered.values[:kept] / 0.8).exp()
                assert _drawn(scores, sampling, numbers=numbers) == int(ordered.indices[int(times.argmin())])


def test_a_rounding_of_the_logits_does_not_change_what_is_drawn():
    """Flat logits of a large vocabulary, where thousands of tokens lie closer together than sums of another order differ."""
    from microtome.steering.sampling import Stream, _drawn

    random, stream, sampling = torch.Generator().manual_seed(0), Stream(Sampling(seed=1)), Sampling(temperature=1.0)
    scores = torch.randn(50_000, generator=random)
    same = 0
    for _ in range(200):
        numbers = stream.draw(len(scores))
        rounded = scores + 1e-5 * torch.randn(50_000, generator=random)
        same += _drawn(scores, sampling, numbers=numbers) == _drawn(rounded, sampling, numbers=numbers)
    assert same == 200


def test_the_tests_reach_the_site(llama: Model):
    """The small direction moves SITE: a test that compares nothing would pass with edits that do nothing."""
    asked = [each for each in requests(llama) if each.edits.edits]
    moved = [alone(llama, each).tokens != alone(llama, replace(each, edits=EditSet())).tokens for each in asked]
    assert sum(moved) > len(moved) / 3
    assert llama.has(SITE)
