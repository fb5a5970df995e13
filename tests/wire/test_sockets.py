"""What only shows over a real socket."""

import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.support.bundles import TinyModel
from tests.support.serving import Server

BODY = json.dumps({"features": [0.5] * 10}).encode()


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with Server("--models", str(models), "--max-body-bytes", "5000") as server:
        yield server


def head(length: int | str, path: str = "/embed") -> bytes:
    size = "Transfer-Encoding: chunked" if length == "chunked" else f"Content-Length: {length}"
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{size}\r\n\r\n".encode()


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    start, _, body = received.partition(b"\r\n\r\n")
    status, *lines = start.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    while len(body) < int(headers["content-length"]):
        body += connection.recv(65536)
    return int(status.split()[1]), headers, body


def test_a_connection_carries_many_requests(server: Server) -> None:
    with server.connect() as connection:
        for _ in range(3):
            connection.sendall(head(len(BODY)) + BODY)
            status, headers, _ = read_answer(connection)
            assert status == 200
            assert headers.get("connection") != "close"


def test_a_body_announced_too_large_is_refused_before_any_of_it_is_sent(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(head(10**12))
        status, headers, body = read_answer(connection)
        assert status == 413
        assert headers["connection"] == "close"
        assert json.loads(body)["status"] == 413
        assert connection.recv(1) == b""  # closed: the rest will never be read


def test_a_body_of_unknown_length_is_refused_when_it_grows_too_large(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(head("chunked"))
        for _ in range(6):
            connection.sendall(b"3e8\r\n" + b" " * 1000 + b"\r\n")
        status, _, _ = read_answer(connection)
        assert status == 413


def test_many_clients_at_once_all_get_their_own_answers(server: Server, tiny: TinyModel) -> None:
    wrong = []

    def ask(seed: int) -> None:
        with httpx.Client(base_url=server.url) as client:
            for i in range(10):
                rows = tiny.rows(1 + i % 3, seed=100 * seed + i)
                answer = client.post("/embed", json={"features": rows.tolist()}).json()
                if not np.allclose(answer["embeddings"], tiny.encode(rows), atol=1e-5):
                    wrong.append((seed, i))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_no_traceback(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(head(len(BODY)) + BODY[:10])
    assert httpx.post(f"{server.url}/embed", content=BODY).status_code == 200
    assert "Traceback" not in server.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_request_in_flight_finish_and_ends_with_exit_code_0(
    models: Path, number: signal.Signals
) -> None:
    # One process, so that whoever answers the probe has seen the half request before.
    with Server("--models", str(models), "--workers", "1") as server, server.connect() as connection:
        connection.sendall(head(len(BODY)) + BODY[:10])
        httpx.get(f"{server.url}/livez")
        stopping = threading.Timer(0.3, connection.sendall, [BODY[10:]])
        stopping.start()
        code = server.stop(number)
        stopping.join()
        assert read_answer(connection)[0] == 200
        assert code == 0, server.log
        assert "Traceback" not in server.log


def test_an_idle_connection_does_not_hold_the_end_up(models: Path) -> None:
    with Server("--models", str(models)) as server, httpx.Client(base_url=server.url) as client:
        assert client.get("/livez").status_code == 200
        assert server.stop() == 0


def test_workers_share_the_port_and_end_together(models: Path) -> None:
    with Server("--models", str(models), "--workers", "2") as server:
        for _ in range(8):
            assert httpx.post(f"{server.url}/embed", content=BODY).status_code == 200
        assert server.stop() == 0, server.log
