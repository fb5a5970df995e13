"""The front door: an HTTP protocol that answers the usual requests itself and leaves the rest to uvicorn.

    data ─► head ─┬─► POST /embed, /predict, /forecast, /loss, /v2/…/infer with a length ─► a Call ─► one write
                  ├─► a WebSocket handshake for /stream ─► app.server.stream, which owns the connection from then on
                  └─► any other request ─► a stock uvicorn protocol, one message at a time

The first of these, the short way, builds no ASGI scope and no messages. A bot sends the same head with every frame,
byte for byte: a head equal to the connection's last one is not parsed again. Requests are answered one at a time. Bytes
that arrive meanwhile wait, for their turn and for the client to read what is written; past a limit the socket is not
read. uvicorn limits neither connections, nor heads, nor the memory and the time that requests take: this package does.
"""

import asyncio
import logging
from time import monotonic
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from app.api.answer import Answer
from app.api.call import Call, RequestHead
from app.api.guard import Guard
from app.api.handlers import Handlers
from app.api.problems import PROBLEMS
from app.errors import BuffersFull, HeadTooLarge, ServiceError, TooManyConnections, TooSlow, no_memory
from app.server.answers import NOT_HTTP, hang_up, to_bytes
from app.server.backlog import Backlog
from app.server.clocks import Clocks
from app.server.framing import Head, Inbox, Unframed
from app.server.handshake import shake_hands
from app.server.long_way import LongWay
from app.server.stream import PATH
from app.service import Phase, Service

