"""How long the front door keeps a connection, and how many."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI

from app.main import create_app
from app.service import Service
from app.settings import Settings
from tests.app.server.protocol.conftest import BINARY, Reader, Writer, answer_to, floats, read_answer, request
from tests.support.serving import listening

pytestmark = pytest.mark.anyio


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
async def test_an_idle_connection_is_closed(app: FastAPI, requests: int) -> None:
    async with listening(app, keep_alive_s=0.05) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for seed in range(requests):
            writer.write(request(seed))
            assert (await read_answer(reader))[0] == 200
        assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("sent", [request(0), b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["short way", "long way"])
async def test_a_connection_that_is_used_outlives_the_time_of_an_idle_one(app: FastAPI, sent: bytes) -> None:
    async with listening(app, keep_alive_s=1) as port:
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
