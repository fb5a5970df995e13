"""What happens to bots, and to what stands between them and the service."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from jepa_client import JepaClient
from tests.conftest import Survived
from tests.support.bundles import TinyModel
from tests.support.changes import until
from tests.support.load import Load
from tests.support.relay import Relay
from tests.support.serving import ROOT, Server

BOTS = 16
TINY = TinyModel()


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with Server("--models", str(models), "--workers", "2") as server:
        yield server


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal("asyncio") as portal:
        yield portal


def test_a_bot_that_forks_while_it_asks_gets_answers_of_its_own(server: Server, survived: Survived) -> None:
    with Load(server, BOTS) as load:
        command = [sys.executable, "-W", "ignore", "-m", "tests.support.forking_bot", server.url]
        path = os.pathsep.join((str(ROOT / "client"), str(ROOT)))
        environment = os.environ | {"PYTHONPATH": path}
        bot = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert bot.returncode == 0, bot.stderr
        load.go_on()
    counts = json.loads(bot.stdout)
    assert counts["lost"] == load.lost == load.cut == load.refused.total() == 0
    note = f"{counts['answered']:,} of them to the {counts['processes']} processes of one client"
    survived("a bot forks while it asks", note=note, answered=load.answered + counts["answered"])


class Proxy:
    """Stands before a service, and may go away and come back."""

    def __init__(self, to: int, portal: BlockingPortal) -> None:
        self._relay, self._portal = Relay(to), portal
        self.host, self.port = "127.0.0.1", 0

    def __enter__(self) -> "Proxy":
        self._running = self._portal.wrap_async_context_manager(self._relay.running(self.port))
        self.url = self._running.__enter__()
        self.port = int(self.url.rpartition(":")[2])
        return self

    def __exit__(self, *_: object) -> None:
        self._running.__exit__(None, None, None)
        self._portal.call(self._relay.cut)


class Bot:
    """Asks by one client until it is stopped, and counts the answers; one that was no right one ends it."""

    def __init__(self, client: JepaClient, seed: int) -> None:
        self._client, self._row = client, TINY.rows(1, seed)
        self._expected = TINY.encode(self._row)
        self.answered, self._is_done = 0, False
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._is_done:
            np.testing.assert_allclose(self._client.embed(self._row), self._expected, atol=1e-5)
            self.answered += 1

    def go_on(self, calls: int = 20) -> None:
        """Waits until so many more were answered."""
        before = self.answered
        until(lambda: self.answered >= before + calls)

    def __enter__(self) -> "Bot":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_done = True
        self.thread.join()


def test_a_proxy_that_goes_away_cuts_off_what_it_carried_and_clients_go_on(
    server: Server, portal: BlockingPortal, survived: Survived
) -> None:
    proxy = Proxy(server.port, portal)
    with (
        proxy,
        Load(proxy, BOTS) as load,
        JepaClient(proxy.url, timeout=60, retries=30) as client,
        Bot(client, 1) as bot,
    ):
        for _ in range(3):
            bot.go_on()
            proxy.__exit__()
            until(lambda: metric(server, "jepa_http_connections") == 1)
            proxy.__enter__()
            load.go_on()
            bot.go_on()
    assert load.refused.total() == load.lost == 0
    assert load.cut <= 3 * BOTS
    assert metric(server, "jepa_http_requests_in_flight") == 0
    survived("a proxy goes away, three times", load, note=f"{bot.answered:,} calls of a client, none of which failed")


def metric(server: Server, name: str) -> float:
    (line,) = [each for each in httpx.get(f"{server.url}/metrics").text.splitlines() if each.startswith(f"{name} ")]
    return float(line.split()[1])
