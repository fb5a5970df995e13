"""What a peer sends too much of, or never reads: limited, given back, and no trouble to bots beside it."""

import json
import re
import resource
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from websockets.frames import Frame, Opcode

from tests.conftest import Survived
from tests.support.changes import until
from tests.support.load import Load
from tests.support.serving import Server

MIB = 2**20
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = (
    b"GET /stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    clocks = ("--read-timeout-s", "1", "--keep-alive-s", "1")
    limits = ("--max-body-bytes", str(MIB), "--max-buffered-bytes", str(4 * MIB))
    with Server("--models", str(models), "--workers", "1", *clocks, *limits) as server:
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log


def metric(server: Server, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", httpx.get(f"{server.url}/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def is_quiet(server: Server, connections: int = 1) -> bool:
    """Whether nothing is held any more, and only those connections are open, of which one asks this."""
    return metric(server, "jepa_http_buffered_bytes") == 0 and metric(server, "jepa_http_connections") == connections


def head(path: str, length: int, kind: str = "application/json") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n".encode()


def read_to_end(connection: socket.socket) -> bytes:
    received = b""
    try:
        while data := connection.recv(2**16):
            received += data
    except ConnectionError:
        pass
    return received


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def status_of(answer: bytes) -> int:
    return int(answer[9:12] or b"0")


def deaf(server: Server) -> socket.socket:
    """A connection that takes in a few kilobytes unless it is read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(10)
    connection.connect((server.host, server.port))
    return connection


def stream(connection: socket.socket) -> socket.socket:
    connection.sendall(UPGRADE)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(1)
    assert status_of(answer) == 101
    return connection


def ws(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    return bytes(Frame(opcode, data, fin).serialize(mask=True))


FLOODS: dict[str, tuple[bytes, bytes]] = {
    "hundreds of requests at once": (b"", LIVEZ * 150),
    "answers that are not read": (b"", b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 60),
    "bodies in chunks of a byte": (
        b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1\r\nx\r\n" * 20_000,
    ),
    "empty lines before a request": (b"", b"\r\n" * 60_000),
    "thousands of pings at once": (UPGRADE, ws(Opcode.PING) * 2000),
    "messages in empty fragments": (UPGRADE + ws(Opcode.BINARY, fin=False), ws(Opcode.CONT, fin=False) * 10_000),
}


@pytest.mark.parametrize("fault", FLOODS)
def test_a_flood_that_nobody_reads_ends_and_bots_go_on(server: Server, fault: str, survived: Survived) -> None:
    begin, flood = FLOODS[fault]
    with Load(server, 4) as load, ExitStack() as stack:
        for _ in range(4):
            connection = stack.enter_context(deaf(server))
            connection.sendall(begin)
            connection.setblocking(False)
            connection.send(flood)
        load.go_on()
        # Cut off, though they stay open on their side.
        until(lambda: is_quiet(server, connections=5))
    assert load.refused.total() == load.cut == load.lost == 0
    survived(f"4 × {fault}", load)


def test_bodies_on_their_way_share_a_budget_that_comes_back(server: Server, survived: Survived) -> None:
    with Load(server, 4) as load, ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(12)]
        for number, connection in enumerate(connections):
            path = ("/embed", "/v2/models/tiny/infer")[number % 2]
            try:
                connection.sendall(head(path, MIB) + b" " * (MIB - 1))
            except ConnectionError:
                continue
        assert metric(server, "jepa_http_buffered_bytes") <= 4 * MIB
        answers = [read_to_end(connection) for connection in connections]
        load.go_on()
    refused = [answer.lower() for answer in answers if status_of(answer) == 503]
    late = [answer for answer in answers if status_of(answer) == 408]
    assert refused
    assert late
    assert len(refused) + len(late) == len(answers)
    assert all(b"retry-after: 1\r\n" in answer and b"connection: close" in answer for answer in refused)
    until(lambda: is_quiet(server))
    assert metric(server, 'jepa_requests_rejected_total{reason="buffers_full"}') >= len(refused)
    assert load.refused.total() == load.cut == load.lost == 0
    survived("bodies of more than there is memory for", load, note=f"{len(refused)} of 12 refused with 503")


def test_memory_of_bodies_goes_back_to_the_system(models: Path) -> None:
    with Server("--models", str(models), "--workers", "1") as server, ExitStack() as stack:
        pid = server.process.pid
        before = resident_bytes(pid)
        connections = [stack.enter_context(server.connect()) for _ in range(8)]
        for connection in connections:
            connection.sendall(head("/embed", 16 * MIB) + bytes(15 * MIB))
        until(lambda: resident_bytes(pid) > before + 100 * MIB)
        for connection in connections:
            connection.close()
        until(lambda: resident_bytes(pid) < before + 30 * MIB)


def test_messages_on_their_way_share_it_too(server: Server) -> None:
    with ExitStack() as stack:
        streams = [stream(stack.enter_context(server.connect())) for _ in range(8)]
        for each in streams:
            try:
                each.sendall(ws(Opcode.BINARY, bytes(MIB - 100))[:-1])
            except ConnectionError:
                continue
        codes = [struct.unpack_from(">H", read_to_end(each) + b"\0" * 4, 2)[0] for each in streams]
    assert set(codes) == {1013, 1008}
    until(lambda: is_quiet(server))


def test_a_message_takes_no_longer_for_pings_between_its_fragments(server: Server) -> None:
    with stream(server.connect()) as connection:
        connection.sendall(ws(Opcode.BINARY, b"\1\0\0\0", fin=False))
        connection.settimeout(0.05)
        received = b""
        # Until the close frame comes; pongs come before it.
        while b"a message had not come to its end" not in received:
            connection.sendall(ws(Opcode.CONT, b"\0", fin=False) + ws(Opcode.PING))
            try:
                received += connection.recv(2**16)
            except TimeoutError:
                continue


@pytest.mark.parametrize("path", ["/embed", "/v2/models/tiny/infer"])
@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
def test_half_a_body_gets_its_408_whichever_way_it_goes(server: Server, path: str, framing: str) -> None:
    with server.connect() as connection:
        kind = "Content-Type: application/json"
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{kind}\r\n{framing}\r\n\r\n1\r\n".encode())
        answer = read_to_end(connection)
    assert status_of(answer) == 408
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 408


def test_a_request_that_was_answered_without_its_body_gets_no_second_answer(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
        answer = read_to_end(connection)
    assert status_of(answer) == 405
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    ("rest", "status"),
    [
        (b" /livez HTTP/x\r\n\r\n", 400),
        (b" /livez HTTP/1.1\r\nX: " + b"x" * 70_000, 431),
        (b" /livez HTTP/1.1\r\n", 408),
    ],
)
def test_a_head_that_was_asked_for_is_refused_without_a_body(server: Server, rest: bytes, status: int) -> None:
    answers = []
    for method in (b"GET", b"HEAD"):
        with server.connect() as connection:
            connection.sendall(method + rest)
            answers.append(read_to_end(connection))
    assert [status_of(answer) for answer in answers] == [status, status]
    assert [bool(answer.partition(b"\r\n\r\n")[2]) for answer in answers] == [True, False]


def test_a_large_document_is_refused_while_bots_go_on(server: Server, survived: Survived) -> None:
    bodies: list[tuple[bytes, int]] = [
        (b'{"features":[' + b"0," * 500_000 + b"0]}", 413),
        (b'{"features":[' + b"[]," * 300_000 + b"[]]}", 413),
        (b'{"features":[' + b"[1,2]," * 300 + b" " * 500_000 + b"[1]", 422),
        (b"0," * 500_000, 413),
    ]
    with Load(server, 8) as load:
        for path in ("/embed", "/v2/models/tiny/infer"):
            for body, status in bodies:
                answer = httpx.post(f"{server.url}{path}", content=body, headers={"content-type": "application/json"})
                assert answer.status_code in (status, 400), (path, body[:20], answer.text)
        load.go_on()
    assert load.refused.total() == load.cut == load.lost == 0
    survived("JSON of a megabyte that no request has", load)
