"""The OpenAI protocol, spoken by OpenAI's own client to a real server over a tiny model; what it answers is what `generate` makes."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch
from openai import OpenAI

from microtome.artifacts import Workspace
from microtome.conversation import Conversation, Turn
from microtome.directions import Direction, save_direction
from microtome.models import Model, Site, tiny
from microtome.progress import Progress
from microtome.steering import Add, EditSet, Sampling, Variant, generate, raw, save_variant
from microtome.steering.serving import Limits
from microtome.web import create_app
from tests.web.serving import serving

REF = "tiny:llama@3"
SITE = Site("resid_post", 1)
QUESTION = "hello world, is that the user?"


def direction(seed: int) -> Direction:
    return Direction(name=f"d{seed}", site=SITE, vector=torch.randn(32, generator=torch.Generator().manual_seed(seed)))


def push(seed: int, amount: float = 3.0) -> EditSet:
    return EditSet.of(Add(component=direction(seed), strength=raw(amount)))


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny("llama", seed=3)


@pytest.fixture(scope="module")
def folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the directions d0 and d1, and the variant pirate."""
    place = Workspace(tmp_path_factory.mktemp("workspace"))
    for seed in range(2):
        save_direction(direction(seed), place.place("direction", f"d{seed}"))
    save_variant(Variant(name="pirate", model=REF, fingerprint=model.fingerprint, edits=push(0)), place.place("variant", "pirate"))
    return place.path


def app_of(folder: Path, model: Model, *, limits: Limits | None = None, token: str | None = None) -> Any:
    def loader(ref: str, progress: Progress) -> Model:
        assert ref == REF
        return model

    return create_app(folder, model_loader=loader, models=[REF], token=token, limits=limits or Limits(new_tokens=100))


@pytest.fixture(scope="module")
def address(folder: Path, model: Model) -> Iterator[str]:
    with serving(app_of(folder, model)) as address:
        yield address


def client_of(address: str, *, key: str = "none") -> OpenAI:
    return OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0, timeout=60)


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[OpenAI]:
    with client_of(address) as client:
        yield client


def messages(text: str = QUESTION) -> list[Any]:
    return [{"role": "system", "content": "be kind"}, {"role": "user", "content": text}]


def conversation(text: str = QUESTION) -> Conversation:
    return Conversation(turns=(Turn(role="system", content="be kind"), Turn(role="user", content=text)))


def test_models_and_variants_are_listed(client: OpenAI):
    assert [each.id for each in client.models.list()] == [REF, "pirate"]
    assert client.models.retrieve("pirate").to_dict()["microtome"] == {"model": REF, "edits": push(0).fingerprint}


def test_an_answer_is_what_generate_makes(client: OpenAI, model: Model):
    """Choices with seeds one after the other, log-probabilities, usage, and what the edits did."""
    asked = client.chat.completions.create(
        model=REF, messages=messages(), max_tokens=7, seed=5, n=3, logprobs=True, top_logprobs=2, extra_body={"edits": push(1).to_json()}
    )
    wanted = [
        generate(model, conversation(), edits=push(1), sampling=Sampling(max_new_tokens=7, temperature=1, seed=5 + i, top_logprobs=2))[0]
        for i in range(3)
    ]
    for choice, row in zip(asked.choices, wanted, strict=True):
        assert choice.message.content == row.text
        assert choice.finish_reason == ("stop" if row.ending == "eos" else "length")
        assert choice.logprobs is not None
        told = choice.logprobs.content or []
        assert [each.logprob for each in told] == pytest.approx([each.logprob for each in row.choices[: row.n_spoken]], abs=1e-3)
        assert [bytes(each.bytes or []) for each in told] == [model.tokenizer.token_bytes(token) for token in row.tokens[: row.n_spoken]]
        assert [len(each.top_logprobs) for each in told] == [2] * len(told)
    assert asked.usage is not None
    made = sum(len(row.tokens) for row in wanted)
    assert (asked.usage.prompt_tokens, asked.usage.completion_tokens) == (len(wanted[0].prompt.tokens), made)
    assert asked.system_fingerprint == model.fingerprint
    about = asked.to_dict()["microtome"]
    assert about == {"edits": push(1).fingerprint, "tokens_edited": [row.n_edited for row in wanted], "endings": [row.ending for row in wanted]}


