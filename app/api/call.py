"""One request on the short way: from a connection or stream to its handler, without FastAPI."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

from app.api.answer import Answer
from app.api.guard import Guard
from app.api.problems import Dialect
from app.errors import QueueFull
from app.inference.batcher import Batcher
from app.service import Service
from app.telemetry.metrics import RouteMetrics
from app.telemetry.request_context import current_request

P = TypeVar("P")


@dataclass(slots=True)
class RequestHead(Generic[P]):
    """The head of a request as it came, and what its handler keeps for the same head that comes again."""

    # Without the prefix that a proxy may put before all paths.
    path: str
    headers: dict[bytes, bytes]
    query_string: bytes = b""
    parsed: P | None = None
    # How long a request may take, unless it may take the place of an older frame of its stream.
    timeout_s: float | None = None
    # Where the last request with this head waited, if it had such a deadline.
    queue: Batcher | None = None
    # Whether the guard has let one in.
    is_let_in: bool = False

    def refusal(self) -> QueueFull | None:
        """Why a request with this head is refused whatever its body holds; None where that has to be read."""
        if self.queue is None or self.timeout_s is None:
            return None
        return self.queue.admission.refusal_at_door(self.timeout_s)


class Handler(Protocol):
    """Answers POST requests to one path."""

    @property
    def path(self) -> str: ...

    @property
    def service(self) -> Service: ...

    @property
    def guard(self) -> Guard: ...

    @property
    def metrics(self) -> RouteMetrics: ...

    @property
    def dialect(self) -> Dialect: ...

    def answer(self, head: RequestHead[Any], content: bytes, arrived: float) -> Coroutine[Any, Any, Answer]:
        """Answers a request that passed the guard and arrived at `arrived` (`time.monotonic`); raises ServiceError."""


class Call:
    """A request whose answer goes to `write`, unless the client has gone by then.

    Its coroutine is run by hand, at once and up to its first wait, where a task of asyncio would begin a turn of the
    event loop later. So a handler has no current task (`asyncio.timeout` needs one), and waits for futures alone.
    """

    # per request
    __slots__ = (
        *("_context", "_coroutine", "_is_abandoned", "_route", "_waits_for", "_write"),
        *("arrived", "handler", "head", "keep_alive", "request_id"),
    )

    def __init__(
        self,
        handler: Handler,
        head: RequestHead[Any],
        route: RouteMetrics,
        write: "Callable[[Call, Answer], None]",
        keep_alive: bool = True,
    ) -> None:
        """To be created when the head has arrived, which is when the request's time starts."""
        self.handler, self.head, self._route, self._write = handler, head, route, write
        self.keep_alive, self._is_abandoned = keep_alive, False
        self.arrived = monotonic()

    def start(self, content: bytes, request_id: bytes | None = None, *, is_admitted: bool = True) -> None:
        """Answers, now that the body is here, or refuses without a look at it; `is_admitted` is whether `Service.admit`
        was already called."""
        if self.head.queue is None or (refusal := self.head.refusal()) is None:
            self._coroutine, self._context = self._run(content, request_id, is_admitted), copy_context()
            self._waits_for: asyncio.Future[Any] | None = None
            self._context.run(self._step)
        else:
            handler = self.handler
            self.request_id = handler.guard.turn_away(self.head.headers, self._route, self.arrived, refusal)
            self._write(self, handler.dialect.written(refusal))

    def abandon(self) -> None:
        """Cancels the request, because the client is gone; rows that are still queued are not computed."""
        self._is_abandoned = True
        if self._waits_for is not None:
            self._waits_for.cancel()

    def _step(self, _: object = None) -> None:
        """Runs up to the next wait or, as a task that is cancelled, to the end."""
        try:
            if self._is_abandoned:
                self._coroutine.throw(asyncio.CancelledError)
            else:
                self._waits_for = future = self._coroutine.send(None)
                future.add_done_callback(self._step, context=self._context)
        except (StopIteration, asyncio.CancelledError):
            # It has come to its end.
            pass

    async def _run(self, content: bytes, request_id: bytes | None, is_admitted: bool) -> None:
        """As the guard's `Visit`, in a context that is this call's own."""
        handler, route, head = self.handler, self._route, self.head
        guard, method, path, status = handler.guard, route.method, head.path, 200
        context = guard.telemetry.arrived(head.headers, method, path, self.arrived, request_id)
        self.request_id = context.request_id
        current_request.set(context)
        try:
            if not head.is_let_in:
                guard.check(head.headers, method, path)
                head.is_let_in = True
            if not is_admitted:
                handler.service.admit()
            self._write(self, await handler.answer(head, content, self.arrived))
        except BaseException as error:
            refusal, status = guard.refusal(error, path, handler.dialect.status_of)
            if refusal is None:
                raise
            self._write(self, handler.dialect.written(refusal))
        finally:
            guard.telemetry.answered(context, route, method, path, status, monotonic() - self.arrived)
