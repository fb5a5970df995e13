"""The front door: an HTTP protocol that answers by itself what bots send sixty times a second.

    data ─► head ─┬─► POST /embed, /predict, /loss with a Content-Length ─► a Call ─► one write
                  ├─► a WebSocket for /stream ─► app.server.stream, which has the connection from then on
                  ├─► any other request of a known length ─► a stock uvicorn protocol, message by message
                  └─► chunks, and what is no HTTP ─► the same protocol, which has the bytes from then on

The short way makes no scope and no messages, and goes through the headers once. A bot's heads are alike, byte for byte:
one that equals the last on its connection is not parsed again. Requests of one connection are answered one after
another; what a client sends meanwhile waits, up to a limit beyond which it is not read.

uvicorn has limits neither of connections, nor of a head, nor of the time that a request takes to come: those are here.
"""

import asyncio
from http import HTTPStatus
from time import monotonic
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.api.guard import Guard
from app.api.native.call import Call, written
from app.api.native.handler import Asked, Handler
from app.api.native.request import Answer
from app.errors import HeadTooLarge, ServiceError, TooManyConnections, TooSlow, Unauthorized, no_memory
from app.server.head import MAX_HEAD_BYTES, Head, find_end, parse
from app.server.stream import FRAMES, PATH, open_stream
from app.service import Service

# What may wait behind a request that is being answered; a client that sends more is not read until it is.
MAX_WAITING_BYTES = 2**16
# How long an idle connection still hears, while the service stops, that it has to go elsewhere.
FAREWELL_S = 0.25
STATUS_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}


