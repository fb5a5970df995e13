"""How many frames a second the page plays, and what it costs the service and the browser: python -m benchmarks.page

Costs are CPU time, which other programs on the machine disturb less than a rate. A closed page asks for nothing; what
one on Service asks for is a share of what the service could answer instead. The last second that is played, the
service stands still for 100 ms, which the page has to notice. To cut the network but for loopback:

    unshare --net --map-root-user sh -c 'ip link set lo up && exec python -m benchmarks.page'
"""

import argparse
import os
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from benchmarks.programs import Service, bundles, write_body
from bundle.manifest import read_manifest
from tests.support.browser import CHROMIUM

# The time that a page takes to open.
SETTLED_MS = 2000
STOPPED_MS = 100


class Meter:
    """CPU seconds that the service and the browser's processes take from here on."""

    def __init__(self, service: Service, browser: Browser) -> None:
        self._service, self._session = service, browser.new_browser_cdp_session()
        self._before, self._began = self._read(), time.monotonic()

    def _read(self) -> Counter[str]:
        found: Counter[str] = Counter({"service": self._service.cpu_s()})
        for process in self._session.send("SystemInfo.getProcessInfo")["processInfo"]:
            found[process["type"] if process["type"] == "renderer" else "rest of the browser"] += process["cpuTime"]
        return found

    def per(self, count: float) -> str:
        """In milliseconds for each of `count`."""
        now = self._read()
        return ", ".join(f"{name} {1000 * (now[name] - self._before[name]) / count:.2f} ms" for name in now)

    def service_share(self) -> float:
        """Of all cores."""
        taken = self._read()["service"] - self._before["service"]
        return taken / (time.monotonic() - self._began) / len(os.sched_getaffinity(0))


def play(browser: Browser, service: Service, seconds: float) -> None:
    """Prints the rate at which Watch plays its sample, what it says of late frames, and the CPU time of a frame."""
    page = browser.new_page(reduced_motion="reduce")
    page.goto(f"{service.url}/#/watch")
    page.locator("#p-surprise").wait_for(timeout=60_000)
    page.get_by_role("button", name="Play").click()
    page.wait_for_timeout(500)
    meter = Meter(service, browser)
    frames, took_ms = page.evaluate(
        """async (seconds) => {
            const frame = () => Number(/frame (\\d+)/.exec(document.getElementById("clock").textContent)[1]);
            const first = frame(), began = performance.now();
            await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
            return [frame() - first, performance.now() - began];
        }""",
        seconds,
    )
    words = page.locator("#time-now").inner_text()
    print(f"Watch plays {1000 * frames / took_ms:.1f} frames a second: {words}")
    print(f"CPU time of a frame: {meter.per(frames)}")
    for part in ("#surprise-now", "#heads h3 >> nth=0", "#novelty-now"):
        print(f"It says: {page.locator(part).inner_text()}")
    for pid in service.pids:
        os.kill(pid, signal.SIGSTOP)
    page.wait_for_timeout(STOPPED_MS)
    for pid in reversed(service.pids):
        os.kill(pid, signal.SIGCONT)
    page.wait_for_timeout(STOPPED_MS * 5)
    print(f"After {STOPPED_MS} ms in which the service stood still: {page.locator('#time-now').inner_text()}")
    page.close()


def cost(browser: Browser, service: Service, address: str, seconds: float) -> float:
    """The share of all cores that the service takes while a page is at `address`."""
    page = browser.new_page()
    page.goto(address)
    page.wait_for_timeout(SETTLED_MS)
    meter = Meter(service, browser)
    page.wait_for_timeout(1000 * seconds)
    share = meter.service_share()
    page.close()
    return share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--played", type=float, default=6, help="seconds that are played (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="of each view (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        bundle = next(bundles(Path(folder), quick=True))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        with Service(bundle.parents[1]) as service:
            service.wait_until_it_answers(write_body(Path(folder), "binary", read_manifest(bundle).input_dim, 1))
            play(browser, service, arguments.played)
            for name, address in (("no page", "about:blank"), ("a page on Service", f"{service.url}/#/service")):
                share = cost(browser, service, address, arguments.seconds)
                print(f"with {name} open, the service takes {share:.2%} of the machine's time")
        browser.close()


if __name__ == "__main__":
    main()
