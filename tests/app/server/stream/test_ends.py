"""What closes a stream."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from uvicorn.server import ServerState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from app.server.protocol import FrontDoor
from app.service import Service
from tests.app.server.stream.conftest import answer, frame, opened, queued, running
from tests.support.serving import Server

pytestmark = pytest.mark.anyio


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


async def test_a_stream_is_refused_while_the_service_drains_and_frames_are_too(port: int, service: Service) -> None:
    async with opened(port) as stream:
        service.drain()
        await stream.send(frame(1))
        assert await answer(stream) == (1, 503)
    with pytest.raises(InvalidStatus) as refused:
        await opened(port).__aenter__()
    assert refused.value.response.status_code == 503


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
