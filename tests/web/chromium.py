"""A real Chromium, and pages that tell when something went wrong in them."""

import re
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"


@contextmanager
def chromium() -> Generator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@contextmanager
def watched(browser: Browser, served: str) -> Generator[tuple[Page, list[str]]]:
    """A page, and what befell it: console errors, script errors, dialogs and requests that leave the server."""
    troubles: list[str] = []

    def watch_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not re.search("status of (4|503)", message.text):
            troubles.append(f"console: {message.text}")

    def watch_request(request: Request) -> None:
        if urlsplit(request.url).netloc != urlsplit(served).netloc and not request.url.startswith("blob:"):
            troubles.append(f"left the machine: {request.url}")

    context = browser.new_context(base_url=served, viewport={"width": 1400, "height": 900}, color_scheme="light")
    page = context.new_page()
    page.on("console", watch_console)
    page.on("request", watch_request)
    page.on("pageerror", lambda error: troubles.append(f"script: {error}"))
    page.on("dialog", lambda dialog: troubles.append(f"dialog: {dialog.message}"))
    yield page, troubles
    context.close()
