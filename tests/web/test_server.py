"""Listening: a free port, a taken one, and a token off loopback."""

import socket
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import uvicorn

from microtome.errors import ConfigError, PortTaken
from microtome.web import serve, server
from microtome.web.api_texts import MAX_TEXT_CHARS
from tests.web.small import INDEX


def test_a_taken_port_is_named_and_a_free_one_offered() -> None:
    with server.listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(PortTaken) as caught:
            server.listen("127.0.0.1", port)
    assert str(port) in caught.value.what
    offered = int(caught.value.do.rsplit(" ", 1)[1].rstrip("."))
    with server.listen("127.0.0.1", offered) as second:
        assert second.getsockname()[1] == offered


def test_small_answers_do_not_wait_for_a_full_packet() -> None:
    """asyncio sets TCP_NODELAY only on sockets that name their protocol; without it an answer in two writes takes 40 ms more."""
    with server.listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_an_address_may_hold_the_longest_text(served: str) -> None:
    parts = urlsplit(served)
    connection = HTTPConnection(parts.hostname or "", parts.port or 0)
    connection.request("GET", f"/s/{INDEX}/f/3?test={quote('🦊' * MAX_TEXT_CHARS)}")
    assert connection.getresponse().status == 200
    connection.close()


def test_an_address_of_no_machine() -> None:
    with pytest.raises(ConfigError):
        server.listen("no such host.invalid", 0)


@pytest.mark.parametrize("port", [-1, 65_536, 99_999])
def test_a_port_that_does_not_exist_is_not_another_one(port: int) -> None:
    with pytest.raises(ConfigError) as caught:
        server.listen("127.0.0.1", port)
    assert str(port) in caught.value.what


@pytest.mark.parametrize(("host", "has_token"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_off_loopback_a_token_is_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, host: str, has_token: bool) -> None:
    def run(self: uvicorn.Server, sockets: list[socket.socket]) -> None:
        assert sockets

    monkeypatch.setattr(uvicorn.Server, "run", run)
    addresses: list[str] = []
    serve(tmp_path, host=host, port=0, open_browser=False, on_ready=addresses.append)
    assert ("?token=" in addresses[0]) is has_token