def test_a_stream_is_the_same_in_pieces(client: OpenAI):
    ask: dict[str, Any] = {"model": "pirate", "messages": messages(), "max_tokens": 20, "seed": 1, "n": 2, "logprobs": True, "stop": ["zq", "\x01"]}
    whole = client.chat.completions.create(**ask)
    texts, tokens, reasons, usage = ["", ""], [list[str](), list[str]()], dict[int, str](), None
    for part in client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}):
        usage = part.usage or usage
        for choice in part.choices:
            texts[choice.index] += choice.delta.content or ""
            tokens[choice.index] += [each.token for each in (choice.logprobs.content if choice.logprobs else None) or []]
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    for choice in whole.choices:
        assert texts[choice.index] == choice.message.content
        assert choice.logprobs is not None
        assert tokens[choice.index] == [each.token for each in choice.logprobs.content or []]
        assert reasons[choice.index] == choice.finish_reason
    assert usage == whole.usage


def test_a_variant_is_its_edits_and_names_of_the_workspace_stand_for_directions(client: OpenAI):
    ask: dict[str, Any] = {"messages": messages(), "max_tokens": 12, "temperature": 0}
    plain, pirate = (client.chat.completions.create(model=name, **ask).choices[0].message.content for name in (REF, "pirate"))
    assert plain != pirate
    spelled = [{"edit": "add", "component": "d0", "strength": "3"}]
    assert client.chat.completions.create(model=REF, **ask, extra_body={"edits": spelled}).choices[0].message.content == pirate
    both = client.chat.completions.create(model="pirate", **ask, extra_body={"edits": push(1).to_json()})
    assert both.to_dict()["microtome"]["edits"] == EditSet(edits=(*push(0).edits, *push(1).edits)).fingerprint  # type: ignore[index]  # an extra field


def test_texts_and_tokens_are_continued(client: OpenAI, model: Model):
    tokens = model.tokenizer.encode("the world")
    asked = client.completions.create(model=REF, prompt=["the world", "hello"], max_tokens=6, temperature=0, logprobs=1)
    wanted = generate(model, ["the world", "hello"], sampling=Sampling(max_new_tokens=6))
    assert [choice.text for choice in asked.choices] == [row.text for row in wanted]
    assert asked.choices[0].logprobs is not None
    assert asked.choices[0].logprobs.token_logprobs == pytest.approx([each.logprob for each in wanted[0].choices[: wanted[0].n_spoken]], abs=1e-3)
    assert client.completions.create(model=REF, prompt=tokens, max_tokens=6, temperature=0).choices[0].text == wanted[0].text
    streamed = client.completions.create(model=REF, prompt=[tokens], max_tokens=6, temperature=0, stream=True)
    assert "".join(part.choices[0].text for part in streamed) == wanted[0].text
    for outside in (-1, 10**6):
        with pytest.raises(openai.BadRequestError, match=r"vocabulary|prompt"):
            client.completions.create(model=REF, prompt=[*tokens, outside])


