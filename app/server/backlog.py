"""What one connection has sent and has to wait with: its bytes, and its turn to go on with them."""

import asyncio
from collections.abc import Callable

from app.errors import QueueFull
from app.service import Service
from app.system.buffers import Share

# Bytes that may wait behind a request that is being answered; past this the socket is not read.
MAX_WAITING_BYTES = 2**16
# How long who was told that the queue is full is not read; `Retry-After` says a second.
REST_S = 0.25


class Backlog:
    """Of one connection."""

    def __init__(self, transport: asyncio.Transport, service: Service) -> None:
        self._transport, self._turns = transport, service.turns
        self._share = Share(service.buffers)
        self.is_waiting = False
        # Why the connection is not read, if it is not: more waits than may; its client is to come back later.
        self._is_full = self._is_resting = False
        # Of the body of the request that is being answered.
        self.body_bytes = 0

    def wait(self, go_on: Callable[[], bool]) -> None:
        """Calls `go_on`, as `Turns.wait` does, when it is this connection's turn; it sets `is_waiting` to False."""
        if not self.is_waiting:
            self.is_waiting = True
            self._turns.wait(go_on)

    def hold(self, count: int, *, reads_on: bool) -> bool:
        """Notes that `count` bytes wait, and reads no more of them unless it `reads_on`, which the body that is being
        received needs; False if there is no room for them."""
        was_full, self._is_full = self._is_full, count > MAX_WAITING_BYTES and not reads_on
        if was_full != self._is_full and not self._is_resting:
            self._read_or_pause()
        return self._share.fits(count + self.body_bytes)

    def rest_after(self, status: int) -> None:
        """Reads nothing for a moment where a large request found the queue full: its client would send it again at
        once, and reading that would take the time that runs need."""
        if status == QueueFull.status and self.body_bytes > MAX_WAITING_BYTES and not self._is_resting:
            self._is_resting = True
            self._read_or_pause()
            asyncio.get_running_loop().call_later(REST_S, self._end_rest)

    def _end_rest(self) -> None:
        self._is_resting = False
        self._read_or_pause()

    def _read_or_pause(self) -> None:
        if not self._transport.is_closing():
            (self._transport.pause_reading if self._is_full or self._is_resting else self._transport.resume_reading)()

    def let_go(self, count: int) -> None:
        """The body of the request is not needed any more; `count` bytes wait behind it."""
        self.body_bytes = 0
        self._share.fits(count)
