"""Running the workbench: a free port, a token when others can reach it, and the browser."""

import contextlib
import errno
import os
import secrets
import socket
import sys
import webbrowser
from collections.abc import Callable, Iterable
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from microtome.errors import ConfigError, PortTaken
from microtome.web.app import create_app
from microtome.web.guard import is_loopback
from microtome.web.model_desk import ModelLoader

MAX_PORT = 65_535
MAX_HEAD_BYTES = 512 * 1024
"""Of a request. Texts stand in the addresses of pages, and a character of the longest takes up to twelve bytes there."""


def serve(
    workspace: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    open_browser: bool = True,
    token: str | None = None,
    model_loader: ModelLoader | None = None,
    models: Iterable[str] = (),
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve `workspace` until Ctrl-C. `port` 0 takes any free one. `on_ready` gets the address when the port is held.

    `models` are offered to clients of the OpenAI protocol.

    On another address than this machine's own every request needs `token`, which is made up unless given. Raises `PortTaken`.
    """
    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(24)
    listener = listen(host, port)
    address = address_of(listener, host, token=token)
    with listener, contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again when it has ended in good order
        (on_ready or _announce)(address)
        if open_browser and _has_screen():
            with contextlib.suppress(webbrowser.Error):
                webbrowser.open(address)
        app = create_app(workspace, model_loader=model_loader, token=token, models=models)
        server_of(app).run(sockets=[listener])


def server_of(app: FastAPI) -> uvicorn.Server:
    """What answers on a socket: it says nothing of itself, and takes addresses that hold a long text."""
    return uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, http="h11", h11_max_incomplete_event_size=MAX_HEAD_BYTES)
    )


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; `PortTaken` names the port and a free one."""
    if not 0 <= port <= MAX_PORT:  # getaddrinfo would take it modulo 65,536
        raise ConfigError(f"there is no port {port}.", got=port, wanted=f"0 to {MAX_PORT}", do="Take --port 8765, or 0 for any free one.")
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, OverflowError) as error:
        raise ConfigError(f"cannot listen on {host}.", got=f"{host}:{port}", wanted="an address of this machine", do=str(error)) from error
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(target)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
            raise
        reason = "in use" if error.errno == errno.EADDRINUSE else "not to be had"
        do = f"Another `microtome serve` may be running: open it, end it, or add --port {_free_port()}."
        raise PortTaken(f"port {port} of {host} is {reason}.", got=f"{host}:{port}", wanted="a free port", do=do) from error
    return listener


def address_of(listener: socket.socket, host: str, *, token: str | None) -> str:
    """What to open in a browser."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}/" + (f"?token={token}" if token else "")


def _has_screen() -> bool:
    """Without a screen Python would start a text browser in this terminal."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _announce(address: str) -> None:
    sys.stderr.write(f"microtome is at {address}  (Ctrl-C ends it)\n")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
