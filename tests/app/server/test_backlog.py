import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

import app.server.backlog
from app.server.backlog import MAX_WAITING_BYTES, Backlog
from app.service import Service
from app.system.buffers import Buffers
from app.system.turns import Turns
from app.telemetry.metrics import Telemetry

pytestmark = pytest.mark.anyio


class RecordingTransport(asyncio.Transport):
    """Knows whether it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.is_read = True
        self.is_closed = False

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        assert not self.is_closed
        self.is_read = True


@pytest.fixture
def transport() -> RecordingTransport:
    return RecordingTransport()


@pytest.fixture
def backlog(transport: RecordingTransport, monkeypatch: pytest.MonkeyPatch) -> Backlog:
    monkeypatch.setattr(app.server.backlog, "REST_S", 0.01)
    shared = SimpleNamespace(turns=Turns(), buffers=Buffers(2**30, Telemetry().buffered_bytes))
    return Backlog(transport, cast(Service, shared))


async def test_a_large_request_that_found_the_queue_full_is_read_again_a_moment_later(
    backlog: Backlog, transport: RecordingTransport
) -> None:
    backlog.body_bytes = MAX_WAITING_BYTES + 1
    backlog.rest_after(429)
    assert not transport.is_read
    await asyncio.sleep(0.05)
    assert transport.is_read


async def test_what_waits_neither_ends_a_rest_nor_is_forgotten_at_its_end(
    backlog: Backlog, transport: RecordingTransport
) -> None:
    backlog.body_bytes = MAX_WAITING_BYTES + 1
    backlog.rest_after(429)
    backlog.hold(0, reads_on=False)
    assert not transport.is_read
    backlog.hold(MAX_WAITING_BYTES + 1, reads_on=False)
    await asyncio.sleep(0.05)
    assert not transport.is_read
    backlog.hold(0, reads_on=False)
    assert transport.is_read


@pytest.mark.parametrize(("body_bytes", "status"), [(MAX_WAITING_BYTES, 429), (MAX_WAITING_BYTES + 1, 200)])
async def test_small_requests_and_those_with_an_answer_are_read_on(
    backlog: Backlog, transport: RecordingTransport, body_bytes: int, status: int
) -> None:
    backlog.body_bytes = body_bytes
    backlog.rest_after(status)
    assert transport.is_read


async def test_a_connection_that_ends_meanwhile_stays_unread(backlog: Backlog, transport: RecordingTransport) -> None:
    backlog.body_bytes = MAX_WAITING_BYTES + 1
    backlog.rest_after(429)
    transport.is_closed = True
    await asyncio.sleep(0.05)
    assert not transport.is_read