def test_thirty_two_clients_with_edits_of_their_own_get_what_each_gets_alone(client: OpenAI):
    """Half of them greedy, half sampled; lengths and prompts differ."""

    def ask(i: int) -> str | None:
        edits = push(i, amount=(-1) ** i * 4.0).to_json()
        asked = client.chat.completions.create(
            model=REF, messages=messages(QUESTION[: 5 + i % 9]), max_tokens=6 + i, temperature=i % 2, seed=i, extra_body={"edits": edits}
        )
        return asked.choices[0].message.content

    serial = [ask(i) for i in range(32)]
    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(ask, range(32))) == serial
    assert len(set(serial)) > 24


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"model": "pirat"}, openai.NotFoundError, 'Did you mean "pirate"?'),
        ({"extra_body": {"edits": [{"edit": "ad"}]}}, openai.BadRequestError, "add"),
        ({"extra_body": {"edits": [{"edit": "add", "component": "d7", "strength": "1"}]}}, openai.BadRequestError, 'holds no direction "d7"'),
        ({"extra_body": {"edits": [{"edit": "add", "component": "../../x", "strength": "1"}]}}, openai.BadRequestError, "holds no direction"),
        ({"extra_body": {"edits": push(0).to_json() | {"on_conflict": "never"}}}, openai.BadRequestError, "on_conflict"),
        ({"extra_body": {"edit": []}}, openai.BadRequestError, "edit"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, openai.BadRequestError, "tools"),
        ({"frequency_penalty": 0.5}, openai.BadRequestError, "frequency_penalty"),
        ({"max_tokens": 101}, openai.BadRequestError, "at most 100"),
        ({"temperature": -1}, openai.BadRequestError, "temperature"),
        ({"messages": []}, openai.BadRequestError, "messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            openai.BadRequestError,
            "messages.0.content",
        ),
        ({"messages": [{"role": "user", "content": "the " * 200}]}, openai.BadRequestError, "room"),
        ({"stop": [""]}, openai.BadRequestError, "Sampling.stop"),
        ({"seed": 2**64}, openai.BadRequestError, "seed"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_is_an_error_of_four_parts(client: OpenAI, *, change: dict[str, Any], kind: type[openai.APIStatusError], says: str):
    asked: dict[str, Any] = {"model": REF, "messages": messages(), "max_tokens": 3, **change}
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**asked)
    assert isinstance(caught.value.body, dict)
    assert says in str(caught.value.body["message"])
    assert {"what", "got", "wanted", "do", "docs", "type", "param", "code"} <= set(caught.value.body)


def test_an_error_in_a_stream_comes_as_an_event(client: OpenAI):
    """An edit that waits for a token that never comes is known at the end only."""
    never = {"phases": ["generation"], "tokens": [1], "exclude": [{"tokens": [1]}]}
    edits = [{"edit": "add", "component": "d0", "strength": "1", "where": never}]
    with pytest.raises(openai.APIError, match="selects no token"):
        list(client.chat.completions.create(model=REF, messages=messages(), max_tokens=3, stream=True, extra_body={"edits": edits}))


