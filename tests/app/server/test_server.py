"""Connections before they speak, over TLS: counted, limited, and over in time."""

import re
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.support.certificates import certificate
from tests.support.changes import until
from tests.support.serving import Server

MAX_CONNECTIONS = 8
BODY = {"features": [0.5] * 10}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def trusted(files: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(files[0]))


@pytest.fixture(scope="module", params=["1", "2"], ids=["one process", "two workers"])
def server(
    models: Path, files: tuple[Path, Path], trusted: ssl.SSLContext, request: pytest.FixtureRequest
) -> Iterator[Server]:
    flags = ["--models", str(models), "--workers", request.param, "--max-connections", str(MAX_CONNECTIONS)]
    flags += ["--tls-cert-file", str(files[0]), "--tls-key-file", str(files[1]), "--log-level", "debug"]
    with Server(*flags, verify=trusted) as server:
        yield server
        assert server.stop() == 0
    assert "Traceback" not in server.log


def metric(server: Server, trusted: ssl.SSLContext, name: str) -> float:
    text = httpx.get(f"{server.url}/metrics", verify=trusted).text
    return float(re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)[0])


def is_let_in(server: Server, trusted: ssl.SSLContext) -> bool:
    try:
        return httpx.post(f"{server.url}/embed", json=BODY, verify=trusted).status_code == 200
    except httpx.ConnectError:
        return False


def test_a_failed_handshake_is_a_line_at_debug_and_a_connection_that_ended(
    server: Server, trusted: ssl.SSLContext
) -> None:
    ended, lines = "jepa_http_connections_closed_total", server.log.count("\n")
    before, probes = metric(server, trusted, ended), 20
    for number in range(probes):
        with server.connect() as connection:
            if number % 2:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                while connection.recv(1000):
                    pass
    # Those that count are among them.
    until(lambda: metric(server, trusted, ended) >= before + probes)
    until(lambda: metric(server, trusted, "jepa_http_connections") == 1)
    assert server.log.count("a connection ended before it spoke") >= probes
    assert server.log.count("\n") - lines >= probes


def test_silent_connections_count_in_the_limit_and_are_closed(server: Server, trusted: ssl.SSLContext) -> None:
    until(lambda: metric(server, trusted, "jepa_http_connections") == 1)
    with ExitStack() as stack:
        for silent in [stack.enter_context(server.connect()) for _ in range(4 * MAX_CONNECTIONS)]:
            assert silent.recv(1) == b""
    # Each sees its end a moment before it is counted no more.
    until(lambda: is_let_in(server, trusted))
    refused = metric(server, trusted, 'jepa_requests_rejected_total{reason="too_many_connections"}')
    assert refused >= 3 * MAX_CONNECTIONS


def test_a_client_that_keeps_its_side_open_is_closed_all_the_same(server: Server, trusted: ssl.SSLContext) -> None:
    with trusted.wrap_socket(server.connect(), server_hostname=server.host) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert connection.recv(64).startswith(b"HTTP/1.1 200")
        until(lambda: metric(server, trusted, "jepa_http_connections") == 1)
