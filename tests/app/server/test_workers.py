"""Worker processes of a real service."""

import os
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.bundles import TinyModel
from tests.support.forker import run_forked
from tests.support.serving import Server

BODY = {"features": [0.5] * 10}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    TinyModel().write(folder)
    return folder


@pytest.fixture
def server(models: Path) -> Iterator[Server]:
    with Server("--models", str(models), "--workers", "2") as server:
        yield server


def children(server: Server) -> list[int]:
    pid = server.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def metric(text: str, name: str) -> float:
    """The sum over its labels."""
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def worker_of(answer: httpx.Response) -> str:
    """Each makes request ids of its own."""
    return answer.headers["x-request-id"].partition("-")[0]


def test_connections_are_spread_evenly_and_any_worker_shows_what_all_have_counted(server: Server) -> None:
    clients = [httpx.Client(base_url=server.url) for _ in range(8)]
    try:
        workers = Counter(worker_of(client.post("/embed", json=BODY)) for client in clients)
        assert sorted(workers.values()) == [4, 4]
        for client in clients:
            text = client.get("/metrics").text
            assert metric(text, "jepa_infer_rows_total") == 8 + 1  # one for /readyz
            assert metric(text, "jepa_http_connections") >= 8
            assert metric(text, "process_resident_memory_bytes") > 2 * 20e6
    finally:
        for client in clients:
            client.close()


def test_a_connection_goes_to_the_worker_with_the_fewest(server: Server) -> None:
    def ask() -> tuple[httpx.Client, str]:
        client = httpx.Client(base_url=server.url)
        return client, worker_of(client.post("/embed", json=BODY))

    def asked_once() -> str:
        client, worker = ask()
        client.close()
        return worker

    (first, busier), (second, other) = ask(), ask()
    assert busier != other
    second.close()
    # A worker notices a moment later that a connection is gone.
    until(lambda: asked_once() == other)
    first.close()


def test_a_worker_that_dies_is_replaced_and_leaves_its_counts_but_nothing_it_held(server: Server) -> None:
    with httpx.Client(base_url=server.url) as one, httpx.Client(base_url=server.url) as two:
        for client in (one, two):
            assert client.post("/embed", json=BODY).status_code == 200
        dead, alive = children(server)
        os.kill(dead, signal.SIGKILL)
        until(lambda: len(children(server)) == 2 and dead not in children(server))
        assert alive in children(server)
    for _ in range(4):
        assert httpx.post(f"{server.url}/embed", json=BODY).status_code == 200
    text = httpx.get(f"{server.url}/metrics").text
    assert metric(text, 'jepa_http_requests_total{method="POST",route="/embed",status="200"}') == 6
    assert metric(text, "jepa_http_requests_in_flight") == 0
    until(lambda: metric(httpx.get(f"{server.url}/metrics").text, "jepa_http_connections") == 1)
    assert "ended with code -9; another takes its place" in server.log
    assert server.stop() == 0


def test_workers_end_with_their_parent(server: Server) -> None:
    workers = children(server)
    server.process.kill()
    server.process.wait()
    until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in workers))


FAILING = """
import os, signal, socket, sys, uvicorn
from app.telemetry.metrics import Telemetry
from app.server.workers import Crew

async def app(scope, receive, send):
    raise RuntimeError("no")

{prepared}
listener = socket.create_server(("127.0.0.1", 0))
sys.exit(Crew(uvicorn.Config(app, lifespan="on"), listener, Telemetry(), 2).run())
"""


@pytest.mark.parametrize(
    ("prepared", "code"),
    [("", 1), ("os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))", 0)],
    ids=["cannot start", "told to stop at once"],
)
def test_workers_that_end_at_once_again_and_again_end_the_service_with_exit_code_1(prepared: str, code: int) -> None:
    done = run_forked(FAILING.format(prepared=prepared))
    assert done.returncode == 1
    assert f"ended with code {code} again and again; giving up" in done.stderr


def test_a_burst_waits_for_workers_that_take_no_connections(server: Server) -> None:
    workers = children(server)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    # More than the channels to both of them hold.
    request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    connections = []
    for _ in range(800):
        connections.append(socket.create_connection(("127.0.0.1", server.port), timeout=20))
        connections[-1].sendall(request)
    for worker in workers:
        os.kill(worker, signal.SIGCONT)
    answers = Counter(connection.recv(12) for connection in connections)
    for connection in connections:
        connection.close()
    assert answers == {b"HTTP/1.1 200": 800}
