"""The front door. That its short way answers as the long one does, tests/app/api/native/test_routes.py proves."""

import asyncio
import inspect
import json
import re
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.api.native.handler import Handler
from app.api.native.request import Answer
from app.main import create_app
from app.server import framing
from app.server.framing import Head, parse
from app.server.protocol import FrontDoor
from app.service import Service
from app.settings import Settings
from tests.support.bundles import TinyModel
from tests.support.serving import listening

pytestmark = pytest.mark.anyio

TINY = TinyModel()
BINARY = "application/octet-stream"
Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter


def request(seed: int, rows: int = 1, *lines: str, version: str = "1.1") -> bytes:
    body = TINY.rows(rows, seed).tobytes()
    head = [f"POST /embed HTTP/{version}", "Host: x", f"Content-Type: {BINARY}", f"Accept: {BINARY}"]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", *lines, "", ""]).encode() + body


def answer_to(seed: int, rows: int = 1) -> np.ndarray:
    return TINY.encode(TINY.rows(rows, seed))


def floats(body: bytes) -> np.ndarray:
    return np.frombuffer(body, "<f4").reshape(-1, TINY.embed_dim)


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    status, *lines = head.decode().strip().split("\r\n")
    return int(status.split()[1]), {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}


async def read_answer(reader: Reader) -> tuple[int, dict[str, str], bytes]:
    status, headers = parse_head(await reader.readuntil(b"\r\n\r\n"))
    return status, headers, await reader.readexactly(int(headers["content-length"]))


@pytest.fixture
async def app(models: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FastAPI]:
    # So that whoever takes the thread can hold requests up.
    monkeypatch.setattr("app.inference.batch_limits.MAX_LOOP_BLOCK_S", 0)
    app = create_app(Settings(models=models, batch_threads=1))
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
def service(app: FastAPI) -> Service:
    service: Service = app.state.service
    return service


