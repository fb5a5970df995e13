"""The front door: an HTTP protocol that answers the usual requests itself and leaves the rest to uvicorn.

    data ─► head ─┬─► POST /embed, /predict, /loss with a Content-Length ─► a Call ─► one write
                  ├─► a WebSocket handshake for /stream ─► app.server.stream, which owns the connection from then on
                  └─► any other request ─► a stock uvicorn protocol, one message at a time

The first of these, the short way, builds no ASGI scope and no messages. A bot sends the same head with every frame,
byte for byte: a head equal to the connection's last one is not parsed again. Requests are answered one at a time; bytes
that arrive meanwhile wait, and past a limit the socket is not read. uvicorn limits neither connections, nor the size of
a head, nor the time a request takes to arrive: this module does.
"""

import asyncio
import logging
from time import monotonic
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from app.api.guard import Guard
from app.api.native.call import Call, written
from app.api.native.handler import Handler, RequestHead
from app.api.native.request import Answer
from app.errors import HeadTooLarge, ServiceError, TooManyConnections, TooSlow, no_memory
from app.server.answers import NOT_HTTP, to_bytes
from app.server.framing import Head, Inbox, Unframed
from app.server.long_way import LongWay
from app.server.stream import FRAMES, PATH, open_stream
from app.service import Service

logger = logging.getLogger(__name__)

# Bytes that may wait behind a request that is being answered; past this the socket is not read.
MAX_WAITING_BYTES = 2**16
# When the service stops, an idle connection stays open this long: a bot that sends a frame then gets a 503.
FAREWELL_S = 0.25
# How long a client that was refused may go on sending before its connection is reset.
LINGER_S = 1.0


