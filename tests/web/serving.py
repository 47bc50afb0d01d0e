"""A real server in a thread."""

import threading
from collections.abc import Generator
from contextlib import contextmanager

from fastapi import FastAPI

from microtome.web.server import listen, server_of


@contextmanager
def serving(app: FastAPI) -> Generator[str]:
    """The address of `app` on a free port of this machine, until the block ends."""
    with listen("127.0.0.1", 0) as listener:
        server = server_of(app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
