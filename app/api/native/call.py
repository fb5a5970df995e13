"""One request that goes past FastAPI: from a connection or a stream straight to its handler."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any

from app.api.native.handler import CLIENT_LEFT, Asked, Handler, written
from app.api.native.request import Answer
from app.errors import ServiceError, no_memory
from app.telemetry.metrics import RouteMetrics
from app.telemetry.request_context import calling


class Call:
    """What a task would do for one request, but at once: one that is alone is read, computed and answered in a turn of
    the event loop. `write` gets the answer, unless the client is gone by then. uvicorn takes it for the
    `RequestResponseCycle` it would have made, and may set `keep_alive`."""

    __slots__ = (
        "_coroutine",
        "_metrics",
        "_write",
        "arrived",
        "asked",
        "caller",
        "handler",
        "keep_alive",
        "response_complete",
    )

    def __init__(
        self,
        handler: Handler,
        asked: Asked,
        metrics: RouteMetrics,
        write: "Callable[[Call, Answer], None]",
        keep_alive: bool = True,
    ) -> None:
        self.handler, self.asked, self._metrics, self._write = handler, asked, metrics, write
        self.keep_alive = keep_alive
        self.arrived = monotonic()
        self.response_complete = False

    def start(self, content: bytes, request_id: bytes | None = None) -> None:
        self._begin(request_id)
        token = calling.set(self.caller)  # which a future that is waited for keeps
        self._coroutine = self.handler.answer(self.asked, content, self.arrived)
        self._go_on()
        calling.reset(token)

    def refuse(self, error: ServiceError, request_id: bytes) -> None:
        """Instead of `start`."""
        self._begin(request_id)
        self._finish(self.handler.refuse(error))

    def _begin(self, request_id: bytes | None) -> None:
        method, path = self._metrics.method, self._metrics.route
        telemetry = self.handler.service.telemetry
        self.caller = telemetry.arrived(self.asked.headers, method, path, self.arrived, request_id)

    def _go_on(self, _: object = None) -> None:
        if self.response_complete:
            return
        try:
            waits_for: asyncio.Future[Any] = self._coroutine.send(None)
        except StopIteration as end:
            self._finish(end.value)
        else:
            waits_for.add_done_callback(self._go_on)

    def _finish(self, answer: Answer) -> None:
        self.response_complete = True
        try:
            self._write(self, answer)
        except MemoryError:
            answer = written(no_memory())
            self._write(self, answer)
        self._end(answer.status)

    def _end(self, status: int) -> None:
        metrics, seconds = self._metrics, monotonic() - self.arrived
        telemetry = self.handler.service.telemetry
        telemetry.answered(self.caller, metrics, metrics.method, metrics.route, status, seconds)

    def abandon(self) -> None:
        """Nobody waits for the answer any more, so its rows need not be computed."""
        if not self.response_complete:
            self.response_complete = True
            self._coroutine.close()
            self._end(CLIENT_LEFT)