logger = logging.getLogger(__name__)

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
        self._handlers: Handlers = state.handlers
        self._telemetry, self._settings = self._service.telemetry, self._service.settings
        # per connection
        self._inbox, self._idle_since = Inbox(), monotonic()
        # The service stops; the client was refused, and what still arrives is dropped.
        self._is_stopping = self._is_ending = False
        self._long_way: LongWay | None = None
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
        self._clocks = Clocks(self, transport, self._service, self._config.timeout_keep_alive)
        self._backlog = Backlog(transport, self._service)
        self._state.connections.add(self)  # type: ignore[arg-type]
        self._telemetry.connections.add()
        self._clocks.check()
        if len(self._state.connections) > self._service.max_connections:
            self._refuse(TooManyConnections("every connection is taken; keep one open and send all frames over it"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        self._telemetry.connections.add(-1)
        self._telemetry.connections_closed.add()
        self._clocks.stop()
        if self._is_answering and self._call is not None:
            self._call.abandon()
        if self._long_way is not None:
            self._long_way.connection_lost(exc)
        self._inbox.drop()
        self._backlog.let_go(0)

    def pause_writing(self) -> None:
        self._clocks.pause_writing()
        if self._long_way is not None:
            self._long_way.pause_writing()

    def resume_writing(self) -> None:
        self._clocks.resume_writing()
        if self._long_way is not None:
            self._long_way.resume_writing()
        self._backlog.wait(self._go_on)

    def shutdown(self) -> None:
        """Called by uvicorn when the server stops."""
        self._is_stopping = True
        if self._call is not None:
            self._call.keep_alive = False
        elif self._long_way is not None and self._is_answering:
            self._long_way.shutdown()
        else:
            asyncio.get_running_loop().call_later(FAREWELL_S, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self._call is None and not self._is_answering:
            self.end_silent()
        elif self._call is None and self._long_way is not None:
            self._long_way.shutdown()

    def end_silent(self) -> None:
        """Drops answers that the client does not read, which would otherwise keep the connection open."""
        (self.transport.close if self._clocks.unread_since is None else self.transport.abort)()

    @property
    def receiving_since(self) -> float | None:
        return self._inbox.began

    @property
    def silent_since(self) -> float | None:
        is_busy = self._is_answering or self._backlog.is_waiting or self._inbox.began or self._clocks.unread_since
        return None if is_busy else self._idle_since

    def end_slow(self) -> None:
        self._refuse(TooSlow(f"it took over {self._settings.read_timeout_s} s to arrive; send a request in one piece"))

    def _refuse(self, error: ServiceError) -> None:
        self._telemetry.count_rejection(error)
        self._end_with(PROBLEMS.written(error), lets_finish=isinstance(error, BuffersFull))

    def _end_with(self, answer: Answer, *, lets_finish: bool = False) -> None:
        """Answers, if an answer is due, and ends the connection. Many clients read it only once their body is sent."""
        self._is_ending = True
        self._clocks.stop()
        if not lets_finish:
            self._state.connections.discard(self)
        if self._is_due():
            body = b"" if self._inbox.is_for_head else answer.body
            self._send(answer._replace(body=body), self._telemetry.request_ids.of({}), keep_alive=False)
            self._is_answering, self._call = False, None
        self._inbox.drop()
        self._backlog.let_go(0)
        if self._clocks.unread_since is None and not self._is_answering:
            patience_s = self._settings.read_timeout_s
            hang_up(self.transport, patience_s if lets_finish else LINGER_S, patience_s)
        else:
            self.end_silent()

    def _is_due(self) -> bool:
        """Whether the current request has no answer yet, nor the beginning of one; what works on it is dropped."""
        if self._call is not None:
            if self._is_answering:
                self._call.abandon()
            return True
        if self._is_answering:
            return self._stock().drop()
        # If all that is missing is the rest of its body, it was answered without.
        return not self._inbox.expects_body

    # Receiving

    def data_received(self, data: bytes) -> None:
        if self._is_ending:
            return
        try:
            if len(data) == self._last_bytes and (last := self._seen(data)) is not None:
                handler, is_kept = last.handler, not self._is_stopping
                self._call = call = Call(handler, last.head, handler.metrics, self._write_answer, is_kept)
                self._is_answering = True
                call.start(data[len(self._last_head) :])
            elif not self.transport.is_closing():
                self._inbox.add(data)
                self._advance()
        except MemoryError:
            self._refuse(no_memory())

    def _seen(self, data: bytes) -> Call | None:
        """The last call, if `data` is exactly one request with the same head."""
        is_the_same = (
            data.startswith(self._last_head)
            and not self._is_answering
            and self._call is None
            and not self._inbox.held
            and self._clocks.unread_since is None
            and self._service.phase is Phase.READY
        )
        return self._last_call if is_the_same else None

    def _advance(self) -> None:
        """Processes what has arrived: the current message and, unless that has to wait, the head of the next."""
        try:
            while not (self._backlog.is_waiting or self._is_ending or self.transport.is_closing()) and self._take():
                pass
        except HeadTooLarge as error:
            self._refuse(error)
        except Unframed as error:
            logger.warning("Invalid HTTP request received: %s", error)
            self._end_with(NOT_HTTP)
        reads_on = self._inbox.expects_body and not self._backlog.is_waiting
        if not self._backlog.hold(len(self._inbox), reads_on=reads_on):
            self._refuse(BuffersFull("bodies take all the memory that there is for them; send this again later"))

    def _take(self) -> bool:
        """One step; False if more bytes have to arrive, or an answer has to be written or read, first."""
        if self._inbox.expects_body and self._call is not None:
            content = self._inbox.body()
            if content is not None:
                self._backlog.body_bytes = len(content)
                self._is_answering = True
                self._call.start(content)
            return content is not None
        if self._inbox.expects_body:
            part = self._inbox.part()
            if part:
                self._backlog.body_bytes += len(part) if self._is_answering else 0
                self._stock().data_received(part)
            if part and self._inbox:
                self._backlog.wait(self._go_on)
            return False
        is_free = not self._is_answering and self._clocks.unread_since is None
        head = self._inbox.head() if is_free else None
        if head is not None:
            self._open(head)
        return head is not None

    def _go_on(self) -> bool:
        self._backlog.is_waiting = False
        self.data_received(b"")
        return self._is_answering and self._call is None

    def _open(self, head: Head) -> None:
        """Starts a message; its body may still have to arrive."""
        handler, length = self._handlers.get(head.path), head.content_length or 0
        if head.is_websocket and head.path.removeprefix(self._settings.root_path.encode()) == PATH:
            self._open_stream(head)
        # The guard checks the key again; this check is for a stranger's body, which is never read.
        elif handler and head.is_usual(self._settings) and self._service.is_ready and self._guard.has_key(head.headers):
            keep_alive = head.keep_alive and not self._is_stopping
            asked = RequestHead[Any](handler.path, head.headers, head.query)
            self._call = Call(handler, asked, handler.metrics, self._write_answer, keep_alive)
            if len(self._inbox) == length and keep_alive:
                self._last_call, self._last_head = self._call, head.raw
                self._last_bytes = len(head.raw) + length
        else:
            self._is_answering = True
            self._stock().data_received(head.without_upgrade())

    def _stock(self) -> LongWay:
        if self._long_way is None:
            self._long_way = LongWay(self.answered, self.transport, self._config, self._state, self._app_state)
        return self._long_way

    @property
    def is_owed(self) -> bool:
        """Whether a request that has arrived whole is being answered, to a client that reads."""
        return self._is_answering and not self._inbox.expects_body and not self.transport.get_write_buffer_size()

    # Sending

    def _write_answer(self, call: Call, answer: Answer) -> None:
        self.transport.write(to_bytes(answer, self._state.default_headers, call.request_id, call.keep_alive))
        if answer.status != 200:
            self._backlog.rest_after(answer.status)
        if not call.keep_alive:
            self.transport.close()
        self._call = None
        self.answered()

    def answered(self) -> None:
        """The answer to a request on this connection has been written."""
        self._is_answering = False
        self._idle_since = monotonic()
        if self._backlog.body_bytes:
            self._backlog.let_go(len(self._inbox))
        if self._inbox.held:
            self._backlog.wait(self._go_on)

    def _send(self, answer: Answer, request_id: bytes, keep_alive: bool) -> None:
        self.transport.write(to_bytes(answer, self._state.default_headers, request_id, keep_alive))

    def _open_stream(self, head: Head) -> None:
        opened, request_id = shake_hands(self._guard, self._handlers, head)
        if isinstance(opened, Answer):
            self._send(opened, request_id, keep_alive=False)
            self.transport.close()
            return
        self._clocks.stop()
        self._state.connections.discard(self)
        opened.begin(self.transport, self._state.connections, sent_ahead=self._inbox.rest())
