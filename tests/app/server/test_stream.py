"""Frames over a WebSocket, on the wire."""

import asyncio
import json
import logging
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from uvicorn.server import ServerState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from app.main import create_app
from app.server.protocol import FrontDoor
from app.service import Service
from app.settings import Settings
from app.telemetry.logs import Json
from tests.support.acting import ACTING, inputs, predicted, values
from tests.support.bundles import TinyModel
from tests.support.serving import Server, listening

pytestmark = pytest.mark.anyio

TINY = TinyModel(heads=True)
KEY = "key-0123456789abcdef"
Open = Callable[..., AbstractAsyncContextManager[ClientConnection]]


def message(number: int, rows: np.ndarray) -> bytes:
    return struct.pack("<I", number) + rows.astype("<f4").tobytes()


def frame(number: int) -> bytes:
    return message(number, TINY.rows(1, seed=number))


async def answer(stream: ClientConnection) -> tuple[int, np.ndarray | int]:
    """The number of a frame, and its embeddings or the status it was refused with."""
    received = await stream.recv()
    if isinstance(received, str):
        problem = json.loads(received)
        return problem["seq"], problem["status"]
    return struct.unpack_from("<I", received)[0], np.frombuffer(received[4:], "<f4").reshape(-1, TINY.embed_dim)


@asynccontextmanager
async def opened(port: int, query: str = "", **headers: str) -> AsyncIterator[ClientConnection]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    url = f"ws://127.0.0.1:{port}/stream{query}"
    async with connect(url, additional_headers=named, compression=None, proxy=None) as stream:
        yield stream