@pytest.fixture
async def connection(app: FastAPI) -> AsyncIterator[tuple[Reader, Writer]]:
    async with listening(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        yield reader, writer
        writer.close()


@pytest.fixture
def long_way(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the requests that went it."""
    taken: list[str] = []
    call = Handler.__call__

    async def counted(self: Handler, *arguments: object) -> None:
        taken.append(self.path)
        await call(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Handler, "__call__", counted)
    return taken


# Chunks and messages


class Recorder(asyncio.Transport):
    """Keeps what a protocol writes."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False

    def close(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def answers(self) -> Iterator[tuple[int, dict[str, str], bytes]]:
        rest = self.written
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            status, headers = parse_head(head)
            size = int(headers.get("content-length", 0))  # none with 100
            yield status, headers, rest[:size]
            rest = rest[size:]


@pytest.fixture(scope="module")
def opened(models: Path) -> Iterator[FastAPI]:
    app = create_app(Settings(models=models))
    app.state.service.open()
    yield app
    app.state.service.close()


seeds = st.integers(0, 3)
messages = st.lists(
    st.one_of(
        st.builds(lambda seed: (request(seed), answer_to(seed)), seeds),
        st.builds(lambda seed: (request(seed, 3), answer_to(seed, 3)), seeds),
        st.builds(lambda seed: (request(seed, 1, "X-Request-Id: mine"), answer_to(seed)), seeds),
        st.builds(lambda seed: (request(seed, 1, "Expect: 100-continue"), answer_to(seed)), seeds),
        st.just((b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", None)),
    ),
    min_size=1,
    max_size=6,
)


@given(messages, st.data())
@settings(max_examples=100, deadline=None)
def test_however_requests_are_cut_into_chunks_each_gets_its_answer_in_turn(
    opened: FastAPI, sent: list[tuple[bytes, np.ndarray | None]], data: st.DataObject
) -> None:
    stream = b"".join(message for message, _ in sent)
    ends = np.cumsum([len(message) for message, _ in sent]).tolist()
    # Whole messages are the rule, and what the second sight of a head is for.
    cuts = data.draw(st.sets(st.one_of(st.sampled_from(ends), st.integers(1, len(stream) - 1))))
    edges = sorted({0, len(stream), *cuts})
    turns = data.draw(st.lists(st.integers(0, 3), min_size=len(edges) - 1, max_size=len(edges) - 1))
    transport = Recorder()

    async def feed() -> None:
        config = uvicorn.Config(opened, http=FrontDoor, proxy_headers=False, lifespan="off", log_config=None)
        config.load()
        door = FrontDoor(config, ServerState(), {}, asyncio.get_running_loop())
        door.connection_made(transport)
        for (start, stop), pause in zip(pairwise(edges), turns, strict=True):
            door.data_received(stream[start:stop])
            for _ in range(pause):
                await asyncio.sleep(0)
        while transport.written.count(b"x-batch-rows") + transport.written.count(b"ok\n") < len(sent):
            await asyncio.sleep(0)
        door.connection_lost(None)

    asyncio.run(feed())
    answers = [answer for answer in transport.answers() if answer[0] != 100]
    for (_, expected), (status, _, body) in zip(sent, answers, strict=True):
        assert status == 200
        if expected is None:
            assert body == b"ok\n"
        else:
            np.testing.assert_allclose(floats(body), expected, atol=1e-5)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The heads that were parsed."""
    heads: list[bytes] = []

    def counted(raw: bytes) -> Head:
        heads.append(raw)
        return parse(raw)

    monkeypatch.setattr(framing, "parse", counted)
    return heads


async def test_a_head_seen_before_is_not_parsed_again_and_each_body_is_its_own(
    parsed: list[bytes], connection: tuple[Reader, Writer]
) -> None:
    reader, writer = connection
    for rows, heads in ((1, 1), (2, 2)):
        for seed in range(5):
            writer.write(request(seed, rows))
            _, _, body = await read_answer(reader)
            np.testing.assert_allclose(floats(body), answer_to(seed, rows), atol=1e-5)
        assert len(parsed) == heads


async def test_a_head_that_was_refused_is_refused_again(connection: tuple[Reader, Writer]) -> None:
    reader, writer = connection
    for _ in range(3):
        writer.write(request(0, 1, "X-Schema-Hash: another"))
        status, headers, body = await read_answer(reader)
        assert status == 409
        assert headers["content-type"] == "application/problem+json"
        assert json.loads(body)["type"] == "urn:jepa:error:schema-mismatch"
    writer.write(request(0))
    assert (await read_answer(reader))[0] == 200


# Which way


async def test_what_bots_send_goes_the_short_way(connection: tuple[Reader, Writer], long_way: list[str]) -> None:
    reader, writer = connection
    for lines in ((), ("X-Stream-Id: bot",), ("X-Request-Timeout-Ms: 10000",)):
        writer.write(request(0, 1, *lines))
        status, headers, _ = await read_answer(reader)
        assert status == 200
        assert headers["x-request-id"]
    assert long_way == []


async def test_what_is_unusual_goes_the_long_way(connection: tuple[Reader, Writer], long_way: list[str]) -> None:
    reader, writer = connection
    body = TINY.rows(1).tobytes()
    head = f"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: {BINARY}\r\nAccept: {BINARY}\r\n".encode()
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n28\r\n" + body + b"\r\n0\r\n\r\n"
    writer.write(chunked)
    np.testing.assert_allclose(floats((await read_answer(reader))[2]), answer_to(0), atol=1e-5)
    writer.write(head + b"Expect: 100-continue\r\nContent-Length: 40\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await read_answer(reader))[0] == 200
    assert long_way == ["/embed", "/embed"]


async def test_an_unusual_request_does_not_keep_the_next_from_the_short_way(
    connection: tuple[Reader, Writer], long_way: list[str]
) -> None:
    reader, writer = connection
    for _ in range(2):
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await read_answer(reader))[2] == b"ok\n"
        writer.write(request(0))
        np.testing.assert_allclose(floats((await read_answer(reader))[2]), answer_to(0), atol=1e-5)
    assert long_way == []


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.0, h2c"])
async def test_an_offer_of_another_protocol_is_ignored_and_the_body_is_read_as_one(
    connection: tuple[Reader, Writer], protocol: str
) -> None:
    reader, writer = connection
    offer = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
    for seed in range(2):
        writer.write(request(seed, 1, *offer))
        np.testing.assert_allclose(floats((await read_answer(reader))[2]), answer_to(seed), atol=1e-5)
    hidden = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    lines = ("POST /livez HTTP/1.1", "Host: x", *offer, f"Content-Length: {len(hidden)}", "", "")
    writer.write("\r\n".join(lines).encode() + hidden + request(2))
    assert (await read_answer(reader))[0] == 405
    np.testing.assert_allclose(floats((await read_answer(reader))[2]), answer_to(2), atol=1e-5)


async def test_what_is_no_http_is_answered_after_the_requests_before_it(connection: tuple[Reader, Writer]) -> None:
    reader, writer = connection
    writer.write(request(0) + request(1) + b"\0\r\n\r\n")
    for seed in range(2):
        np.testing.assert_allclose(floats((await read_answer(reader))[2]), answer_to(seed), atol=1e-5)
    assert (await read_answer(reader))[0] == 400
    assert await reader.read() == b""


async def test_a_long_pipeline_is_answered_in_turn(connection: tuple[Reader, Writer]) -> None:
    reader, writer = connection
    for seed in range(600):
        writer.write(request(seed % 3) if seed % 5 else b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    for seed in range(600):
        body = (await read_answer(reader))[2]
        if seed % 5:
            np.testing.assert_allclose(floats(body), answer_to(seed % 3), atol=1e-5)
        else:
            assert body == b"ok\n"


def test_what_the_door_needs_of_uvicorn_is_there() -> None:
    """These names are public but not promised; `pyproject.toml` has an upper bound for the same reason."""
    for name in ("on_response_complete", "timeout_keep_alive_handler", "shutdown", "connection_made", "data_received"):
        assert callable(vars(HttpToolsProtocol)[name])
    for name in ("connection_lost", "pause_writing", "resume_writing"):
        assert callable(vars(HttpToolsProtocol)[name])
    parameters = [*inspect.signature(HttpToolsProtocol).parameters]
    assert parameters[:3] == ["config", "server_state", "app_state"]
    state = ServerState()
    assert state.connections == set()
    assert state.default_headers == []
    assert state.tasks == set()


async def test_a_pipelined_request_waits_for_the_answer_to_the_one_before(
    connection: tuple[Reader, Writer], service: Service, long_way: list[str]
) -> None:
    reader, writer = connection
    assert service.threads.acquire(lambda: None)
    writer.write(request(1) + request(2))
    await until_queued(service, 1)
    service.threads.release()
    for seed in (1, 2):
        np.testing.assert_allclose(floats((await read_answer(reader))[2]), answer_to(seed), atol=1e-5)
    assert long_way == []


# The connection


async def until_queued(service: Service, rows: int) -> None:
    while service.registry.get(None).engine.queues.target_encoder.queue_rows != rows:
        await asyncio.sleep(0.001)


def question(path: str, *, chunked: bool = False) -> bytes:
    """A request of one row to that endpoint, or of a pair of rows."""
    body, kind = TINY.rows(2 if path == "/loss" else 1).tobytes(), BINARY
    if path == "/v2/models/tiny.loss/infer":
        data, kind = TINY.rows(1).tolist(), "application/json"
        names = ("features", "target_features")
        inputs = [{"name": name, "shape": [1, 10], "datatype": "FP32", "data": data} for name in names]
        body = json.dumps({"inputs": inputs}).encode()
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    lines = (f"POST {path} HTTP/1.1", "Host: x", f"Content-Type: {kind}", framing, "", "")
    return "\r\n".join(lines).encode() + (b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body)


@pytest.mark.parametrize(
    ("path", "waiting"),
    [
        ("/embed", {"target_encoder": 1}),
        ("/predict", {"context_encoder": 1}),
        ("/forecast", {"target_encoder": 1}),
        ("/forecast?horizon=15", {"context_encoder": 1}),
        ("/forecast?horizon=15&novelty=true", {"context_encoder": 1, "target_encoder": 1}),
        ("/loss", {"context_encoder": 1, "target_encoder": 1}),
        ("/v2/models/tiny/infer", {"target_encoder": 1}),
        ("/v2/models/tiny/versions/1/infer", {"target_encoder": 1}),
        ("/v2/models/tiny.context_encoder/infer", {"context_encoder": 1}),
        ("/v2/models/tiny.forecast/infer", {"target_encoder": 1}),
        ("/v2/models/tiny.loss/infer", {"context_encoder": 1, "target_encoder": 1}),
    ],
)
@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "in chunks"])
async def test_rows_of_a_client_that_left_are_not_computed(
    connection: tuple[Reader, Writer],
    service: Service,
    path: str,
    waiting: dict[str, int],
    chunked: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, writer = connection

    async def until(rows: dict[str, int]) -> None:
        queues = service.registry.get(None).engine.queues
        while {name: queue.queue_rows for name, queue in queues.items() if queue.queue_rows} != rows:
            await asyncio.sleep(0.001)

    assert service.threads.acquire(lambda: None)
    writer.write(question(path, chunked=chunked))
    await until(waiting)
    writer.close()
    await until({})
    service.threads.release()
    await asyncio.sleep(0.05)
    metrics, route = service.telemetry.text(), re.sub(r"/models/[^/]+", "/models/{name}", path.partition("?")[0])
    route = route.replace("/versions/1", "/versions/{version}")
    assert b"jepa_http_requests_in_flight 0.0" in metrics
    assert f'jepa_http_requests_total{{method="POST",route="{route}",status="499"}} 1.0'.encode() in metrics
    for graph in ("context_encoder", "target_encoder", "predictor"):
        assert f'jepa_infer_rows_total{{graph="{graph}",model="tiny"}} 0.0'.encode() in metrics
    assert "Exception in ASGI" not in caplog.text


@pytest.mark.parametrize("lines", [(), ("Expect: 100-continue",)], ids=["short way", "long way"])
async def test_a_handler_runs_in_a_task_whichever_way_leads_to_it(
    connection: tuple[Reader, Writer], app: FastAPI, lines: tuple[str, ...]
) -> None:
    """`asyncio.timeout` does not work outside of one."""
    handler: Handler = app.state.handlers[b"/embed"]
    answer = handler.answer

    async def within_a_second(*arguments: Any) -> Answer:
        async with asyncio.timeout(1):
            return await answer(*arguments)

    handler.answer = within_a_second  # type: ignore[method-assign, assignment]
    reader, writer = connection
    writer.write(request(0, 1, *lines))
    if lines:
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    assert (await read_answer(reader))[0] == 200


@pytest.mark.parametrize(("lines", "version"), [(("Connection: close",), "1.1"), ((), "1.0")])
async def test_a_connection_ends_when_the_client_says_so(
    connection: tuple[Reader, Writer], lines: tuple[str, ...], version: str
) -> None:
    reader, writer = connection
    writer.write(request(0, 1, *lines, version=version))
    status, headers, _ = await read_answer(reader)
    assert status == 200
    assert headers["connection"] == "close"
    assert await reader.read() == b""


@pytest.mark.parametrize("requests", [0, 1])
async def test_an_idle_connection_is_closed(app: FastAPI, requests: int, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = FrontDoor.connection_made

    def impatient(self: FrontDoor, transport: asyncio.Transport) -> None:
        self.keep_alive_s = 0.05
        begin(self, transport)

    monkeypatch.setattr(FrontDoor, "connection_made", impatient)
    async with listening(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for seed in range(requests):
            writer.write(request(seed))
            assert (await read_answer(reader))[0] == 200
        assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("sent", [request(0), b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["short way", "long way"])
async def test_a_connection_that_is_used_outlives_the_time_of_an_idle_one(
    app: FastAPI, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = FrontDoor.connection_made

    def impatient(self: FrontDoor, transport: asyncio.Transport) -> None:
        self.keep_alive_s = 1
        begin(self, transport)

    monkeypatch.setattr(FrontDoor, "connection_made", impatient)
    async with listening(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(6):
            writer.write(sent)
            assert (await read_answer(reader))[0] == 200
            await asyncio.sleep(0.3)
        writer.close()


async def test_connections_are_counted(connection: tuple[Reader, Writer], service: Service) -> None:
    reader, writer = connection
    writer.write(request(0))
    await read_answer(reader)
    assert b"jepa_http_connections 1.0" in service.telemetry.text()
    writer.close()
    while b"jepa_http_connections 0.0" not in service.telemetry.text():
        await asyncio.sleep(0.001)
    assert b"jepa_http_connections_closed_total 1.0" in service.telemetry.text()


# Limits


async def refusal(reader: Reader) -> tuple[int, str]:
    """The status and the slug of what was refused, after which the connection ends."""
    status, headers, body = await read_answer(reader)
    assert headers["connection"] == "close"
    assert headers["x-request-id"]
    assert await reader.read() == b""
    return status, json.loads(body)["type"].rpartition(":")[2]


@pytest.fixture
async def hasty(models: Path) -> AsyncIterator[int]:
    """The port of a service that waits a second for a request, and takes two connections."""
    app = create_app(Settings(models=models, read_timeout_s=1, max_connections=2))
    async with app.router.lifespan_context(app), listening(app) as port:
        yield port


@pytest.mark.parametrize("sent", [b"POST /em", b"POST /embed HTTP/1.1\r\nHost: x\r\n", request(1)[:-1]])
async def test_a_request_that_comes_too_slowly_is_cut_off(hasty: int, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", hasty)
    writer.write(request(0))
    assert (await read_answer(reader))[0] == 200
    writer.write(sent)
    assert await refusal(reader) == (408, "too-slow")
    writer.close()


async def test_who_trickles_a_chunked_body_is_cut_off_too(hasty: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", hasty)
    head = f"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: {BINARY}\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(head.encode() + b"4\r\n1234\r\n")
    assert await refusal(reader) == (408, "too-slow")
    writer.close()


@pytest.mark.parametrize("line", [b"X-Long: " + b"x" * 100_000, b"X-Many: 1\r\n" * 10_000])
async def test_a_head_without_end_is_refused(hasty: int, line: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", hasty)
    writer.write(b"POST /embed HTTP/1.1\r\nHost: x\r\n" + line)
    assert await refusal(reader) == (431, "head-too-large")
    writer.close()


async def test_one_connection_too_many_is_refused_and_the_others_live(hasty: int) -> None:
    connections = [await asyncio.open_connection("127.0.0.1", hasty) for _ in range(3)]
    (first, first_writer), (_, second_writer), (third, third_writer) = connections
    assert await refusal(third) == (503, "too-many-connections")
    second_writer.close()
    first_writer.write(request(0))
    assert (await read_answer(first))[0] == 200
    reader, writer = await asyncio.open_connection("127.0.0.1", hasty)
    writer.write(request(1))
    assert (await read_answer(reader))[0] == 200
    for each in (first_writer, third_writer, writer):
        each.close()


async def test_a_head_without_end_behind_other_requests_is_refused_after_their_answers(hasty: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", hasty)
    writer.write(request(0) + request(1) + b"POST /embed HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 100_000)
    for seed in range(2):
        np.testing.assert_allclose(floats((await read_answer(reader))[2]), answer_to(seed), atol=1e-5)
    assert await refusal(reader) == (431, "head-too-large")
    writer.close()