BAD_BODIES: dict[str, tuple[bytes, int]] = {
    "not UTF-8": (b'{"model": "\xff\xfe"}', 400),
    "not JSON": (b"{", 400),
    "no object": (b"[1]", 400),
    "NaN": (b'{"model": "x", "temperature": NaN}', 400),
    "a number of 100,000 digits": (b'{"model": "x", "seed": ' + b"9" * 100_000 + b"}", 400),
    "nested a million deep": (b"[" * 1_000_000, 400),
    "edits nested deep": (json.dumps({"model": REF, "messages": messages(), "edits": 0}).replace("0}", "[" * 200 + "]" * 200 + "}").encode(), 400),
    "nothing": (b"", 400),
    "5 MB": (b"x" * 5_000_000, 413),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_bad_body_is_named_and_harms_nothing(address: str, client: OpenAI, name: str):
    body, status = BAD_BODIES[name]
    answer = httpx.post(f"{address}/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, set(answer.json())) == (status, {"error"})
    assert answer.json()["error"]["do"]
    assert client.models.list().data


def test_a_hundred_megabytes_are_refused_before_they_are_sent(address: str):
    """Announced, and in pieces that are not: the server reads no more than its limit."""

    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 1_000_000

    headers = {"content-type": "application/json"}
    try:
        assert httpx.post(f"{address}/v1/chat/completions", content=b"x" * 100_000_000, headers=headers).status_code == 413
        assert httpx.post(f"{address}/v1/chat/completions", content=pieces(), headers=headers).status_code == 413
    except httpx.TransportError:  # the connection was closed while the client was still sending
        pass
    assert httpx.get(f"{address}/health").json()["status"] == "ok"


def test_a_page_of_another_site_cannot_ask(address: str):
    body = json.dumps({"model": REF, "messages": messages()}).encode()
    for headers, status in (
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/json", "origin": "http://evil.example"}, 403),
        ({"content-type": "application/json", "host": "evil.example"}, 421),
        ({"content-type": "application/json", "sec-fetch-site": "cross-site"}, 403),
    ):
        answer = httpx.post(f"{address}/v1/chat/completions", content=body, headers=headers)
        assert (answer.status_code, list(answer.json())) == (status, ["error"])


def test_a_client_that_goes_away_takes_its_request_back(address: str, client: OpenAI):
    def endings() -> dict[str, float]:
        lines = [line for line in httpx.get(f"{address}/metrics").text.splitlines() if not line.startswith("#")]
        return {
            line.rpartition(" ")[0].partition("{")[0] + line.partition("ending=")[2].split("}")[0]: float(line.rpartition(" ")[2]) for line in lines
        }

    client.chat.completions.create(model=REF, messages=messages(), max_tokens=1)
    before = endings().get('microtome_endings_total"cancelled"', 0)
    body = {"model": REF, "messages": messages(), "max_tokens": 100, "n": 2, "temperature": 0, "stop": ["never said"]}
    with httpx.stream("POST", f"{address}/v1/chat/completions", json={**body, "stream": True}) as streamed:
        assert streamed.status_code == 200
        next(streamed.iter_bytes())
    with pytest.raises(httpx.TimeoutException):
        httpx.post(f"{address}/v1/chat/completions", json=body, timeout=0.02)
    deadline = threading.Event()
    while (now := endings())["microtome_running"] + now["microtome_waiting"] > 0:
        assert not deadline.wait(0.02)
    assert now['microtome_endings_total"cancelled"'] > before


def test_a_full_queue_is_429_and_a_flood_leaves_the_server_alive(folder: Path, model: Model):
    """One row at a time and two that may wait: nearly all of a flood is turned away, what was taken in is answered, and the next one too."""
    with serving(app_of(folder, model, limits=Limits(rows=1, waiting=2, new_tokens=100))) as address, client_of(address) as client:
        first = client.chat.completions.create(model=REF, messages=messages(), max_tokens=5, temperature=0)
        body = json.dumps({"model": REF, "messages": messages(), "max_tokens": 60, "n": 2, "temperature": 0}).encode()
        found: list[tuple[int, Any]] = []

        def flood(n: int) -> None:
            with httpx.Client(headers={"content-type": "application/json"}, timeout=60) as one:
                for _ in range(n):
                    answer = one.post(f"{address}/v1/chat/completions", content=body)
                    found.append((answer.status_code, answer.headers.get("retry-after")))

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(flood, [15] * 16))
        assert len(found) == 240
        assert set(found) <= {(200, None), (429, "1")}
        assert found.count((429, "1")) > 100
        assert found.count((200, None)) > 0
        again = client.chat.completions.create(model=REF, messages=messages(), max_tokens=5, temperature=0)
        assert again.choices[0].message.content == first.choices[0].message.content
        with pytest.raises(openai.BadRequestError, match="at most 2"):
            client.chat.completions.create(model=REF, messages=messages(), n=3)


def test_with_a_token_a_client_shows_it_as_its_key(folder: Path, model: Model):
    with serving(app_of(folder, model, token="secret-word")) as address:
        with client_of(address, key="secret-word") as client:
            assert client.chat.completions.create(model="pirate", messages=messages(), max_tokens=2).choices
        with client_of(address, key="guess") as client, pytest.raises(openai.AuthenticationError, match="token"):
            client.models.list()


def test_health_and_metrics_say_what_was_done(address: str, client: OpenAI):
    asked = client.chat.completions.create(model=REF, messages=messages(), max_tokens=4, temperature=0)
    assert asked.usage is not None
    health = httpx.get(f"{address}/health").json()
    assert health == {"status": "ok", "models": {REF: "ready"}, "rows": {REF: {"waiting": 0, "running": 0}}}
    lines = httpx.get(f"{address}/metrics").text.splitlines()
    figures = {line.split("{")[0]: float(line.split()[-1]) for line in lines if not line.startswith("#")}
    assert figures["microtome_rows_total"] >= 1
    assert figures["microtome_generated_tokens_total"] >= asked.usage.completion_tokens
    assert figures["microtome_step_rows_total"] >= figures["microtome_steps_total"] - figures["microtome_rows_total"]
