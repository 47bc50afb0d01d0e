"""A real Chromium, and pages that tell when something went wrong in them."""

import re
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EXPECTED = "status of (4|503)"
"""What the console says of answers that a test asks for."""
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
expect.set_options(timeout=20_000)  # a busy machine draws late


@contextmanager
def chromium() -> Generator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@contextmanager
def watched(browser: Browser, base: str, *, inside: Callable[[str], bool], expected: str | None = None) -> Generator[Page]:
    """A page that fails the test on any error of the console (but for those that match `expected`) or of a script, a dialog, or a request for
    an address that is not `inside`."""
    troubles: list[str] = []

    def watch_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not (expected and re.search(expected, message.text)):
            troubles.append(f"console: {message.text}")

    def watch_request(request: Request) -> None:
        if not inside(request.url):
            troubles.append(f"left it: {request.url}")

    context = browser.new_context(base_url=base, viewport={"width": 1400, "height": 900}, color_scheme="light")
    page = context.new_page()
    page.on("console", watch_console)
    page.on("request", watch_request)
    page.on("pageerror", lambda error: troubles.append(f"script: {error}"))
    page.on("dialog", lambda dialog: troubles.append(f"dialog: {dialog.message}"))
    yield page
    context.close()
    assert troubles == []


def same_host(address: str) -> Callable[[str], bool]:
    """Whether another address is of the same host and port."""
    return lambda url: urlsplit(url).netloc == urlsplit(address).netloc
