import pytest
import torch

from microtome.conversation import Conversation, Turn
from microtome.directions import Passage, Reader, Span, asked
from microtome.errors import ConfigError, NotEnoughTokens
from microtome.models import Site, render, tiny
from microtome.shapes import Tensor

MODEL = tiny("llama")
SITE = Site("resid_post", 1)
TALK = asked("hello in the world", system="be kind", reply="that is it")


def read(passage: Passage, span: str) -> Tensor:
    return Reader(model=MODEL, site=SITE, span=Span.parse(span)).tokens([passage])


def whole(passage: Passage, *, reply: bool = False) -> Tensor:
    tokens = render(MODEL, passage, add_generation_prompt=reply).tokens if isinstance(passage, Conversation) else MODEL.tokenizer.encode(passage)
    return MODEL.capture(torch.tensor([tokens]), [SITE])[SITE][0]


@pytest.mark.parametrize(
    ("span", "expected"),
    [("last", slice(-1, None)), ("last-2", slice(-3, -2)), ("all", slice(1, None)), ("from:3", slice(3, None))],
)
def test_a_span_of_a_text_is_these_tokens(span: str, expected: slice):
    torch.testing.assert_close(read("hello in the world", span), whole("hello in the world")[expected])


def test_the_last_token_of_a_question_is_the_one_before_the_reply():
    question = asked("hello")
    torch.testing.assert_close(read(question, "last"), whole(question, reply=True)[-1:])


def test_a_reply_is_its_own_words():
    turn = render(MODEL, TALK).turns[-1]
    torch.testing.assert_close(read(TALK, "reply"), whole(TALK)[turn.content_start : turn.content_end])


def test_the_template_after_the_words():
    question = asked("hello")
    end = render(MODEL, question, add_generation_prompt=True).turns[-1].content_end
    torch.testing.assert_close(read(question, "template"), whole(question, reply=True)[end:])


def test_every_occurrence_of_a_text_and_all_since_the_last():
    text = "xab yab z"
    pieces = [MODEL.tokenizer.piece(token) for token in MODEL.tokenizer.encode(text)]
    assert pieces == list(text.replace(" ", "·")) or "".join(pieces).replace("Ġ", " ") == text
    torch.testing.assert_close(read(text, "text:ab"), whole(text)[[1, 2, 5, 6]])
    torch.testing.assert_close(read(text, "since:ab"), whole(text)[5:])


def test_rows_are_means_in_the_order_given_whatever_the_batches():
    passages = ["hello in the world", "a", "the user and the assistant", "of"]
    for size in (1, 2, 4):
        rows = Reader(model=MODEL, site=SITE, span=Span(kind="all"), batch_size=size).rows(passages)
        for passage, row in zip(passages, rows, strict=True):
            torch.testing.assert_close(row, whole(passage)[min(1, len(whole(passage)) - 1) :].mean(0), atol=1e-5, rtol=1e-5)


def test_a_span_that_is_not_there_is_named():
    with pytest.raises(NotEnoughTokens, match="passage 0"):
        read("hello", "text:zebra")
    with pytest.raises(NotEnoughTokens, match="reply"):
        read(asked("hello"), "reply")
    with pytest.raises(NotEnoughTokens, match="nothing to read"):
        Reader(model=MODEL, site=SITE).rows([])


@pytest.mark.parametrize("text", ["", "lasst", "from:x", "text:", "last-x", "all:3"])
def test_a_misspelt_span_is_refused(text: str):
    with pytest.raises(ConfigError):
        Span.parse(text)


def test_an_answer_that_is_there_is_read_and_one_that_is_not_is_awaited():
    given = Conversation(turns=(*TALK.turns, Turn(role="user", content="and?")))
    torch.testing.assert_close(read(given, "last"), whole(given, reply=True)[-1:])


def test_two_cores_read_the_same_and_see_the_edits_around_them():
    passages = [f"hello in the world, {n} times" for n in range(5)]
    reader, threads = Reader(model=MODEL, site=SITE, batch_size=2), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        plain = reader.rows(passages)
        assert not MODEL.is_tapped
        with MODEL.tap(edit={Site("resid_pre", 0): lambda x: 2 * x + 1}):
            assert MODEL.is_tapped
            edited = reader.rows(passages)
    finally:
        torch.set_num_threads(threads)
    alone = torch.stack([reader.rows([passage])[0] for passage in passages])
    torch.testing.assert_close(plain, alone, atol=1e-5, rtol=1e-5)
    with MODEL.tap(edit={Site("resid_pre", 0): lambda x: 2 * x + 1}):
        torch.testing.assert_close(edited, reader.rows(passages), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(plain, edited)
