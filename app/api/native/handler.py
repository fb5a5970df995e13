"""POST endpoints that parse their requests themselves: called as plain ASGI by FastAPI, or by a `Call` without it."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic

from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from app.api.answer import Answer
from app.api.body import read_body
from app.api.call import RequestHead
from app.api.documents import MAX_PIECE_BYTES, parse_document
from app.api.guard import Guard
from app.api.leaving import dropped_if_left
from app.api.native.openapi import documented
from app.api.native.request import B, NativeRequest, ParsedHead, Q, is_json, read_head, read_request
from app.api.openapi import operation_id
from app.api.problems import PROBLEMS
from app.errors import InvalidInput
from app.inference.batcher import Batcher
from app.inference.engine import Queues
from app.service import Service

Head = RequestHead[ParsedHead[Any]]


@dataclass(frozen=True)
class Endpoint(Generic[Q, B]):
    """Options are validated by `query` if the body is binary, and by `body` if it is JSON."""

    path: str
    query: type[Q]
    body: type[B]
    answer_schema: type[BaseModel]
    answer: Callable[[NativeRequest[Q | B]], Coroutine[Any, Any, Answer]]
    # Where a request waits first.
    queue: Callable[[Queues, Q | B], Batcher]


class Handler:
    """Answers the requests to one endpoint of a service, as `app.api.call.Handler` says."""

    dialect = PROBLEMS

    def __init__(self, endpoint: Endpoint[Any, Any], service: Service, guard: Guard) -> None:
        self.path = endpoint.path
        self.service = service
        self.guard = guard
        self.metrics = service.telemetry.route("POST", endpoint.path)
        self._endpoint = endpoint

    def route(self) -> APIRoute:
        """A FastAPI route for the documentation; its requests go to `__call__`, past FastAPI's own parsing."""

        async def endpoint() -> None: ...

        endpoint.__name__, endpoint.__doc__ = self._endpoint.answer.__name__, self._endpoint.answer.__doc__
        description = documented(self._endpoint.query, self._endpoint.body, self._endpoint.answer_schema)
        route = APIRoute(self.path, endpoint, methods=["POST"], generate_unique_id_function=operation_id, **description)
        route.app = self
        return route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrived, head = monotonic(), Head(self.path, dict(scope["headers"]), scope["query_string"])
        self.service.admit()
        content = await read_body(head.headers, receive, self.service.settings.max_body_bytes)
        with dropped_if_left(scope):
            answer = await self.answer(head, content, arrived)
        await answer.send(send)

    async def answer(self, head: Head, content: bytes, arrived: float) -> Answer:
        """Answers a request that passed the guard and arrived at `arrived` (`time.monotonic`); raises ServiceError."""
        request = None
        try:
            if head.parsed is None:
                head.parsed = parsed = read_head(head.headers, head.query_string, self._endpoint.query)
                head.timeout_s = parsed.timeout_s if parsed.stream is None else None
            document = None
            if len(content) > MAX_PIECE_BYTES and is_json(head.parsed, content):
                document = await parse_document(content, self.service)
            request = read_request(self.service, head.parsed, content, self._endpoint.body, arrived, document)
            if head.timeout_s is not None:
                head.queue = self._endpoint.queue(request.model.engine.queues, request.options)
            return await self._endpoint.answer(request)
        except InvalidInput as error:
            raise error.within("query" if request and request.document is None else "body") from None
