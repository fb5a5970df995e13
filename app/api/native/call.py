"""One request on the fast path: from a connection or stream to its handler, without FastAPI."""

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from functools import lru_cache
from time import monotonic
from typing import Any

from app.api.headers import to_lines
from app.api.native.handler import Handler, RequestHead
from app.api.native.request import Answer
from app.api.problems import render
from app.errors import QueueFull, ServiceError
from app.telemetry.metrics import RouteMetrics
from app.telemetry.request_context import current_request


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
        head: RequestHead,
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
            self.request_id = self.handler.guard.turn_away(self.head.headers, self._route, self.arrived, refusal)
            self._write(self, written(refusal))

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
        guard, method, path, status = handler.guard, route.method, route.route, 200
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
            refusal, status = guard.refusal(error, path)
            if refusal is None:
                raise
            self._write(self, written(refusal))
        finally:
            guard.telemetry.answered(context, route, method, path, status, monotonic() - self.arrived)


def written(error: ServiceError) -> Answer:
    """The problem document for an error."""
    return _queue_full(error.queue_rows, error.reason) if isinstance(error, QueueFull) else _rendered(error)


@lru_cache(maxsize=512)
def _queue_full(queue_rows: int, reason: str) -> Answer:
    """An overloaded service says this over and over, and it must cost much less than an answer."""
    return _rendered(QueueFull(queue_rows, reason))


def _rendered(error: ServiceError) -> Answer:
    response = render(error)
    return Answer(response.status_code, to_lines(response.raw_headers), bytes(response.body))
