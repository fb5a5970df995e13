"""Draws the pictures of README and the documents from the running program, in light and dark: make pictures."""

import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.browser import CHROMIUM  # noqa: E402

OUT = Path(__file__).parent / "pictures"
PORT = 8137
URL = f"http://127.0.0.1:{PORT}"
MAX_BYTES = 200_000
SIZE = {"width": 1280, "height": 800}
# The frame that is shown: somebody has just been hit off the stage.
FRAME = 137
# How long the service is asked by bots before it is drawn.
LOAD_S = 30


@contextmanager
def service():
    command = [sys.executable, "-m", "cli", "serve", "--port", str(PORT)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as running:
        try:
            for _ in range(300):
                with suppress(httpx.TransportError):
                    if httpx.get(f"{URL}/readyz").status_code == 200:
                        break
                time.sleep(0.1)
            yield
        finally:
            running.terminate()


@contextmanager
def bots():
    """One bot at about 60 frames a second."""
    over = threading.Event()

    def play() -> None:
        width = httpx.get(f"{URL}/models").json()["models"][0]["input_dim"]
        headers = {"Content-Type": "application/octet-stream"}
        with httpx.Client(base_url=URL, headers=headers) as client:
            while not over.wait(1 / 60):
                client.post("/embed", content=bytes(4 * width))

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def watch(page: Page) -> None:
    page.goto(f"{URL}/#/watch")
    page.locator("#p-surprise").wait_for()
    # Half a second before it, so that the trail is seen.
    for frame in range(FRAME - 30, FRAME + 1):
        page.locator("#scrub").fill(str(frame))


def service_view(page: Page) -> None:
    page.goto(f"{URL}/#/service")
    with bots():
        page.wait_for_timeout(LOAD_S * 1000)


VIEWS = {
    "model": lambda page: page.goto(f"{URL}/#/model"),
    "watch": watch,
    "service": service_view,
}


def main() -> None:
    OUT.mkdir(exist_ok=True)
    with service(), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            for name, show in VIEWS.items():
                context = browser.new_context(viewport=SIZE, color_scheme=scheme, reduced_motion="reduce")
                page = context.new_page()
                show(page)
                page.wait_for_timeout(500)
                path = OUT / f"{name}-{scheme}.png"
                page.screenshot(path=path)
                context.close()
                if (size := path.stat().st_size) > MAX_BYTES:
                    sys.exit(f"{path} has {size} bytes; pictures may have {MAX_BYTES}")
                print(path.relative_to(ROOT), f"{size:,} bytes")
        browser.close()


if __name__ == "__main__":
    main()
