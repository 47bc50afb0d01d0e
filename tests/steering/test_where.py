import json

import pytest
from steering.small import CHAT, PROMPTS

from microtome.config import canonical_json, from_dict
from microtome.errors import ConfigError, NotRegistered
from microtome.models import Model
from microtome.steering import Row, Where, Window
from microtome.steering.layout import row_of


def chosen(model: Model, where: Where, row: Row) -> str:
    """The text of the tokens selected."""
    kept = where.select(row, model.tokenizer)
    return model.tokenizer.text(token for token, keep in zip(row.tokens, kept, strict=True) if keep)


def reply(model: Model, text: str, *, after: Row) -> Row:
    return Row(tokens=(*after.tokens, *model.tokenizer.encode(text)), turns=after.turns, n_prompt=len(after.tokens))


REPLY_OPENS = "<|im_start|>assistant\n"
WHOLE = f"<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhello world<|im_end|>\n{REPLY_OPENS}is it?<|im_end|>\n{REPLY_OPENS}it is"
CHATS = [
    (Where(), WHOLE),
    (Where(roles=("user",), part="content"), "hello world"),
    (Where(roles=("user",), part="template"), "<|im_start|>user\n<|im_end|>\n"),
    (Where(roles=("assistant",), part="content"), "is it?it is"),
    (Where(roles=("assistant",), part="content", phases=("generation",)), "it is"),
    (Where(turns=(-1,), part="content"), "is it?"),
    (Where(turns=(0, 3), part="content"), "be kindit is"),
    (Where(phases=("generation",)), "it is"),
    (Where(steps=(Window(stop=1),)), "i"),
    (Where(text="kind"), "kind"),
    (Where(text="sist"), "assistantassistant"),
    (Where(since="is it"), "is it?<|im_end|>\n<|im_start|>assistant\nit is"),
    (Where(since="is it", exclude=(Where(predicate="special"), Where(predicate="newline"))), "is it?assistantit is"),
    (Where(any_of=(Where(roles=("system",)), Where(phases=("generation",))), part="content"), "be kindit is"),
    (Where(predicate="special"), "<|im_start|><|im_end|>" * 3 + "<|im_start|>"),
    (Where(matches="^[?]$"), "?"),
    (Where(text="absent"), ""),
    (Where(roles=("text",)), ""),
]


@pytest.mark.parametrize(("where", "wanted"), CHATS, ids=[canonical_json(where)[:80] for where, _ in CHATS])
def test_a_clause_selects_tokens_of_a_chat(llama: Model, where: Where, wanted: str):
    row = reply(llama, "it is", after=row_of(llama, CHAT))
    assert chosen(llama, where, row) == wanted


@pytest.mark.parametrize(("where", "_"), CHATS)
def test_json_both_ways_gives_the_same_clause(where: Where, _: str):
    read = from_dict(Where, json.loads(canonical_json(where)))
    assert read == where
    assert read.fingerprint == where.fingerprint


def test_positions_are_of_the_prompt_and_a_plain_text_has_the_role_text(llama: Model):
    row = reply(llama, "!!", after=row_of(llama, PROMPTS[0]))
    whole = llama.tokenizer.text(row.prompt)
    assert chosen(llama, Where(positions=(Window(start=-1),)), row) == llama.tokenizer.text(row.prompt[-1:])
    assert chosen(llama, Where(positions=(Window(start=1, stop=-1),)), row) == llama.tokenizer.text(row.prompt[1:-1])
    assert chosen(llama, Where(positions=(Window(stop=1),), steps=(Window(start=1),)), row) == ""
    assert chosen(llama, Where(roles=("text",)), row) == whole + "!!"
    assert chosen(llama, Where(tokens=row.prompt[:1], phases=("prompt",)), row).startswith(llama.tokenizer.text(row.prompt[:1]))


def test_what_is_selected_does_not_depend_on_what_comes_later(llama: Model):
    """A clause is answered token by token, so a longer reply changes nothing before it."""
    prompt = row_of(llama, CHAT)
    short, long = reply(llama, "it is", after=prompt), reply(llama, "it is not what is", after=prompt)
    for where, _ in CHATS:
        answers = where.select(short, llama.tokenizer)
        assert where.select(long, llama.tokenizer)[: len(answers)] == answers


@pytest.mark.parametrize(
    "wrong",
    [
        {"roles": ["wizard"]},
        {"steps": [{"start": -1}]},
        {"phases": ["decode"]},
        {"matches": "("},
        {"text": ""},
        {"rolls": ["user"]},
    ],
    ids=str,
)
def test_a_wrong_clause_says_what_would_be_right(wrong: dict[str, object]):
    with pytest.raises(ConfigError) as caught:
        from_dict(Where, wrong)
    assert caught.value.wanted
    assert caught.value.do


def test_an_unknown_predicate_names_the_known_ones():
    with pytest.raises(NotRegistered, match="newline"):
        Where(predicate="newlines")
