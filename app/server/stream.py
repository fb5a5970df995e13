"""Frames over a WebSocket that stays open: one binary message in, one out, through the queues of /embed, /predict or
/forecast.

    in     number, uint32 │ float32 …    little-endian; rows of input_dim, with inputs behind each if `actions` says so
    out    number, uint32 │ float32 …    embeddings, or values of heads; as text, the problem with the number as `seq`

A WebSocket counts as one stream of frames, as X-Stream-Id names one: a newer frame replaces an older one that still
waits in the queue.
"""

import asyncio
import struct
from collections.abc import Sequence
from time import monotonic
from typing import Any, cast
from urllib.parse import parse_qsl
from uuid import uuid4

import orjson
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from app.api.answer import Answer
from app.api.call import Call, Handler
from app.api.handlers import Handlers
from app.api.headers import BINARY
from app.api.native.handler import Head
from app.api.native.request import binary_fields, check_width, read_head
from app.api.native.schemas import STREAMS
from app.api.validation import check_schema
from app.errors import UpgradeRequired
from app.server.clocks import Clocks
from app.server.frames import Frames
from app.system.buffers import Share

PATH = b"/stream"
NUMBER = struct.Struct("<I")
# Frames taken in one turn of the event loop, so that a client that sends thousands at once does not hold up the others.
MAX_FRAMES_A_TURN = 32
# How long the client has to confirm that the stream is closed.
CLOSE_TIMEOUT_S = 1.0

Headers = Sequence[tuple[bytes, bytes]]


def open_stream(handlers: Handlers, url: bytes, headers: Headers, request_id: bytes) -> "Stream":
    """Checks a handshake; raises ServiceError. The first bytes the stream writes are the answer to it."""
    query, found = url.partition(b"?")[2], dict(headers)
    answer = dict(parse_qsl(query.decode("latin-1"))).get("answer", "embed")
    # One that is not known is refused by the schema.
    answer = answer if answer in STREAMS else "embed"
    handler = handlers.by_path[b"/" + answer.encode()]
    service = handler.service
    service.admit()
    binary = {b"content-type": BINARY, b"accept": BINARY, b"content-encoding": b"identity"}
    head = read_head(found | binary, query, STREAMS[answer])
    model = service.registry.get(head.options.model if head.options else None)
    check_schema(model, {head.schema_hash, head.options.schema_hash if head.options else None})
    fields = binary_fields(model, head.options)
    if head.row_width is not None:
        check_width(fields, head.row_width)
    # Of all frames: once a version with other rows is served, one row of these may pass for two of those.
    head.row_width = fields.layouts[0].width
    head.stream = head.stream or uuid4().hex
    # Floats hardly compress, so permessage-deflate is not offered.
    connection = ServerProtocol(max_size=service.settings.max_body_bytes + NUMBER.size)
    lines = (b"%s: %s\r\n" % header for header in headers)
    connection.receive_data(b"GET %s HTTP/1.1\r\n%s\r\n" % (url, b"".join(lines)))
    requests = connection.events_received()
    response = connection.accept(requests[0]) if requests else None  # type: ignore[arg-type]
    if response is None or response.status_code != 101:
        raise UpgradeRequired(f"this is no WebSocket handshake: {connection.handshake_exc}")
    response.headers["X-Request-Id"] = request_id.decode()
    # Frames have no room to say their shape, so the client is told what it is to be.
    response.headers["X-Row-Width"] = str(fields.width)
    connection.send_response(response)
    return Stream(handler, Head(PATH.decode(), found, parsed=head), connection, request_id)


