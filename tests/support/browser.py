"""Debian's Chromium, driven by Playwright, and what a page did in it that it should not have done."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# How long anything may take on a busy machine before a test gives up.
TIMEOUT_MS = 20_000


@contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Without a sandbox, which containers do not allow; it opens nothing but the page under test.
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


class Tab:
    """A page with its errors, and the hosts that it asked."""

    def __init__(self, context: BrowserContext) -> None:
        self.errors: list[str] = []
        self.hosts: set[str] = set()
        self.page: Page = context.new_page()
        self.page.set_default_timeout(TIMEOUT_MS)
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        self.page.on("websocket", lambda socket: self.hosts.add(urlsplit(socket.url).netloc))


@contextmanager
def tab(running: Browser, url: str, **options: object) -> Iterator[Tab]:
    """A tab at `url` with cookies and storage of its own; without motion unless `options` say otherwise."""
    context = running.new_context(**({"reduced_motion": "reduce"} | options))  # type: ignore[arg-type]
    opened = Tab(context)
    opened.page.goto(url)
    yield opened
    context.close()
