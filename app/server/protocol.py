"""uvicorn's HTTP protocol with a short way through it for what bots send sixty times a second.

    data ─► parser ─┬─► POST /embed, /predict, /loss of an announced size ─► Handler.answer ─► one write
                    ├─► a WebSocket for /stream ─► app.server.stream, which has the connection from then on
                    └─► everything else ─► uvicorn ─► ASGI ─► FastAPI ─► … Handler.__call__ ─► Handler.answer

The short way makes no task, no scope and no messages, and goes through the headers once. A bot's heads are alike, byte
for byte: one that is the same as the last on its connection is not parsed again. A request that is alone is read,
computed and answered in one turn of the event loop. What is unusual goes the long way: `Expect`, chunks, pipelining, a
body over the limit, a client that does not read its answers, a service that is not ready, a key that does not open it.

It also sets limits that uvicorn does not: of connections, of a head, and of the time a request takes to come.
"""

import asyncio
import sys
from time import monotonic
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.api.native.call import Call
from app.api.native.handler import Asked, Handler, written
from app.api.native.request import Answer
from app.errors import HeadTooLarge, ServiceError, TooManyConnections, TooSlow, Unauthorized, no_memory
from app.server.stream import FRAMES, PATH, open_stream
from app.service import Service

MOST_HEAD_BYTES = 2**16
FAREWELL_S = 0.25