class FrontDoor(asyncio.Protocol):
    """For `uvicorn.Config(http=…)`, with an app of `app.main.create_app`."""

    def __init__(
        self, config: uvicorn.Config, server_state: ServerState, app_state: dict[str, Any], *_: object, **__: object
    ) -> None:
        # per process
        state = config.loaded_app.state
        self._config, self._state, self._app_state = config, server_state, app_state
        self._service: Service = state.service
        self._guard: Guard = state.guard
        self._handlers: dict[bytes, Handler] = state.handlers
        self._telemetry, self._settings = self._service.telemetry, self._service.settings
        self._loop = asyncio.get_running_loop()
        # per connection
        self.keep_alive_s: float = config.timeout_keep_alive
        self._inbox, self._idle_since = Inbox(), monotonic()
        # The service stops; messages are being processed; the client was refused, and what still arrives is dropped.
        self._is_stopping = self._is_advancing = self._is_ending = False
        self._is_writable = True
        self._long_way: LongWay | None = None
        self._timer: asyncio.TimerHandle | None = None
        # The last call that came in one piece, the bytes of its head, and its size with the body.
        self._last_call: Call | None = None
        self._last_head, self._last_bytes = b"", -1
        # per request
        # On the short way: its body or its answer is still to come.
        self._call: Call | None = None
        self._is_answering = False

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self._state.connections.add(self)  # type: ignore[arg-type]
        self._telemetry.connections.add()
        self._check_timeouts()
        if len(self._state.connections) > self._service.max_connections:
            self._refuse(TooManyConnections("every connection is taken; keep one open and send all frames over it"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        self._telemetry.connections.add(-1)
        self._telemetry.connections_closed.add()
        if self._timer is not None:
            self._timer.cancel()
        if self._is_answering and self._call is not None:
            self._call.abandon()
        if self._long_way is not None:
            self._long_way.connection_lost(exc)
        self._inbox.rest()

    def pause_writing(self) -> None:
        self._is_writable = False
        if self._long_way is not None:
            self._long_way.pause_writing()

    def resume_writing(self) -> None:
        self._is_writable = True
        if self._long_way is not None:
            self._long_way.resume_writing()

    def shutdown(self) -> None:
        """Called by uvicorn when the server stops."""
        self._is_stopping = True
        if self._call is not None:
            self._call.keep_alive = False
        elif self._long_way is not None and self._is_answering:
            self._long_way.shutdown()
        else:
            self._loop.call_later(FAREWELL_S, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self._call is None and not self._is_answering:
            self._close()
        elif self._call is None and self._long_way is not None:
            self._long_way.shutdown()

    def _close(self) -> None:
        """Drops answers that the client does not read, which would otherwise keep the connection open."""
        if self._is_writable:
            self.transport.close()
        else:
            self.transport.abort()

    def _check_timeouts(self) -> None:
        """Ends a connection that is slow or silent. One timer, restarted when it fires: one per request is too dear."""
        now, patience_s = monotonic(), float(self._settings.read_timeout_s)
        left_s = min(patience_s, self.keep_alive_s)
        if (began := self._inbox.began) is not None:
            left_s = min(left_s, began + patience_s - now)
            if left_s <= 0:
                limit = f"{self._settings.read_timeout_s} s"
                self._refuse(TooSlow(f"the request had not come to its end after {limit}; send it in one piece"))
        elif not self._is_answering:
            left_s = min(left_s, self._idle_since + self.keep_alive_s - now)
            if left_s <= 0:
                self._close()
        if not self._is_ending and not self.transport.is_closing():
            self._timer = self._loop.call_later(left_s, self._check_timeouts)

    def _refuse(self, error: ServiceError) -> None:
        self._telemetry.count_rejection(error)
        self._end_with(written(error))

    def _end_with(self, answer: Answer) -> None:
        """Answers, unless something else is being answered, and closes this side of the connection. Closing both sides
        while the client still sends would reset it, and answers on their way would be lost."""
        self._is_ending = True
        if self._timer is not None:
            self._timer.cancel()
        self._inbox.rest()
        self._state.connections.discard(self)
        if not self._is_answering:
            self._send(answer, self._telemetry.request_ids.of({}), keep_alive=False)
        # What is still due could not be written behind an end of file.
        if not self._is_answering and self._is_writable and self.transport.can_write_eof():
            self.transport.write_eof()
            self._loop.call_later(LINGER_S, self.transport.abort)
        else:
            self._close()

    # Receiving

    def data_received(self, data: bytes) -> None:
        if self._is_ending:
            return
        try:
            if (last := self._seen(data)) is not None:
                handler, is_kept = last.handler, not self._is_stopping
                call = Call(handler, last.head, handler.metrics, self._write_answer, is_kept)
                if (refusal := last.head.refusal()) is None:
                    self._start(call, data[len(self._last_head) :])
                else:
                    call.refuse(refusal)
            elif not self.transport.is_closing():
                self._inbox.add(data)
                self._advance()
        except MemoryError:
            self._refuse(no_memory())

    def _seen(self, data: bytes) -> Call | None:
        """The last call, if `data` is exactly one request with the same head."""
        is_the_same = (
            len(data) == self._last_bytes
            and data.startswith(self._last_head)
            and not self._is_answering
            and self._call is None
            and not self._inbox
            and self._is_writable
            and self._service.is_ready
        )
        return self._last_call if is_the_same else None

    def _advance(self) -> None:
        """Processes what has arrived, as far as possible."""
        # An answer written below leads back here; the loop that is running already goes on with the next message.
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            while not self._is_ending and not self.transport.is_closing() and self._take():
                pass
        except HeadTooLarge as error:
            self._refuse(error)
        except Unframed as error:
            logger.warning("Invalid HTTP request received: %s", error)
            self._end_with(NOT_HTTP)
        finally:
            self._is_advancing = False
        if len(self._inbox) > MAX_WAITING_BYTES and self._is_answering:
            self.transport.pause_reading()

    def _take(self) -> bool:
        """One step; False if more bytes have to arrive, or an answer has to be written, first."""
        if self._inbox.expects_body and self._call is not None:
            content = self._inbox.body()
            if content is not None:
                self._start(self._call, content)
            return content is not None
        if self._inbox.expects_body:
            part = self._inbox.part()
            if part:
                self._stock().data_received(part)
            return bool(part)
        head = None if self._is_answering else self._inbox.head()
        if head is not None:
            self._open(head)
        return head is not None

    def _open(self, head: Head) -> None:
        """Starts a message; its body may still have to arrive."""
        handler, length = self._handlers.get(head.path), head.content_length or 0
        if head.is_websocket and head.path == PATH:
            self._open_stream(head)
        elif handler is not None and self._is_usual(head):
            asked, keep_alive = RequestHead(head.headers, head.query), head.keep_alive and not self._is_stopping
            self._call = Call(handler, asked, handler.metrics, self._write_answer, keep_alive)
            if len(self._inbox) == length and keep_alive:
                self._last_call, self._last_head = self._call, head.raw
                self._last_bytes = len(head.raw) + length
        else:
            self._is_answering = True
            self._stock().data_received(head.without_upgrade())

    def _stock(self) -> LongWay:
        if self._long_way is None:
            self._long_way = LongWay(self.answered, self._config, self._state, self._app_state)
            self._long_way.take_over(self.transport, self._is_writable)
        return self._long_way

    def _is_usual(self, head: Head) -> bool:
        return (
            head.method == b"POST"
            and 0 < (head.content_length or 0) <= self._settings.max_body_bytes
            and b"expect" not in head.headers
            and self._is_writable
            and self._service.is_ready
            # The guard checks the key again; this check is for a stranger's body, which is never read.
            and self._guard.has_key(head.headers)
        )

    # Sending

    def _start(self, call: Call, content: bytes) -> None:
        self._call, self._is_answering = call, True
        call.start(content)

    def _write_answer(self, call: Call, answer: Answer) -> None:
        self._send(answer, call.request_id, call.keep_alive)
        if not call.keep_alive:
            self.transport.close()
        self._call = None
        self.answered()

    def answered(self) -> None:
        """The answer to a request on this connection has been written."""
        self._is_answering = False
        self._idle_since = monotonic()
        if self._inbox:
            self.transport.resume_reading()
            self._advance()

    def _send(self, answer: Answer, request_id: bytes, keep_alive: bool) -> None:
        self.transport.write(to_bytes(answer, self._state.default_headers, request_id, keep_alive))

    def _open_stream(self, head: Head) -> None:
        path = PATH.decode()
        visit = self._guard.visit(head.headers, "GET", path, monotonic(), route=self._telemetry.route("GET", path))
        try:
            with visit:
                visit.status = 101
                stream = open_stream(self._handlers[FRAMES], head.url, head.lines, visit.context.request_id)
                if self._timer is not None:
                    self._timer.cancel()
                self._state.connections.discard(self)
                stream.begin(self.transport, self._state.connections)
                if sent_ahead := self._inbox.rest():
                    stream.data_received(sent_ahead)
        except ServiceError as error:
            self._send(written(error), visit.context.request_id, keep_alive=False)
            self.transport.close()
