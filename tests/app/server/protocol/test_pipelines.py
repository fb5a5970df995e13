"""Requests one after another on a connection, however they are cut into chunks."""

import asyncio
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from app.main import create_app
from app.server import framing
from app.server.framing import Head, parse
from app.server.protocol import FrontDoor
from app.service import Service
from app.settings import Settings
from tests.app.server.protocol.conftest import (
    Reader,
    Writer,
    answer_to,
    floats,
    parse_head,
    read_answer,
    request,
    until_queued,
)

pytestmark = pytest.mark.anyio


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
