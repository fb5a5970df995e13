"""A POST endpoint that reads its request itself: as plain ASGI behind FastAPI, or past it, by a `Call`."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic

from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.caller import calling
from app.documentation import documented
from app.errors import InvalidInput, ServiceError, no_memory, render, render_http
from app.routes.exchange import Answer, B, Exchange, Head, Q, read_exchange, read_head
from app.routes.reading import read_body
from app.service import Service
from app.telemetry import RouteMetrics

logger = logging.getLogger(__name__)

CLIENT_LEFT = 499


@dataclass(frozen=True)
class Endpoint(Generic[Q, B]):
    """`answer` gets options read as `query` where the body is binary, as `body` where it is JSON."""

    path: str
    query: type[Q]
    body: type[B]
    answered: type[BaseModel]
    answer: Callable[[Exchange[Q | B]], Coroutine[Any, Any, Answer]]


@dataclass(slots=True)
class Asked:
    """A request but for its body; `head` once it has been read."""

    headers: dict[bytes, bytes]
    query_string: bytes
    head: Head[Any] | None = None


class Handler:
    """An endpoint of one service."""

    def __init__(self, endpoint: Endpoint[Any, Any], service: Service) -> None:
        self.path = endpoint.path
        self.service = service
        self.metrics = service.telemetry.route("POST", endpoint.path)
        self._endpoint = endpoint

    def route(self) -> APIRoute:
        """For FastAPI, which documents it and leads to `__call__`."""

        async def endpoint() -> None: ...

        endpoint.__name__, endpoint.__doc__ = self._endpoint.answer.__name__, self._endpoint.answer.__doc__
        description = documented(self._endpoint.query, self._endpoint.body, self._endpoint.answered)
        route = APIRoute(self.path, endpoint, methods=["POST"], **description)
        route.app = self
        return route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrived, asked = monotonic(), Asked(dict(scope["headers"]), scope["query_string"])
        try:
            self.service.admit()
            content = await read_body(asked.headers, receive, self.service.settings.max_body_bytes)
        except ServiceError as error:
            answer = self.refuse(error)
        except ClientDisconnect:
            answer = Answer(CLIENT_LEFT, [], b"")
        else:
            answer = await self.answer(asked, content, arrived)
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def answer(self, asked: Asked, content: bytes, arrived: float) -> Answer:
        """To a request that was admitted, its head at `arrived` (`time.monotonic`); raises nothing."""
        exchange = None
        try:
            if asked.head is None:
                asked.head = read_head(asked.headers, asked.query_string, self._endpoint.query)
            exchange = read_exchange(self.service, asked.head, content, self._endpoint.body, arrived)
            return await self._endpoint.answer(exchange)
        except InvalidInput as error:
            return self.refuse(error.within("query" if exchange and exchange.document is None else "body"))
        except ServiceError as error:
            return self.refuse(error)
        except MemoryError:
            return self.refuse(no_memory())
        except Exception:
            logger.exception("the service failed on a request to %s", self.path)
            return _written(render_http(500, "the service failed on this request; its log has the reason"))

    def refuse(self, error: ServiceError) -> Answer:
        self.service.telemetry.count_rejection(error)
        return written(error)


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


def written(error: ServiceError) -> Answer:
    return _written(render(error))


def _written(response: Response) -> Answer:
    return Answer(response.status_code, response.raw_headers, bytes(response.body))
