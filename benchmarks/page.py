"""How many frames a second the page plays, and what it costs the service: python -m benchmarks.page

Chromium runs on the same cores. The loss is the median over rounds, each of which measures without and with the page.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.programs import Body, Service, bundles, closed_loop, need_wrk, write_body
from bundle.manifest import read_manifest
from tests.support.browser import CHROMIUM

PLAYED_S = 5
CONNECTIONS = 16


def played(browser: Browser, url: str) -> None:
    """Prints the rate at which Watch plays its sample, and what it says of late frames."""
    page = browser.new_page(reduced_motion="reduce")
    page.goto(f"{url}/#/watch")
    page.locator("#p-surprise").wait_for(timeout=60_000)
    page.get_by_role("button", name="Play").click()
    page.wait_for_timeout(500)
    rate = page.evaluate(
        """async (seconds) => {
            const scrub = document.getElementById("scrub"), first = Number(scrub.value), began = performance.now();
            await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
            return (1000 * (Number(scrub.value) - first)) / (performance.now() - began);
        }""",
        PLAYED_S,
    )
    print(f"Watch plays {rate:.1f} frames a second: {page.locator('#time-now').inner_text()}")
    page.close()


def loss(url: str, body: Body, page: Page, address: str, rounds: int, seconds: float) -> float:
    """The share of requests/s that a page at `address` costs."""
    found = []
    for _ in range(rounds):
        page.goto("about:blank")
        alone = closed_loop([url], "/embed", body, CONNECTIONS, seconds)["rate"]
        page.goto(address)
        found.append(1 - closed_loop([url], "/embed", body, CONNECTIONS, seconds)["rate"] / alone)
    return median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    arguments = parser.parse_args()
    need_wrk()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        bundle = next(bundles(Path(folder), quick=True))
        body = write_body(Path(folder), "binary", read_manifest(bundle).input_dim, 1)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        with Service(bundle.parents[1]) as service:
            service.wait_until_it_answers(body)
            played(browser, service.url)
            page = browser.new_page()
            for name, hash_ in (("nothing", None), ("Service", "#/service")):
                address = "about:blank" if hash_ is None else f"{service.url}/{hash_}"
                share = loss(service.url, body, page, address, arguments.rounds, arguments.seconds)
                print(f"with {name} open: {100 * share:+.1f} % of the rate lost")
        browser.close()


if __name__ == "__main__":
    main()
