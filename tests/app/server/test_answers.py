"""The end of a connection."""

import asyncio

import pytest

from app.server.answers import hang_up

pytestmark = pytest.mark.anyio


class Unread(asyncio.Transport):
    """A transport whose peer has still to read so many bytes."""

    def __init__(self, waiting_bytes: int) -> None:
        super().__init__()
        self.waiting_bytes = waiting_bytes
        self.has_eof = False
        self.aborted = asyncio.Event()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.has_eof = True

    def get_write_buffer_size(self) -> int:
        return self.waiting_bytes

    def abort(self) -> None:
        self.aborted.set()


async def test_who_reads_slowly_gets_what_is_written_before_the_connection_ends() -> None:
    transport = Unread(100)
    hang_up(transport, linger_s=0.01, patience_s=60)
    assert transport.has_eof
    await asyncio.sleep(0.05)
    assert not transport.aborted.is_set()
    transport.waiting_bytes = 0
    await transport.aborted.wait()


async def test_who_does_not_read_is_not_waited_for_longer_than_that() -> None:
    transport = Unread(100)
    hang_up(transport, linger_s=0.01, patience_s=0.03)
    await transport.aborted.wait()
    assert transport.waiting_bytes
