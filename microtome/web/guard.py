"""The door of the server: which requests come in, and the headers that every answer carries.

On loopback any page in the user's browser can reach the server, so a request must name a loopback host (against DNS rebinding), come from
our own pages (`Origin`, `Sec-Fetch-Site`), and carry `X-Microtome` unless it only reads. Off loopback every request needs the token.
"""

import asyncio
import hmac
import ipaddress
import json
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from microtome.errors import RequestRefused
from microtome.web.protocol_errors import error_json

MAX_BODY_BYTES = 256 * 1024
MAX_PROTOCOL_BODY_BYTES = 4 * 1024 * 1024
"""Of a request of the OpenAI protocol: long conversations, and edits with vectors."""
BODY_SECONDS = 30.0
"""A body must have come by then."""
COOKIE = "microtome_token"
POLICY = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


def is_loopback(host: str) -> bool:
    """Whether a name or address (without its port) means this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_protocol(path: str) -> bool:
    """Whether an address is one of the OpenAI protocol."""
    return path == "/v1" or path.startswith("/v1/")


class Refusal(Exception):
    """A request that is not let in: the HTTP status and the four parts."""

    def __init__(self, status: int, error: RequestRefused) -> None:
        self.status = status
        self.error = error
        super().__init__(error.what)


class Guard:
    """ASGI middleware that lets a request in or answers it with the four parts as JSON.

    With a `token` every request must show it: `?token=…` once (a cookie remembers it), or `Authorization: Bearer …`.
    """

    def __init__(self, app: ASGIApp, *, token: str | None = None, hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._token = token
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        extra: list[tuple[bytes, bytes]] = []

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS, *extra]
            await send(message)

        try:
            self._check_host(headers)
            if self._token is not None and self._check_token(scope, headers) == "query":
                extra.append((b"set-cookie", f"{COOKIE}={self._token}; HttpOnly; SameSite=Strict; Path=/".encode()))
            _check_origin(scope, headers)
            body = await _read_body(receive, headers, limit=MAX_PROTOCOL_BODY_BYTES if is_protocol(scope["path"]) else MAX_BODY_BYTES)
        except Refusal as refusal:
            await _answer(send_guarded, refusal, is_protocol=is_protocol(scope["path"]))
            return
        await self._app(scope, _replay(body, receive), send_guarded)

    def _check_host(self, headers: dict[str, str]) -> None:
        host = headers.get("host", "")
        name = _host_of(f"//{host}")
        if name is not None and (self._token is not None or is_loopback(name) or name in self._hosts):
            return
        raise _refused(
            421,
            "the request names another host.",
            got=host or "no Host header",
            wanted="127.0.0.1, localhost or [::1]",
            do="Open the printed address.",
        )

    def _check_token(self, scope: Scope, headers: dict[str, str]) -> str:
        shown = {
            "query": parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0],
            "header": headers.get("authorization", "").removeprefix("Bearer "),
            "cookie": _cookie(headers.get("cookie", "")),
        }
        for place, text in shown.items():
            if text and hmac.compare_digest(text.encode(), str(self._token).encode()):
                return place
        do = "Open the address that the server printed, with its ?token=…, or send it as a bearer token."
        raise _refused(401, "the request lacks the token.", got="no token or a wrong one", wanted="the token that the server printed", do=do)


def _host_of(address: str) -> str | None:
    """The host that an address names; None when it cannot be read (`//[::1`)."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return None


def _check_origin(scope: Scope, headers: dict[str, str]) -> None:
    origin, host, site = headers.get("origin"), headers.get("host", ""), headers.get("sec-fetch-site", "")
    do = "Use the pages of this server; other sites may not call it."
    if origin is not None and origin.partition("://")[2] != host:
        raise _refused(403, "the request comes from another site.", got=origin, wanted=f"{scope['scheme']}://{host}", do=do)
    if (
        scope["path"].startswith(("/api", "/v1", "/health", "/metrics"))
        and site in ("cross-site", "same-site")
        and headers.get("sec-fetch-mode") != "navigate"
    ):
        raise _refused(403, "the request comes from another site.", got=site, wanted="same-origin", do=do)
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return
    if is_protocol(scope["path"]):  # a page of another site cannot send this type either, and the protocol's clients always do
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            got, do = headers.get("content-type", "no content type"), "Send JSON, and say so."
            raise _refused(415, "the request does not say that it is JSON.", got=got, wanted="Content-Type: application/json", do=do)
        return
    if "x-microtome" not in headers:
        do = 'Send the header "X-Microtome: 1"; a page of another site cannot.'
        raise _refused(403, "the request lacks the header that writes need.", got="no X-Microtome", wanted="X-Microtome: 1", do=do)


async def _read_body(receive: Receive, headers: dict[str, str], *, limit: int) -> bytes:
    """The whole body: it is small and comes soon, or it is refused."""
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return b""
    announced = headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > 18 or int(announced) > limit):
        raise _too_large(f"{announced[:18]} bytes", limit)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _collected(receive, limit)
    except TimeoutError as error:
        do = "Send it faster, or over a better connection."
        raise _refused(408, "the request's body does not come.", got=f"{BODY_SECONDS:g} s", wanted="a whole body", do=do) from error


async def _collected(receive: Receive, limit: int) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > limit:
            raise _too_large(f"more than {limit} bytes", limit)
        if message["type"] != "http.request" or not message.get("more_body", False):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    pending = [body]

    async def replay() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return replay


def _cookie(text: str) -> str:
    jar = SimpleCookie()
    try:
        jar.load(text)
    except CookieError:
        return ""
    return jar[COOKIE].value if COOKIE in jar else ""


def _refused(status: int, what: str, *, got: str, wanted: str, do: str) -> Refusal:
    return Refusal(status, RequestRefused(what, got=got, wanted=wanted, do=do))


def _too_large(got: str, limit: int) -> Refusal:
    return _refused(413, "the request's body is too large.", got=got, wanted=f"at most {limit} bytes", do="Send a shorter text.")


async def _answer(send: Send, refusal: Refusal, *, is_protocol: bool) -> None:
    parts = refusal.error.to_json()
    body = json.dumps(error_json(parts, status=refusal.status) if is_protocol else parts, ensure_ascii=False).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