class Stream(asyncio.Protocol):
    """Owns the connection from the handshake on."""

    def __init__(self, handler: Handler, asked: Head, connection: ServerProtocol, request_id: bytes) -> None:
        self._handler, self._asked, self._connection, self._request_id = handler, asked, connection, request_id
        self._settings, self._telemetry = handler.service.settings, handler.service.telemetry
        self._metrics = self._telemetry.route("WS", PATH.decode())
        # per connection
        self._end: asyncio.TimerHandle | None = None
        self._is_stopping = False
        # What has arrived and has not been processed, perhaps because it waits for its turn.
        self._frames, self._is_waiting = Frames(), False
        # Frame numbers of the calls that are not answered yet.
        self._calls: dict[Call, int] = {}
        self._heard_at = monotonic()
        # When the message that is arriving began. Control frames may come in between, and are no part of it.
        self._began_at: float | None = None
        self._share = Share(handler.service.buffers)
        # per message: what has arrived of it
        self._message = bytearray()
        self._is_within_message = False

    def begin(self, transport: asyncio.Transport, connections: set[Any], *, sent_ahead: bytes) -> None:
        """Takes over the connection, its place among the `connections` that the server counts and closes, and what the
        client has sent behind the handshake."""
        self.transport, self._connections = transport, connections
        service = self._handler.service
        self._clocks = Clocks(self, transport, service, self._settings.keep_alive_s)
        self._loop = asyncio.get_running_loop()
        connections.add(self)
        transport.set_protocol(self)
        self._telemetry.streams.add()
        self._flush()
        self._clocks.check()
        self.data_received(sent_ahead)

    def connection_lost(self, _: Exception | None) -> None:
        self._connections.discard(self)
        self._clocks.stop()
        if self._end is not None:
            self._end.cancel()
        self._frames.clear()
        self._message.clear()
        self._share.fits(0)
        for call in self._calls:
            call.abandon()
        self._telemetry.streams.add(-1)
        self._telemetry.connections.add(-1)
        self._telemetry.connections_closed.add()

    # Receiving

    def data_received(self, data: bytes) -> None:
        self._frames.add(data)
        if not self._is_waiting:
            self._process()

    def _process(self) -> bool:
        """Processes some of what has arrived; the rest waits for its turn, or for the client to read its answers."""
        self._is_waiting = False
        for _ in range(MAX_FRAMES_A_TURN):
            piece = b"" if self._clocks.unread_since is not None else self._frames.take()
            if piece:
                self._connection.receive_data(piece)
                for frame in cast(list[Frame], self._connection.events_received()):
                    self._take(frame)
            is_receiving = self._is_within_message or self._frames.is_within_frame
            self._began_at = (self._began_at or monotonic()) if is_receiving else None
            if not piece or not self._frames:
                break
        else:
            self._is_waiting = len(self._frames) > 0
        if not self._share.fits(len(self._message) + self._frames.held_bytes):
            self._close(CloseCode.TRY_AGAIN_LATER, "bodies take all the memory that there is for them")
        self._flush()
        if self._is_waiting:
            self.transport.pause_reading()
            self._handler.service.turns.wait(self._process)
        elif self._clocks.unread_since is None:
            self.transport.resume_reading()
        return False

    def _take(self, frame: Frame) -> None:
        self._heard_at = monotonic()
        if frame.opcode in (Opcode.BINARY, Opcode.CONT):
            self._message += frame.data
            self._is_within_message = not frame.fin
            if frame.fin:
                content, self._message, self._began_at = bytes(self._message), bytearray(), None
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

    # Sending

    def _write(self, call: Call, answer: Answer) -> None:
        number, is_open = self._calls[call], self._connection.state is State.OPEN
        if is_open and answer.status == 200:
            self._connection.send_binary(NUMBER.pack(number) + answer.body)
        elif is_open:
            self._connection.send_text(orjson.dumps(orjson.loads(answer.body) | {"seq": number}))
        del self._calls[call]
        self._close_if_done()
        self._flush()

    def _flush(self) -> None:
        for data in self._connection.data_to_send():
            if data:
                self.transport.write(data)
            elif self.transport.can_write_eof():
                # Closing with unread bytes would send a reset, and the client would lose the last message.
                self.transport.write_eof()
            else:
                self.transport.close()
        if self._connection.state is not State.OPEN and self._end is None:
            self._end = self._loop.call_later(CLOSE_TIMEOUT_S, self.transport.abort)

    def pause_writing(self) -> None:
        """A client that does not read its answers is not read either."""
        self._clocks.pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._clocks.resume_writing()
        if not self._is_waiting:
            self._process()

    # Ending

    def shutdown(self) -> None:
        """The service stops; frames that have arrived are still answered."""
        self._is_stopping = True
        self._close_if_done()
        self._flush()

    @property
    def is_owed(self) -> bool:
        """Whether frames are being answered, to a client that reads."""
        return bool(self._calls) and not self.transport.get_write_buffer_size()

    def _close_if_done(self) -> None:
        if self._is_stopping and not self._calls and not self._is_waiting:
            self._close(CloseCode.GOING_AWAY, "the service is stopping")

    def _close(self, code: CloseCode, reason: str) -> None:
        if self._connection.state is State.OPEN:
            self._connection.send_close(code, reason)

    @property
    def receiving_since(self) -> float | None:
        return self._began_at

    @property
    def silent_since(self) -> float | None:
        is_busy = self._calls or self._is_waiting or self._began_at or self._clocks.unread_since
        return None if is_busy else self._heard_at

    def end_slow(self) -> None:
        limit = f"{self._settings.read_timeout_s} s"
        self._close(CloseCode.POLICY_VIOLATION, f"a message had not come to its end after {limit}")
        self._flush()

    def end_silent(self) -> None:
        self._close(CloseCode.GOING_AWAY, f"nothing came for {self._settings.keep_alive_s} s")
        self._flush()
