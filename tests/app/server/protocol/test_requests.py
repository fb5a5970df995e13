"""The front door. That its short way answers as the long one does, tests/app/api/native/test_routes.py and
tests/app/api/oip/test_ways.py prove."""

import asyncio
import inspect
import re

import numpy as np
import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.service import Service
from tests.app.server.protocol.conftest import (
    BINARY,
    TINY,
    Reader,
    Writer,
    answer_to,
    floats,
    question,
    read_answer,
    request,
)

pytestmark = pytest.mark.anyio


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
