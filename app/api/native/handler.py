"""A POST endpoint that reads its request itself: as plain ASGI behind FastAPI, or past it, by a `Call`."""

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

from app.api.body import read_body
from app.api.native.openapi import documented
from app.api.native.request import Answer, B, Exchange, Head, Q, read_exchange, read_head
from app.api.problems import render, render_http
from app.errors import InvalidInput, ServiceError, no_memory
from app.service import Service

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


def written(error: ServiceError) -> Answer:
    return _written(render(error))


def _written(response: Response) -> Answer:
    return Answer(response.status_code, response.raw_headers, bytes(response.body))
