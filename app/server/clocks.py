"""How long a peer may take: to send what it began, to read what was written to it, to say anything at all."""

import asyncio
from time import monotonic
from typing import Protocol

from app.service import Service
from app.system.buffers import Share

# Of answers that wait to be read a peer has to read this much, or all, within its time.
MIN_READ_BYTES = 2**16
# Between two looks at a peer that is being sent away.
MIN_PAUSE_S = 0.01


class Connection(Protocol):
    """What has clocks. Both moments are of `time.monotonic`, and None where there is nothing to wait for."""

    @property
    def receiving_since(self) -> float | None: ...

    @property
    def silent_since(self) -> float | None: ...

    def end_slow(self) -> None: ...

    def end_silent(self) -> None: ...


class Clocks:
    """The clocks of one connection, on one timer that is restarted when it fires: one per request is too dear."""

    def __init__(self, connection: Connection, transport: asyncio.Transport, service: Service, idle_s: float) -> None:
        # None when they have stopped, so that the connection is freed at once, with what it holds.
        self._connection: Connection | None = connection
        self._transport, self._idle_s = transport, idle_s
        self._patience_s, self._telemetry = float(service.settings.read_timeout_s), service.telemetry
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        # Since when answers fill the buffer of the transport, because the peer does not read them, and their bytes.
        self.unread_since: float | None = None
        self._unread_bytes = 0
        self._share = Share(service.buffers)

    def stop(self) -> None:
        self._connection = None
        self._share.fits(0)
        if self._timer is not None:
            self._timer.cancel()

    def pause_writing(self) -> None:
        """The peer has not read its answers. Ends the connection if there is no room for them."""
        self.unread_since, self._unread_bytes = monotonic(), self._transport.get_write_buffer_size()
        if not self._share.fits(self._unread_bytes):
            # In a later turn, since the transport is in the middle of a write.
            self._loop.call_soon(self._give_up)

    def resume_writing(self) -> None:
        self.unread_since = None
        self._share.fits(0)

    def check(self) -> None:
        """Ends the connection if the peer is too slow or silent; looks again when it may be."""
        if self._connection is None:
            return
        self._take_note_of_reading()
        unread_s = self._left_s(self.unread_since, self._patience_s)
        late_s = self._left_s(self._connection.receiving_since, self._patience_s)
        idle_s = self._left_s(self._connection.silent_since, self._idle_s)
        if unread_s <= 0:
            self._give_up()
        elif late_s <= 0:
            self._connection.end_slow()
        elif idle_s <= 0:
            self._connection.end_silent()
        if self._connection is not None and not self._transport.is_closing():
            self._timer = self._loop.call_later(max(MIN_PAUSE_S, min(unread_s, late_s, idle_s)), self.check)

    def _left_s(self, since: float | None, limit_s: float) -> float:
        return limit_s if since is None else since + limit_s - monotonic()

    def _take_note_of_reading(self) -> None:
        if self.unread_since is not None:
            size = self._transport.get_write_buffer_size()
            if self._unread_bytes - size >= MIN_READ_BYTES:
                self.unread_since, self._unread_bytes = monotonic(), size

    def _give_up(self) -> None:
        self._telemetry.rejected.cell("unread_answers").add()
        self._transport.abort()