class Protocol(HttpToolsProtocol):
    """For `uvicorn.Config(http=…)`, with an app of `app.main.create_app`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._service: Service = self.app.state.service
        self._handlers: dict[bytes, Handler] = self.app.state.handlers
        self._reading: Call | None = None
        self._content: list[bytes] = []
        self._answering: Call | None = None
        self._in_message = self._in_head = False
        self._began = 0.0
        self._head_bytes = 0
        self._complete: Call | None = None  # in the chunk that is being parsed
        self._last: Call  # whose head was so long, in a chunk so large that held nothing else
        self._last_head, self._last_size = b"", -1
        self._default_headers: list[tuple[bytes, bytes]] = []
        self._default_lines = b""
        self._idle_since = monotonic()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._service.telemetry.connections.add()
        self._look_s: float = min(self.timeout_keep_alive, self._service.settings.read_timeout_s)
        self._look()
        if len(self.connections) > self._service.max_connections:
            self._refuse(TooManyConnections("every connection is taken; keep one open and send all frames over it"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._service.telemetry.connections.add(-1)
        self._service.telemetry.connections_closed.add()
        if self._answering is not None:
            self._answering.abandon()
        if isinstance(self.cycle, Call):
            self.cycle = None  # type: ignore[assignment]
        self._timer.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server ends. A bot may be about to send its next frame: for a moment it is told to go elsewhere."""
        if self._has_answered:
            self.loop.call_later(FAREWELL_S, super().shutdown)
        else:
            super().shutdown()

    def _look(self) -> None:
        """Whether the client is too slow, or has been silent for too long. One timer a connection: uvicorn's, one a
        request, costs as much as reading a row."""
        left_s, now = self._look_s, monotonic()
        if self._in_message:
            left_s = min(left_s, self._began + self._service.settings.read_timeout_s - now)
            if left_s <= 0:
                limit = f"{self._service.settings.read_timeout_s} s"
                self._refuse(TooSlow(f"the request had not come to its end after {limit}; send it in one piece"))
        elif self._has_answered:
            left_s = min(left_s, self._idle_since + self.timeout_keep_alive - now)
            if left_s <= 0:
                self._close()
        if not self.transport.is_closing():
            self._timer = self.loop.call_later(left_s, self._look)

    def _close(self) -> None:
        """Without the answers that the client does not read."""
        if self.flow.write_paused:
            self.transport.abort()
        else:
            self.transport.close()

    def _refuse(self, error: ServiceError) -> None:
        """What comes on this connection is not read to its end, so that it can carry nothing more."""
        telemetry = self._service.telemetry
        telemetry.count_rejection(error)
        if self._has_answered or self._reading is not None:  # or two answers would get mixed up
            self.write_answer(written(error), telemetry.request_id({}), keep_alive=False)
        self._close()

    def data_received(self, data: bytes) -> None:
        if (
            len(data) == self._last_size
            and data.startswith(self._last_head)
            and not self._in_message
            and self._takes_more
        ):
            self._unset_keepalive_if_required()
            self._answer(self._call(self._last.handler, self._last.asked), data[len(self._last_head) :])
            return
        if self.transport.is_closing():
            return
        self._complete = None
        between_requests = not self._in_message and self._has_answered
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self._refuse(HeadTooLarge(f"the head is larger than {MOST_HEAD_BYTES} bytes; send fewer headers"))
            return
        if self._complete is not None and between_requests and self._complete.keep_alive:
            size = int(self._complete.asked.headers[b"content-length"])
            if data.find(b"\r\n\r\n") + 4 + size == len(data):  # nothing before the head, nothing behind the body
                self._last, self._last_head, self._last_size = self._complete, data[:-size], len(data)

    @property
    def _has_answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    @property
    def _takes_more(self) -> bool:
        return self._has_answered and not self.flow.write_paused and self._service.is_ready

    def on_message_begin(self) -> None:
        self._in_message = self._in_head = True
        self._began = monotonic()
        self._head_bytes = 0
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        path, _, query = self.url.partition(b"?")
        handler, headers = self._handlers.get(path), dict(self.headers)
        if handler is not None and self._is_usual(headers):
            keep_alive = self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0"
            self._reading = self._call(handler, Asked(headers, query), keep_alive)
            self.cycle = self._reading  # type: ignore[assignment]
        else:
            self._reading = None
            self._go_the_long_way()

    def _is_usual(self, headers: dict[bytes, bytes]) -> bool:
        size = headers.get(b"content-length", b"")
        return (
            self.parser.get_method() == b"POST"
            and size.isdigit()
            and 0 < int(size) <= self._service.settings.max_body_bytes
            and b"expect" not in headers
            and b"upgrade" not in headers
            and self._takes_more
            and self._has_key(headers)
        )

    def _has_key(self, headers: dict[bytes, bytes]) -> bool:
        try:
            self._service.keys.check(headers)
        except Unauthorized:
            return False
        return True

    def _go_the_long_way(self) -> None:
        """As if uvicorn had seen the request from its beginning."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        super().on_url(url)
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._reading is None:
            super().on_body(body)
        else:
            self._content.append(body)

    def on_message_complete(self) -> None:
        self._in_message = False
        if self._reading is None:
            super().on_message_complete()
        else:
            content, self._content = b"".join(self._content), []
            call, self._reading = self._reading, None
            self._complete = call
            self._answer(call, content)

    def send_400_response(self, msg: str) -> None:
        """To what the parser gives up on."""
        error = sys.exception()
        if error is not None and isinstance(error.__context__, MemoryError):
            self._refuse(no_memory())
        else:
            super().send_400_response(msg)

    def _call(self, handler: Handler, asked: Asked, keep_alive: bool = True) -> Call:
        return Call(handler, asked, handler.metrics, self._write, keep_alive)

    def _answer(self, call: Call, content: bytes) -> None:
        self._answering = call
        self.cycle = call  # type: ignore[assignment]
        call.start(content)

    def _write(self, call: Call, answer: Answer) -> None:
        self.write_answer(answer, call.caller.request_id, call.keep_alive)

    def _should_upgrade(self) -> bool:
        """What asks for another protocol elsewhere is answered as if it had not."""
        is_websocket = self._get_upgrade() == b"websocket" and self.url.partition(b"?")[0] == PATH
        return is_websocket and self._has_answered and not self.flow.write_paused

    def _unsupported_upgrade_warning(self) -> None: ...

    def handle_websocket_upgrade(self) -> None:
        telemetry, path, status = self._service.telemetry, PATH.decode(), 101
        caller = telemetry.arrived(dict(self.headers), "GET", path, self._began)
        try:
            stream = open_stream(self._handlers[FRAMES], self.url, self.headers, caller.request_id)
        except ServiceError as error:
            telemetry.count_rejection(error)
            status = error.status
            self.write_answer(written(error), caller.request_id, keep_alive=False)
        else:
            self._timer.cancel()
            self.connections.discard(self)
            stream.begin(self.transport, self.connections)
        telemetry.answered(caller, telemetry.route("GET", path), "GET", path, status, monotonic() - self._began)

    def on_response_complete(self) -> None:
        self._idle_since = monotonic()
        super().on_response_complete()

    def write_answer(self, answer: Answer, request_id: bytes, keep_alive: bool) -> None:
        if self._default_headers is not self.server_state.default_headers:  # uvicorn makes a new list every second
            self._default_headers = self.server_state.default_headers
            self._default_lines = b"".join(b"%s: %s\r\n" % header for header in self._default_headers)
        parts = [STATUS_LINE[answer.status], self._default_lines]
        for header in answer.headers:
            parts.append(b"%s: %s\r\n" % header)
        end = b"\r\n\r\n" if keep_alive else b"\r\nconnection: close\r\n\r\n"
        parts += (b"x-request-id: ", request_id, end, answer.body)
        self.transport.write(b"".join(parts))
        if not keep_alive:
            self.transport.close()
        elif self.pipeline or self.flow.read_paused:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1
            self._idle_since = monotonic()