@asynccontextmanager
async def running(
    models: Path, update: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[tuple[int, Any]]:
    """The port and the app. `update` has settings that are too short for a user."""
    app = create_app(Settings(models=models, **settings).model_copy(update=update))
    async with app.router.lifespan_context(app), listening(app) as port:
        yield port, app


@pytest.fixture
async def app(models: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FastAPI]:
    # So that whoever takes the thread can hold frames up.
    monkeypatch.setattr("app.inference.batch_limits.MAX_LOOP_BLOCK_S", 0)
    app = create_app(Settings(models=models, batch_threads=1, max_rows=8, max_body_bytes=4000))
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def port(app: FastAPI) -> AsyncIterator[int]:
    async with listening(app) as port:
        yield port


@pytest.fixture
def service(app: FastAPI) -> Service:
    service: Service = app.state.service
    return service


async def queued(service: Service, rows: int) -> None:
    while service.registry.get(None).engine.queues.target_encoder.queue_rows != rows:
        await asyncio.sleep(0.001)


# Frames


async def test_each_frame_is_answered_with_its_number_and_its_embeddings(port: int) -> None:
    async with opened(port) as stream:
        for number, rows in ((7, 1), (0, 3), (2**32 - 1, 8)):
            await stream.send(message(number, TINY.rows(rows)))
            seq, embeddings = await answer(stream)
            assert seq == number
            np.testing.assert_allclose(embeddings, TINY.encode(TINY.rows(rows)), atol=1e-5)


async def test_a_stream_of_forecasts_answers_with_the_values_of_heads(port: int) -> None:
    rows = TINY.rows(2)
    unseen = rows.copy()
    unseen[:, 3:8] = np.nan
    ones = np.ones((2, 2), np.float32)
    predicted = TINY.predict(TINY.encode(unseen, "context"), ones, np.full(2, 15, np.float32))
    later, now = TINY.values(predicted, 2), TINY.values(TINY.encode(rows))
    for query, expected in (
        ("?answer=forecast", [*now.values()]),
        ("?heads=speed,damage&answer=forecast", [now["speed"], now["damage"]]),
        ("?answer=forecast&horizon=15&hidden=opponent&heads=damage", [later["damage"]]),
    ):
        async with opened(port, query) as stream:
            for number in range(2):
                await stream.send(message(number, rows))
                received = await stream.recv()
                assert isinstance(received, bytes)
                assert struct.unpack_from("<I", received) == (number,)
                values = np.frombuffer(received[4:], "<f4").reshape(2, -1)
                np.testing.assert_allclose(values, np.stack(expected, axis=1), rtol=1e-4)
    async with opened(port, "?answer=forecast&novelty=true&horizon=6") as stream:
        await stream.send(message(0, rows))
        assert len(await stream.recv()) == 4 + 2 * 4 * (len(now) + 1)


async def test_a_stream_of_predictions_answers_with_later_embeddings(acting_models: Path) -> None:
    row, actions = ACTING.rows(1), inputs(3, 4)
    async with running(acting_models) as (port, _):
        async with opened(port, "?answer=predict&horizon=15&targets=own,opponent") as stream:
            await stream.send(message(1, row))
            number, found = await answer(stream)
            assert number == 1
            np.testing.assert_allclose(found, predicted(row, None), atol=1e-5)
        async with opened(port, "?answer=predict&horizon=15&actions=4") as stream:
            for number, each in enumerate(actions):
                await stream.send(message(number, np.concatenate([row[0], each.ravel()])))
                answered, found = await answer(stream)
                assert answered == number
                np.testing.assert_allclose(found, predicted(row, each[None]), atol=1e-5)
            await stream.send(message(7, row))
            assert await answer(stream) == (7, 422)
        async with opened(port, "?answer=predict&horizon=15&actions=4&candidates=3") as stream:
            await stream.send(message(8, np.concatenate([row[0], actions.ravel()])))
            number, found = await answer(stream)
            assert number == 8
            np.testing.assert_allclose(found, predicted(row, actions), atol=1e-5)
        async with opened(port, "?answer=forecast&horizon=15&actions=4&heads=speed") as stream:
            await stream.send(message(9, np.concatenate([row[0], actions[0].ravel()])))
            value = struct.unpack("<If", await stream.recv(decode=False))[1]
            expected = values(predicted(row, actions[:1]), outputs=["speed"])
            np.testing.assert_allclose(value, expected.item(), rtol=1e-4)


async def test_a_frame_whose_forecast_is_refused_does_not_end_the_stream(port: int) -> None:
    async with opened(port, "?answer=forecast&heads=damag") as stream:
        for number in range(2):
            await stream.send(frame(number))
            problem = json.loads(await stream.recv())
            assert (problem["seq"], problem["status"]) == (number, 422)
            assert "did you mean 'damage'?" in problem["detail"]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("?answer=loss", "answer"),
        ("?answer=forecast&answer=embed", "answer"),
        ("?answer=forecast&encoder=target", "encoder"),
        ("?answer=predict&encoder=target", "encoder"),
        ("?answer=predict&heads=damage", "heads"),
        ("?actions=3", "actions"),
        ("?heads=damage", "heads"),
        ("?answer=embed&horizon=15", "horizon"),
        ("?answer=forecast&novelty=perhaps", "novelty"),
    ],
)
async def test_a_stream_takes_the_options_of_its_answers_and_no_others(port: int, query: str, name: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with opened(port, query):
            pass
    assert refused.value.response.status_code == 422
    assert json.loads(refused.value.response.body)["errors"][0]["loc"] == ["query", name]


@pytest.mark.parametrize(
    ("query", "width"), [("", 10), ("?answer=forecast", 10), ("?answer=forecast&input=context", 4)]
)
async def test_the_handshake_says_how_wide_a_row_is_and_refuses_who_has_others(
    port: int, query: str, width: int
) -> None:
    async with opened(port, query, X_Row_Width=str(width)) as stream:
        assert stream.response is not None
        assert stream.response.headers["X-Row-Width"] == str(width)
    with pytest.raises(InvalidStatus) as refused:
        async with opened(port, query, X_Row_Width=str(2 * width)):
            pass
    assert refused.value.response.status_code == 422
    assert f"has {2 * width} numbers, model 'tiny' takes {width}" in json.loads(refused.value.response.body)["detail"]


async def test_the_options_of_the_handshake_hold_for_every_frame(port: int) -> None:
    rows = TINY.rows(2)
    blind = rows.copy()
    blind[:, 3:] = np.nan
    async with opened(port, "?encoder=context&hidden=opponent,stage&model=tiny") as stream:
        for number in range(2):
            await stream.send(message(number, rows))
            _, embeddings = await answer(stream)
            np.testing.assert_allclose(embeddings, TINY.encode(blind, "context"), atol=1e-5)


@pytest.mark.parametrize(
    ("content", "status", "detail"),
    [
        (np.zeros(11), 422, "if number 11 of each row is padding, leave it out"),
        (np.full(10, np.nan), 422, "features[0][0] (own_0) is NaN; replace it, or hide its group"),
        (np.zeros(0), 422, "the body is empty; send rows of 10 little-endian float32 numbers"),
        (np.zeros(90), 413, "the request has 9 rows, the limit is 8"),
    ],
)
async def test_a_bad_frame_gets_its_problem_and_the_next_one_its_answer(
    port: int, content: np.ndarray, status: int, detail: str
) -> None:
    async with opened(port) as stream:
        await stream.send(message(3, content))
        problem = json.loads(await stream.recv(decode=True))
        assert (problem["seq"], problem["status"]) == (3, status)
        assert problem["type"].startswith("urn:jepa:error:")
        assert detail in problem["detail"]
        await stream.send(frame(4))
        np.testing.assert_allclose((await answer(stream))[1], TINY.encode(TINY.rows(1, seed=4)), atol=1e-5)


async def test_a_message_may_come_in_pieces_with_pings_between(port: int) -> None:
    content = frame(1)
    async with opened(port) as stream:
        await stream.send([content[:2], content[2:9], content[9:]])
        await (await stream.ping())
        assert (await answer(stream))[0] == 1


async def test_however_messages_are_cut_into_chunks_each_gets_its_answer(port: int) -> None:
    def wire(number: int) -> bytes:
        return bytes(Frame(Opcode.BINARY, frame(number)).serialize(mask=True))

    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = "GET /stream HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    head += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-Request-Id: mine\r\n\r\n"
    writer.write(head.encode())
    accepted = (await reader.readuntil(b"\r\n\r\n")).lower()
    assert accepted.startswith(b"http/1.1 101 ")
    assert b"x-request-id: mine\r\n" in accepted
    sent = b"".join(map(wire, range(6)))
    rng = np.random.default_rng(0)
    for chunk in np.split(np.frombuffer(sent, np.uint8), np.sort(rng.integers(1, len(sent), 12))):
        writer.write(chunk.tobytes())
        await asyncio.sleep(0.001)
    size = 2 + 4 + 4 * TINY.embed_dim
    for number in range(6):
        _, _, seq = struct.unpack_from("<BBI", await reader.readexactly(size))
        assert seq == number
    writer.close()


async def test_thousands_at_once_are_all_answered_and_others_come_in_between(port: int) -> None:
    async with opened(port) as flood, opened(port) as other:
        for number in range(3000):
            flood.transport.write(Frame(Opcode.BINARY, struct.pack("<I", number)).serialize(mask=True))
        await other.send(frame(1))
        assert (await answer(other))[0] == 1
        assert [await answer(flood) for _ in range(3000)] == [(number, 422) for number in range(3000)]


async def test_a_newer_frame_takes_the_place_of_one_that_waits_in_its_own_stream_alone(
    port: int, service: Service
) -> None:
    assert service.threads.acquire(lambda: None)
    async with opened(port) as stream, opened(port) as other:
        await other.send(frame(9))
        for number in (1, 2, 3):
            await stream.send(frame(number))
        assert [await answer(stream) for _ in range(2)] == [(1, 409), (2, 409)]
        await queued(service, 2)
        service.threads.release()
        for each, number in ((stream, 3), (other, 9)):
            seq, embeddings = await answer(each)
            assert seq == number
            np.testing.assert_allclose(embeddings, TINY.encode(TINY.rows(1, seed=number)), atol=1e-5)


async def test_a_frame_past_its_deadline_is_refused_and_never_computed(port: int, service: Service) -> None:
    assert service.threads.acquire(lambda: None)
    async with opened(port, X_Request_Timeout_Ms="20") as stream:
        await stream.send(frame(5))
        assert await answer(stream) == (5, 504)
    service.threads.release()
    assert b'jepa_infer_rows_total{graph="target_encoder",model="tiny"} 0.0' in service.telemetry.text()


async def test_rows_of_a_client_that_left_are_not_computed(port: int, service: Service) -> None:
    assert service.threads.acquire(lambda: None)
    async with opened(port) as stream:
        await stream.send(frame(1))
        await queued(service, 1)
        stream.transport.abort()
        await queued(service, 0)
    service.threads.release()
    text = service.telemetry.text()
    assert b"jepa_http_requests_in_flight 0.0" in text
    assert b"jepa_streams 0.0" in text


async def test_frames_and_streams_are_counted_and_logged(
    port: int, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "app.access"):
        async with opened(port, X_Request_Id="game") as stream:
            for content in (frame(1), frame(2), message(3, np.zeros(1))):
                await stream.send(content)
                await answer(stream)
            text = service.telemetry.text().decode()
    assert 'jepa_http_requests_total{method="WS",route="/stream",status="200"} 2.0' in text
    assert 'jepa_http_requests_total{method="WS",route="/stream",status="422"} 1.0' in text
    assert 'jepa_http_requests_total{method="GET",route="/stream",status="101"} 1.0' in text
    assert 'jepa_requests_rejected_total{reason="invalid_input"} 1.0' in text
    assert "jepa_streams 1.0" in text
    assert "jepa_http_connections 1.0" in text
    lines = [json.loads(Json().format(record)) for record in caplog.records if record.name == "app.access"]
    assert [(line["method"], line["request_id"], line["status"]) for line in lines] == [
        ("GET", "game", 101),
        ("WS", "game/1", 200),
        ("WS", "game/2", 200),
        ("WS", "game/3", 422),
    ]


# The handshake


@pytest.mark.parametrize(
    ("query", "headers", "status", "detail"),
    [
        ("", {}, 401, "this service wants a key"),
        ("", {"X_API_Key": "wrong-key-0123456789"}, 401, "the key is not one of this service's"),
        ("?model=chess", {"X_API_Key": KEY}, 404, "there is no model of that name; loaded: 'tiny'"),
        ("?schema_hash=another", {"X_API_Key": KEY}, 409, "the request expects another"),
        ("", {"X_API_Key": KEY, "X_Schema_Hash": "another"}, 409, "the request expects another"),
        ("?encode=target", {"X_API_Key": KEY}, 422, "encode is not known here; did you mean 'encoder'?"),
        ("", {"X_API_Key": KEY, "X_Request_Timeout_Ms": "soon"}, 422, "must be a number of milliseconds"),
        ("", {"X_API_Key": KEY, "Origin": "https://elsewhere.example"}, 403, "a page of another origin may not"),
        ("", {"X_API_Key": KEY, "Sec_WebSocket_Version": "12"}, 426, "this is no WebSocket handshake: invalid Sec"),
    ],
)
async def test_a_handshake_that_is_refused_is_answered_before_the_upgrade(
    models: Path, query: str, headers: dict[str, str], status: int, detail: str
) -> None:
    async with running(models, api_keys=KEY) as (port, app):
        with pytest.raises(InvalidStatus) as refused:
            await opened(port, query, **headers).__aenter__()
        response = refused.value.response
        problem = json.loads(response.body)
        assert (response.status_code, problem["status"]) == (status, status)
        assert response.headers["content-type"] == "application/problem+json"
        assert detail in problem["detail"]
        assert f'route="/stream",status="{status}"}} 1.0' in app.state.service.telemetry.text().decode()


async def test_a_page_of_the_same_origin_may_open_a_stream(models: Path) -> None:
    async with running(models) as (port, _), opened(port, Origin=f"http://127.0.0.1:{port}") as stream:
        await stream.send(frame(1))
        assert (await answer(stream))[0] == 1


async def test_a_stream_is_refused_while_the_service_drains_and_frames_are_too(port: int, service: Service) -> None:
    async with opened(port) as stream:
        service.drain()
        await stream.send(frame(1))
        assert await answer(stream) == (1, 503)
    with pytest.raises(InvalidStatus) as refused:
        await opened(port).__aenter__()
    assert refused.value.response.status_code == 503


async def test_what_is_no_websocket_is_told_so_and_others_paths_have_none(port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        plain = await client.get("/stream")
        assert (plain.status_code, plain.json()["type"]) == (426, "urn:jepa:error:upgrade-required")
        assert plain.headers["upgrade"] == "websocket"
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
        assert (await client.get("/livez", headers=upgrade)).status_code == 200


@pytest.mark.parametrize(("method", "status"), [("HEAD", 426), ("POST", 405), ("PUT", 405)])
async def test_only_a_get_opens_a_stream_and_all_else_is_answered_as_http(port: int, method: str, status: int) -> None:
    """A body behind the answer to a HEAD would be taken for the next answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    offer = "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0"
    writer.write(f"{method} /stream HTTP/1.1\r\nHost: x\r\n{offer}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    if method != "HEAD":
        (length,) = re.findall(rb"content-length: (\d+)", head)
        await reader.readexactly(int(length))
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    assert await reader.readexactly(3) == b"ok\n"
    writer.close()


async def test_a_stream_is_one_of_the_connections_there_may_be(models: Path) -> None:
    async with running(models, max_connections=1) as (port, _):
        async with opened(port), httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{port}/livez")).status_code == 503
        async with opened(port) as stream:
            await stream.send(frame(1))
            assert (await answer(stream))[0] == 1


# How a stream ends


async def closing(stream: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as closed:
        await stream.recv()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


@pytest.mark.parametrize(
    ("sent", "code", "reason"),
    [
        ("[1, 2]", 1003, "send binary messages: a uint32 number, then float32 rows"),
        (b"123", 1007, "a message starts with the frame's number, a little-endian uint32"),
        (bytes(4005), 1009, "frame with 4005 bytes"),
        ([bytes(4000), bytes(5)], 1009, "frame with 5 bytes"),
    ],
)
async def test_wrong_framing_closes_the_stream(port: int, sent: Any, code: int, reason: str) -> None:
    async with opened(port) as stream:
        await stream.send(sent)
        found = await closing(stream)
        assert found[0] == code
        assert reason in found[1]


async def test_what_is_no_websocket_frame_closes_the_stream(port: int) -> None:
    async with opened(port) as stream:
        stream.transport.write(b"POST /embed HTTP/1.1\r\n\r\n")
        assert (await closing(stream))[0] == 1002


async def test_an_idle_stream_is_closed_and_one_that_pings_is_not(models: Path) -> None:
    async with running(models, {"keep_alive_s": 0.6}) as (port, _), opened(port) as idle, opened(port) as awake:
        waiting = asyncio.create_task(closing(idle))
        while not waiting.done():
            await awake.ping()
            await asyncio.sleep(0.02)
        assert await waiting == (1001, "nothing came for 0.6 s")
        await awake.send(frame(1))
        assert (await answer(awake))[0] == 1


async def test_who_does_not_finish_a_message_is_closed(models: Path) -> None:
    async with running(models, {"read_timeout_s": 0.1}) as (port, _), opened(port) as stream:
        stream.transport.write(Frame(Opcode.BINARY, frame(1)).serialize(mask=True)[:-1])
        assert await closing(stream) == (1008, "a message had not come to its end after 0.1 s")


async def test_who_does_not_read_its_answers_is_cut_off(models: Path) -> None:
    async with running(models, {"read_timeout_s": 0.1}) as (port, app):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        connection.setblocking(False)
        async with connect(f"ws://127.0.0.1:{port}/stream", sock=connection, compression=None, proxy=None) as stream:
            stream.transport.pause_reading()
            content = 100 * Frame(Opcode.BINARY, bytes(4)).serialize(mask=True)  # refused, in many more bytes
            while b"jepa_streams 1.0" in app.state.service.telemetry.text():
                if stream.transport.get_write_buffer_size() < 2**16:
                    stream.transport.write(content)
                await asyncio.sleep(0.001)


async def test_a_stopping_service_answers_what_has_come_and_closes(app: FastAPI, service: Service) -> None:
    config = uvicorn.Config(app, http=FrontDoor, ws="none", proxy_headers=False, lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(lambda: FrontDoor(config, state, {}), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert service.threads.acquire(lambda: None)
    async with opened(port) as busy, opened(port) as idle:
        await busy.send(frame(1))
        await queued(service, 1)
        for connection in [*state.connections]:
            connection.shutdown()
        assert await closing(idle) == (1001, "the service is stopping")
        service.threads.release()
        assert (await answer(busy))[0] == 1
        assert await closing(busy) == (1001, "the service is stopping")
    while state.connections:
        await asyncio.sleep(0.001)
    server.close()


async def test_streams_are_spread_over_workers_which_close_them_when_they_stop(models: Path) -> None:
    with Server("--models", str(models), "--workers", "2") as server:
        async with opened(server.port) as one, opened(server.port) as two:
            for stream in (one, two):
                await stream.send(frame(1))
                assert (await answer(stream))[0] == 1
            heads = [stream.response.headers for stream in (one, two) if stream.response]
            ids = {head["x-request-id"].partition("-")[0] for head in heads}
            assert len(ids) == 2
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            for stream in (one, two):
                assert await closing(stream) == (1001, "the service is stopping")
            assert await stopping == 0
