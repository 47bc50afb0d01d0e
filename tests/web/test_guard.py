"""Which requests come in, by where they say they come from."""

from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from microtome.web import create_app
from microtome.web.guard import MAX_BODY_BYTES, is_loopback

SEARCH = "/api/s/small/search"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8765", "localhost:1", "[::1]:8765"])
def test_loopback_names_are_let_in(app: FastAPI, host: str) -> None:
    assert TestClient(app, base_url=f"http://{host}").get("/api").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8765", "10.0.0.8", ""])
def test_other_hosts_are_refused(client: TestClient, host: str) -> None:
    answer = client.get("/api", headers={"host": host})
    assert answer.status_code == 421
    assert answer.json()["error"] == "RequestRefused"


@pytest.mark.parametrize("token", [None, "secret-word"])
@pytest.mark.parametrize("headers", [{"host": "[::1"}, {"host": "127.0.0.1", "origin": "http://[::1"}])
def test_an_address_that_cannot_be_read_is_refused(workspace: Path, token: str | None, headers: dict[str, str]) -> None:
    shown = {"authorization": f"Bearer {token}"} if token else {}
    answer = TestClient(create_app(workspace, token=token), base_url="http://127.0.0.1").get("/api", headers=headers | shown)
    assert answer.status_code in (403, 421)
    assert answer.json()["error"] == "RequestRefused"


def test_a_foreign_origin_is_refused_and_our_own_is_not(client: TestClient) -> None:
    foreign = client.post(SEARCH, json={"text": "the"}, headers={"origin": "http://evil.example", "x-microtome": "1"})
    assert foreign.status_code == 403
    assert foreign.json()["got"] == "http://evil.example"
    other_port = client.get("/api", headers={"origin": "http://127.0.0.1:9"})
    assert other_port.status_code == 403
    assert client.get("/api", headers={"origin": "http://127.0.0.1"}).status_code == 200


def test_a_picture_or_script_of_another_site_cannot_ask_but_a_typed_address_can(client: TestClient) -> None:
    assert client.get("/api", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}).status_code == 403
    assert client.get("/api", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}).status_code == 200
    assert client.get("/api", headers={"sec-fetch-site": "none"}).status_code == 200


@pytest.mark.parametrize("path", [SEARCH, "/api/s/small/f/0/test", "/api/s/small/f/0/label", "/api/s/small/f/0/notes"])
def test_writes_need_the_header(client: TestClient, path: str) -> None:
    answer = client.post(path, json={"text": "the"})
    assert answer.status_code == 403
    assert "X-Microtome" in answer.json()["do"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_refused_whether_or_not_it_is_announced(client: TestClient, chunked: bool) -> None:
    body = b"x" * (MAX_BODY_BYTES + 1)
    content = iter([body[:1000], body[1000:]]) if chunked else body
    answer = client.post(SEARCH, content=content, headers={"x-microtome": "1", "content-type": "application/json"})
    assert answer.status_code == 413


def test_with_a_token_every_request_must_show_it(workspace: Path) -> None:
    guarded = create_app(workspace, token="secret-word")

    def visitor() -> TestClient:
        return TestClient(guarded, base_url="http://192.0.2.7:8765")

    for path in ("/", "/api", "/static/main.js", "/?token=wrong"):
        assert visitor().get(path).status_code == 401, path
    assert visitor().get("/api", headers={"authorization": "Bearer secret-word"}).status_code == 200
    browser = visitor()
    first = browser.get("/?token=secret-word")
    assert first.status_code == 200
    assert "HttpOnly" in first.headers["set-cookie"]
    assert "SameSite=Strict" in first.headers["set-cookie"]
    assert browser.get("/api").status_code == 200


@pytest.mark.parametrize("path", ["/", "/api", "/api/nothing", "/static/main.js", "/static/nothing.js"])
def test_every_answer_carries_the_content_policy(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.8.9.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("a.localhost.b", False)]
)
def test_what_counts_as_this_machine(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
