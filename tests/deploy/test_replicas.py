"""Several replicas behind nginx, as deploy/ has them: real processes, and deploy/nginx/nginx.conf but for its port."""

import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import connect

from tests.support.bundles import TinyModel
from tests.support.serving import Server

DEPLOY = Path(__file__).parents[2] / "deploy"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
BOTS, MORE = 8, 200  # and so many answers are waited for each time
pytestmark = pytest.mark.skipif(NGINX is None, reason="needs nginx")


class Bots:
    """Threads that ask without a pause, each over a connection of its own, and count what is answered."""

    def __init__(self, url: str) -> None:
        self.answers: Counter[object] = Counter()
        self._url = url
        self._stopped = threading.Event()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url) as client:
            while not self._stopped.is_set():
                try:
                    answer: object = client.post("/embed", json={"features": [0.5] * 10}).status_code
                except httpx.HTTPError as error:
                    answer = repr(error)
                self.answers[answer] += 1

    @contextmanager
    def asking(self) -> Iterator["Bots"]:
        threads = [threading.Thread(target=self._ask) for _ in range(BOTS)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stopped.set()
            for thread in threads:
                thread.join()

    def go_on(self) -> None:
        """Until more are answered."""
        until = self.answers.total() + MORE
        wait_for(lambda: self.answers.total() > until)


class Balanced(NamedTuple):
    url: str
    replicas: list[Server]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def metric(replica: Server, name: str) -> float:
    text = httpx.get(f"{replica.url}/metrics").text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return sum(each.value for each in samples if each.name == name and each.labels.get("route", "/embed") == "/embed")


@pytest.fixture(scope="module")
def balanced(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balanced]:
    """Three replicas, and nginx before them."""
    folder = tmp_path_factory.mktemp("nginx")
    with ExitStack() as stack:
        flags = ("--models", str(models), "--workers", "1")
        replicas = [stack.enter_context(server) for server in [Server(*flags) for _ in range(3)]]
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        (line,) = [each for each in (DEPLOY / "nginx" / "replicas.conf").read_text().splitlines() if each[0] != "#"]
        lines = [line.replace("jepa:8000", f"127.0.0.1:{replica.port}") for replica in replicas]
        (folder / "replicas.conf").write_text("\n".join(lines))
        text = (DEPLOY / "nginx" / "nginx.conf").read_text().replace("/tmp/", f"{folder}/")
        (folder / "nginx.conf").write_text(text.replace("listen 8080;", f"listen 127.0.0.1:{port};"))
        # Where root runs the tests, nginx would take another user, who may not enter their folder.
        command = [str(NGINX), "-e", "stderr", "-p", str(folder), "-c", "nginx.conf", "-g", "daemon off; user root;"]
        nginx = stack.enter_context(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        stack.callback(nginx.terminate)
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: _answers(url))
        yield Balanced(url, replicas)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_stream_passes_the_balancer_and_stays_open(balanced: Balanced, tiny: TinyModel) -> None:
    rows = tiny.rows(3)
    expected = httpx.post(f"{balanced.url}/embed", json={"features": rows.tolist()}).json()["embeddings"]
    with connect(f"ws{balanced.url[4:]}/stream", compression=None) as stream:
        for number, row in enumerate(rows):
            stream.send(struct.pack("<I", number) + row.tobytes())
            answer = stream.recv(timeout=20, decode=False)
            assert struct.unpack_from("<I", answer) == (number,)
            np.testing.assert_allclose(np.frombuffer(answer, "<f4", offset=4), expected[number], atol=1e-6)
    assert httpx.get(f"{balanced.url}/stream").status_code == 426


def test_a_page_behind_the_balancer_is_the_service_s_own(balanced: Balanced) -> None:
    """A browser that does not say which site asks compares the origin with the host, and both have a port."""
    body = {"features": [0.5] * 10}
    for origin, status in ((balanced.url, 200), ("http://127.0.0.1:1", 403)):
        assert httpx.post(f"{balanced.url}/embed", json=body, headers={"Origin": origin}).status_code == status


def test_an_offer_to_upgrade_is_ignored_behind_the_balancer_too(balanced: Balanced) -> None:
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    answer = httpx.post(f"{balanced.url}/embed", json={"features": [0.5] * 10}, headers=offer)
    assert answer.status_code == 200


def test_what_is_about_one_replica_is_not_asked_of_any(balanced: Balanced) -> None:
    assert httpx.get(f"{balanced.url}/metrics").status_code == 404
    assert httpx.post(f"{balanced.url}/v2/repository/models/tiny/unload").status_code == 404
    assert httpx.post(f"{balanced.url}/v2/repository/index").status_code == 200


def test_no_request_is_lost_when_a_replica_stops_and_another_is_killed(balanced: Balanced) -> None:
    with Bots(balanced.url).asking() as bots:
        bots.go_on()
        stopped, killed, left = balanced.replicas
        for replica in balanced.replicas:
            requests = metric(replica, "jepa_http_requests_total")
            assert requests > MORE / 10
            connections = metric(replica, "jepa_http_connections") + metric(
                replica, "jepa_http_connections_closed_total"
            )
            assert connections < requests / 2  # which nginx keeps for the next
        assert stopped.stop() == 0
        bots.go_on()
        killed.stop(signal.SIGKILL)
        bots.go_on()
        assert bots.answers.keys() == {200}
    assert metric(left, "jepa_http_requests_total") > 2 * MORE / 3