class LongWay(HttpToolsProtocol):
    """uvicorn's protocol as it is, but that the front door hears of the end of each answer and closes what is idle."""

    def __init__(
        self, door: "FrontDoor", config: uvicorn.Config, state: ServerState, app_state: dict[str, Any]
    ) -> None:
        super().__init__(config, state, app_state)
        self._door = door

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._door.answered()

    def timeout_keep_alive_handler(self) -> None: ...


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
        self._telemetry = self._service.telemetry
        self._settings = self._service.settings
        self._loop = asyncio.get_running_loop()
        # per connection
        self.keep_alive_s: float = config.timeout_keep_alive
        self._buffer = bytearray()  # what came and belongs to no message yet, or to the body of a call
        self._idle_since = monotonic()
        self._is_stopping = False
        self._is_writable = True
        self._is_advancing = False
        self._long_way: LongWay | None = None
        self._watch: _Watch | None = None  # where everything goes to the long way as it comes
        self._raw_answers = 0
        self._timer: asyncio.TimerHandle | None = None
        self._last_call: Call | None = None  # its head and size were …
        self._last_head, self._last_bytes = b"", -1
        # per request
        self._began: float | None = None  # a message that has not come to its end
        self._call: Call | None = None  # on the short way, its body still coming or its answer
        self._missing = 0  # bytes of its body; of one on the long way, those that are still to be passed on
        self._is_answering = False

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self._state.connections.add(self)  # type: ignore[arg-type]
        self._telemetry.connections.add()
        self._look()
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
        self._buffer.clear()

    def eof_received(self) -> None: ...

    def pause_writing(self) -> None:
        self._is_writable = False
        if self._long_way is not None:
            self._long_way.pause_writing()

    def resume_writing(self) -> None:
        self._is_writable = True
        if self._long_way is not None:
            self._long_way.resume_writing()

    def shutdown(self) -> None:
        """The server ends. A bot may be about to send its next frame: for a moment it is told to go elsewhere."""
        self._is_stopping = True
        if self._call is not None:
            self._call.keep_alive = False
        elif self._long_way is not None and self._is_answering:
            self._long_way.shutdown()
        else:
            self._loop.call_later(FAREWELL_S, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if not self._is_answering and self._call is None:
            self._close()
        elif self._long_way is not None and self._call is None:
            self._long_way.shutdown()

    def _close(self) -> None:
        """Without the answers that the client does not read."""
        if self._is_writable:
            self.transport.close()
        else:
            self.transport.abort()

    def _look(self) -> None:
        """Whether the client is too slow, or has been silent for too long. One timer a connection, that is set anew
        only when it has run out: setting one a request costs as much as reading a row."""
        now, patience_s = monotonic(), float(self._settings.read_timeout_s)
        left_s = min(patience_s, self.keep_alive_s)
        if self._began is not None:
            left_s = min(left_s, self._began + patience_s - now)
            if left_s <= 0:
                limit = f"{self._settings.read_timeout_s} s"
                self._refuse(TooSlow(f"the request had not come to its end after {limit}; send it in one piece"))
        elif not self._is_answering:
            left_s = min(left_s, self._idle_since + self.keep_alive_s - now)
            if left_s <= 0:
                self._close()
        if not self.transport.is_closing():
            self._timer = self._loop.call_later(left_s, self._look)

    def _refuse(self, error: ServiceError) -> None:
        """What comes on this connection is not read to its end, so that it can carry nothing more."""
        self._telemetry.count_rejection(error)
        if not self._is_answering:  # or two answers would get mixed up
            self._write(written(error), self._telemetry.request_id({}), keep_alive=False)
        self._close()

    # What comes

    def data_received(self, data: bytes) -> None:
        try:
            if self._watch is not None:
                self._pass_raw(self._watch, data)
            elif self._is_seen(data):
                self._start(self._make_call(self._last_call), data[len(self._last_head) :])  # type: ignore[arg-type]
            elif not self.transport.is_closing():
                self._buffer += data
                self._advance()
        except MemoryError:
            self._buffer.clear()
            self._refuse(no_memory())

    def _is_seen(self, data: bytes) -> bool:
        """Whether it is a whole request, alone, with the head of the last one."""
        return (
            len(data) == self._last_bytes
            and data.startswith(self._last_head)
            and not self._is_answering
            and self._call is None
            and not self._buffer
            and self._is_writable
            and self._service.is_ready
        )

    def _advance(self) -> None:
        """Goes on with what has come, as far as that goes."""
        if self._is_advancing:  # an answer was written meanwhile
            return
        self._is_advancing = True
        try:
            while not self.transport.is_closing() and self._take():
                pass
        finally:
            self._is_advancing = False
        if len(self._buffer) > MAX_WAITING_BYTES and self._is_answering and not self._missing:
            self.transport.pause_reading()

    def _take(self) -> bool:
        """One step; False where more has to come or to be answered first."""
        if self._watch is not None:
            return False
        if self._missing:
            return self._take_body()
        if self._is_answering or not self._buffer:
            return False
        return self._take_head()

    def _take_head(self) -> bool:
        # Empty lines before a request are ignored (RFC 9112, 2.2).
        while self._buffer.startswith((b"\r", b"\n")):
            del self._buffer[:1]
        if not self._buffer:
            return False
        if self._began is None:
            self._began = monotonic()
        try:
            end = find_end(self._buffer)
        except ValueError:
            return self._go_raw()
        if end > MAX_HEAD_BYTES or (end < 0 and len(self._buffer) > MAX_HEAD_BYTES):
            self._refuse(HeadTooLarge(f"the head is larger than {MAX_HEAD_BYTES} bytes; send fewer headers"))
            return False
        if end < 0:
            return False
        raw = bytes(self._buffer[:end])
        head = parse(raw)
        if head is None:
            return self._go_raw()
        if head.is_websocket and head.path == PATH:
            self._open_stream(head)
            return False
        del self._buffer[:end]
        self._missing = head.content_length
        if (handler := self._handlers.get(head.path)) is not None and self._is_usual(head):
            self._call = self._make_call_for(handler, head)
            if len(self._buffer) == head.content_length and head.keep_alive:
                self._last_call, self._last_head, self._last_bytes = self._call, raw, end + head.content_length
        else:
            self._is_answering = True
            self._stock().data_received(head.without_upgrade(raw))
            if not self._missing:
                self._began = None
        return True

    def _take_body(self) -> bool:
        if self._call is None:
            part = bytes(self._buffer[: self._missing])
            del self._buffer[: self._missing]
            self._missing -= len(part)
            if not self._missing:
                self._began = None
                self._idle_since = monotonic()
            if part:
                self._stock().data_received(part)
            return bool(part)
        if len(self._buffer) < self._missing:
            return False
        content = bytes(self._buffer[: self._missing])
        del self._buffer[: self._missing]
        self._missing = 0
        self._start(self._call, content)
        return True

    def _go_raw(self) -> bool:
        """Of chunks, and of what is no HTTP, the end is uvicorn's to find: it gets the connection and its bytes."""
        self._watch = _Watch()
        data = bytes(self._buffer)
        self._buffer.clear()
        self._pass_raw(self._watch, data)
        return False

    def _pass_raw(self, watch: "_Watch", data: bytes) -> None:
        watch.feed(data)
        if watch.head_bytes > MAX_HEAD_BYTES:
            self._refuse(HeadTooLarge(f"the head is larger than {MAX_HEAD_BYTES} bytes; send fewer headers"))
            return
        self._began, self._is_answering = watch.began, watch.heads > self._raw_answers
        self._stock().data_received(data)

    def _stock(self) -> LongWay:
        if self._long_way is None:
            self._long_way = LongWay(self, self._config, self._state, self._app_state)
            self._long_way.connection_made(self.transport)
            # Who waits for connections to end, or counts them, finds the door.
            self._state.connections.discard(self._long_way)
            if not self._is_writable:
                self._long_way.pause_writing()
        return self._long_way

    def _is_usual(self, head: Head) -> bool:
        return (
            head.method == b"POST"
            and 0 < head.content_length <= self._settings.max_body_bytes
            and b"expect" not in head.headers
            and self._is_writable
            and self._service.is_ready
            and self._has_key(head.headers)
        )

    def _has_key(self, headers: dict[bytes, bytes]) -> bool:
        """The guard asks again; this is for strangers' bodies, which are not read."""
        try:
            self._guard.keys.check(headers)
        except Unauthorized:
            return False
        return True

    # What goes

    def _make_call_for(self, handler: Handler, head: Head) -> Call:
        keep_alive = head.keep_alive and not self._is_stopping
        return Call(handler, Asked(head.headers, head.query), handler.metrics, self._write_answer, keep_alive)

    def _make_call(self, like: Call) -> Call:
        return Call(like.handler, like.asked, like.handler.metrics, self._write_answer, not self._is_stopping)

    def _start(self, call: Call, content: bytes) -> None:
        self._began, self._call, self._is_answering = None, call, True
        call.start(content)

    def _write_answer(self, call: Call, answer: Answer) -> None:
        self._write(answer, call.request_id, call.keep_alive)
        self._call = None
        self.answered()

    def answered(self) -> None:
        """A request of this connection has its whole answer."""
        if self._watch is not None:
            self._raw_answers += 1
        self._is_answering = self._watch is not None and self._watch.heads > self._raw_answers
        self._idle_since = monotonic()
        if self._buffer:
            self.transport.resume_reading()
            self._advance()

    def _write(self, answer: Answer, request_id: bytes, keep_alive: bool) -> None:
        parts = [STATUS_LINES[answer.status]]
        # uvicorn's date, a new list every second.
        for header in (*self._state.default_headers, *answer.headers):
            parts.append(b"%s: %s\r\n" % header)
        end = b"\r\n\r\n" if keep_alive else b"\r\nconnection: close\r\n\r\n"
        parts += (b"x-request-id: ", request_id, end, answer.body)
        self.transport.write(b"".join(parts))
        if not keep_alive:
            self.transport.close()

    def _open_stream(self, head: Head) -> None:
        path = PATH.decode()
        visit = self._guard.visit(
            head.headers, "GET", path, self._began or monotonic(), route=self._telemetry.route("GET", path)
        )
        try:
            with visit:
                visit.status = 101
                stream = open_stream(self._handlers[FRAMES], head.url, head.lines, visit.context.request_id)
                if self._timer is not None:
                    self._timer.cancel()
                self._state.connections.discard(self)
                stream.begin(self.transport, self._state.connections)
        except ServiceError as error:
            self._write(written(error), visit.context.request_id, keep_alive=False)


class _Watch:
    """Sees where messages begin and end in bytes that uvicorn parses."""

    def __init__(self) -> None:
        self.began: float | None = None
        self.head_bytes = 0
        self.heads = 0
        self._in_head = False
        self._parser = httptools.HttpRequestParser(self)

    def feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return  # uvicorn finds that too, and answers
        self.head_bytes = self.head_bytes + len(data) if self._in_head else 0

    def on_message_begin(self) -> None:
        self.began, self._in_head = monotonic(), True

    def on_headers_complete(self) -> None:
        self._in_head = False
        self.heads += 1

    def on_message_complete(self) -> None:
        self.began = None
