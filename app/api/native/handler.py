"""A POST endpoint that reads its request itself: as plain ASGI behind FastAPI, or past it, by a `Call`."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic

from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from app.api.body import read_body
from app.api.guard import Guard
from app.api.native.openapi import documented
from app.api.native.request import Answer, B, Exchange, Head, Q, read_exchange, read_head
from app.errors import InvalidInput
from app.service import Service


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

    def __init__(self, endpoint: Endpoint[Any, Any], service: Service, guard: Guard) -> None:
        self.path = endpoint.path
        self.service = service
        self.guard = guard
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
        self.service.admit()
        content = await read_body(asked.headers, receive, self.service.settings.max_body_bytes)
        answer = await self.answer(asked, content, arrived)
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def answer(self, asked: Asked, content: bytes, arrived: float) -> Answer:
        """To a request that passed the guard, its head at `arrived` (`time.monotonic`); raises ServiceError."""
        exchange = None
        try:
            if asked.head is None:
                asked.head = read_head(asked.headers, asked.query_string, self._endpoint.query)
            exchange = read_exchange(self.service, asked.head, content, self._endpoint.body, arrived)
            return await self._endpoint.answer(exchange)
        except InvalidInput as error:
            raise error.within("query" if exchange and exchange.document is None else "body") from None
