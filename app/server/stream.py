"""A bot's frames over a WebSocket that stays open: one binary message in, one out, by the same queues as POST /embed.

    in     number, uint32 │ float32 …    little-endian; rows of input_dim
    out    number, uint32 │ float32 …    rows of embed_dim; or, as text, the problem document with the number as `seq`

A stream is a stream of frames as X-Stream-Id names one: a frame gives its place in the queue to a newer one.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import Any, cast
from uuid import uuid4

import orjson
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from app.api.headers import BINARY
from app.api.native.call import Call
from app.api.native.handler import Asked, Handler
from app.api.native.request import Answer, read_head
from app.api.native.schemas import EmbedOptions
from app.api.validation import check_schema
from app.errors import ForeignOrigin, UpgradeRequired

PATH = b"/stream"
FRAMES = b"/embed"  # whose handler answers them
NUMBER = struct.Struct("<I")
MOST_AT_ONCE = 32
CLOSES_S = 1.0  # for the client to answer that the stream is closed

Headers = Sequence[tuple[bytes, bytes]]


def open_stream(handler: Handler, url: bytes, headers: Headers, request_id: bytes) -> "Stream":
    """For a handshake; raises ServiceError. The first write of the stream is the answer to it."""
    service, found = handler.service, dict(headers)
    _check_origin(found)
    service.admit()
    binary = {b"content-type": BINARY, b"accept": BINARY, b"content-encoding": b"identity"}
    head = read_head(found | binary, url.partition(b"?")[2], EmbedOptions)
    model = service.registry.get(head.options.model if head.options else None)
    check_schema(model, {head.schema_hash, head.options.schema_hash if head.options else None})
    head.stream = head.stream or uuid4().hex
    # Floats hardly shrink, so no extension is offered.
    connection = ServerProtocol(max_size=service.settings.max_body_bytes + NUMBER.size)
    lines = (b"%s: %s\r\n" % header for header in headers)
    connection.receive_data(b"GET %s HTTP/1.1\r\n%s\r\n" % (url, b"".join(lines)))
    requests = connection.events_received()
    response = connection.accept(requests[0]) if requests else None  # type: ignore[arg-type]
    if response is None or response.status_code != 101:
        raise UpgradeRequired(f"this is no WebSocket handshake: {connection.handshake_exc}")
    response.headers["X-Request-Id"] = request_id.decode()
    connection.send_response(response)
    return Stream(handler, Asked(found, b"", head=head), connection, request_id)


def _check_origin(headers: dict[bytes, bytes]) -> None:
    """Browsers open WebSockets to anywhere for any page, but say whose page it is; nobody else sends an Origin."""
    origin = headers.get(b"origin")
    if origin is not None and origin.partition(b"://")[2].lower() != headers.get(b"host", b"").lower():
        raise ForeignOrigin("a page of another origin may not open a stream; let a proxy of its own origin pass it on")


class Stream(asyncio.Protocol):
    """Has the connection from the handshake on."""

    def __init__(self, handler: Handler, asked: Asked, connection: ServerProtocol, request_id: bytes) -> None:
        self._handler, self._asked, self._connection, self._request_id = handler, asked, connection, request_id
        self._settings, self._telemetry = handler.service.settings, handler.service.telemetry
        self._metrics = self._telemetry.route("WS", PATH.decode())
        self._frames: deque[Frame] = deque()  # of WebSocket, that came and were not looked at yet
        self._pieces: list[bytes] = []  # of a message that comes in several
        self._calls: dict[Call, int] = {}
        self._heard_at = monotonic()  # the last of a message
        self._began_at: float | None = None  # a message that has not come to its end
        self._choked_at: float | None = None  # since the client does not read
        self._leaves = False
        self._end: asyncio.TimerHandle | None = None

    def begin(self, transport: asyncio.Transport, connections: set[Any]) -> None:
        """Takes the connection over; who counts `connections`, or waits for their end, finds it there."""
        self.transport, self._connections = transport, connections
        self._loop = asyncio.get_running_loop()
        connections.add(self)
        transport.set_protocol(self)
        self._telemetry.streams.add()
        self._flush()
        self._look()

    def connection_lost(self, _: Exception | None) -> None:
        self._connections.discard(self)
        for timer in (self._timer, self._end):
            if timer is not None:
                timer.cancel()
        self._frames.clear()
        for call in self._calls:
            call.abandon()
        self._telemetry.streams.add(-1)
        self._telemetry.connections.add(-1)
        self._telemetry.connections_closed.add()

    # What comes

    def data_received(self, data: bytes) -> None:
        self._connection.receive_data(data)
        frames = cast(list[Frame], self._connection.events_received())
        if any(frame.fin for frame in frames):
            self._heard_at, self._began_at = monotonic(), None
        else:
            self._began_at = self._began_at or monotonic()
        self._frames += frames
        self._go_on()

    def _go_on(self) -> None:
        """Some at a time, so that nobody who sends thousands at once holds up the others."""
        for _ in range(min(MOST_AT_ONCE, len(self._frames))):
            self._take(self._frames.popleft())
        self._flush()
        if self._frames:
            self.transport.pause_reading()
            self._loop.call_soon(self._go_on)
        elif self._choked_at is None:
            self.transport.resume_reading()

    def _take(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.BINARY, Opcode.CONT):
            self._pieces.append(bytes(frame.data))
            if frame.fin:
                content, self._pieces = b"".join(self._pieces), []
                self._take_message(content)
        elif frame.opcode is Opcode.TEXT:
            self._close(CloseCode.UNSUPPORTED_DATA, "send binary messages: a uint32 number, then float32 rows")

    def _take_message(self, content: bytes) -> None:
        if self._connection.state is not State.OPEN:
            return
        if len(content) < NUMBER.size:
            self._close(CloseCode.INVALID_DATA, "a message starts with the frame's number, a little-endian uint32")
            return
        call = Call(self._handler, self._asked, self._metrics, self._write)
        (number,) = NUMBER.unpack_from(content)
        self._calls[call] = number
        call.start(content[NUMBER.size :], b"%s/%d" % (self._request_id, number), is_admitted=False)

    # What goes

    def _write(self, call: Call, answer: Answer) -> None:
        number, is_open = self._calls[call], self._connection.state is State.OPEN
        if is_open and answer.status == 200:
            self._connection.send_binary(NUMBER.pack(number) + answer.body)
        elif is_open:
            self._connection.send_text(orjson.dumps(orjson.loads(answer.body) | {"seq": number}))
        del self._calls[call]
        self._leave_if_told()
        self._flush()

    def _flush(self) -> None:
        for data in self._connection.data_to_send():
            if data:
                self.transport.write(data)
            elif self.transport.can_write_eof():
                # If it were closed, what still comes would make the client's system drop what it was told last.
                self.transport.write_eof()
            else:
                self.transport.close()
        if self._connection.state is not State.OPEN and self._end is None:
            self._end = self._loop.call_later(CLOSES_S, self.transport.abort)

    def pause_writing(self) -> None:
        """Whoever does not read its answers is not read either."""
        self._choked_at = monotonic()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._choked_at = None
        if not self._frames:
            self.transport.resume_reading()

    # How it ends

    def shutdown(self) -> None:
        """The service stops; what has come is still answered."""
        self._leaves = True
        self._leave_if_told()
        self._flush()

    def _leave_if_told(self) -> None:
        if self._leaves and not self._calls and not self._frames:
            self._close(CloseCode.GOING_AWAY, "the service is stopping")

    def _close(self, code: CloseCode, reason: str) -> None:
        if self._connection.state is State.OPEN:
            self._connection.send_close(code, reason)

    def _look(self) -> None:
        """Whether the client does not read, is too slow, or has been silent for too long: one timer a stream."""
        now, patience_s = monotonic(), self._settings.read_timeout_s

        def left_s(since: float | None, limit_s: float) -> float:
            return limit_s if since is None else since + limit_s - now

        choked_s, late_s = left_s(self._choked_at, patience_s), left_s(self._began_at, patience_s)
        idle_s = left_s(None if self._calls else self._heard_at, self._settings.keep_alive_s)
        if choked_s <= 0:
            self.transport.abort()
        elif late_s <= 0:
            self._close(CloseCode.POLICY_VIOLATION, f"a message had not come to its end after {patience_s} s")
        elif idle_s <= 0:
            self._close(CloseCode.GOING_AWAY, f"nothing came for {self._settings.keep_alive_s} s")
        self._flush()
        self._timer = self._loop.call_later(max(0.01, min(choked_s, late_s, idle_s)), self._look)
