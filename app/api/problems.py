"""Errors as RFC 9457 problem documents, and what another dialect has to define to render them its own way."""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any, NamedTuple

from pydantic import BaseModel, Field
from starlette.responses import Response

from app.api.answer import Answer
from app.api.headers import to_lines
from app.errors import (
    BodyTooLarge,
    BuffersFull,
    Draining,
    NotReady,
    QueueFull,
    ServiceError,
    ServiceFailed,
    TooManyConnections,
    Unauthorized,
    UpgradeRequired,
)

PROBLEM = "application/problem+json"
# `Connection: close` goes with errors that leave the rest of a body unread, and with those after which the client
# should not use the connection again.
HEADERS: Mapping[type[ServiceError], Mapping[str, str]] = {
    Unauthorized: {"WWW-Authenticate": "Bearer", "Connection": "close"},
    BodyTooLarge: {"Connection": "close"},
    UpgradeRequired: {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"},
    QueueFull: {"Retry-After": "1"},
    NotReady: {"Retry-After": "1"},
    Draining: {"Retry-After": "1", "Connection": "close"},
    BuffersFull: {"Retry-After": "1", "Connection": "close"},
    TooManyConnections: {"Retry-After": "1"},
}


class FieldError(BaseModel):
    loc: list[str | int] = Field(description="The source (body, query or header), then the path to the field")
    msg: str


class Problem(BaseModel):
    """An RFC 9457 problem document."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] | None = Field(None, description="The fields that are wrong, with status 422")
    queue_rows: int | None = Field(None, description="The number of rows that are queued, with status 429")


class Dialect(NamedTuple):
    """How errors are rendered on the paths below `prefix`."""

    prefix: str
    render: Callable[[ServiceError], Response]
    # Renders what Starlette raises itself, such as an unknown path or a wrong method, from status, detail and headers.
    render_http: Callable[[int, str, Mapping[str, str] | None], Response]
    status_of: Callable[[ServiceError], int]

    def written(self, error: ServiceError) -> Answer:
        """The answer that an error is."""
        if isinstance(error, QueueFull):
            return _queue_full(self.render, error.queue_rows, error.reason)
        return _answer(self.render(error))

    def speaks_at(self, path: str) -> bool:
        return path == self.prefix or path.startswith(f"{self.prefix}/")


def status_of(error: ServiceError) -> int:
    return error.status


@lru_cache(maxsize=512)
def _queue_full(render: Callable[[ServiceError], Response], queue_rows: int, reason: str) -> Answer:
    """An overloaded service says this over and over, and it must cost much less than an answer."""
    return _answer(render(QueueFull(queue_rows, reason)))


def _answer(response: Response) -> Answer:
    return Answer(response.status_code, to_lines(response.raw_headers), bytes(response.body))


def headers_of(error: ServiceError) -> Mapping[str, str]:
    return HEADERS.get(type(error), {})


def render(error: ServiceError) -> Response:
    """A problem document; of what the client sent it repeats only the names of fields and models."""
    if isinstance(error, ServiceFailed):
        return render_http(error.status, error.detail)
    about = _problem(f"urn:jepa:error:{error.slug}", error.title, error.status, error.detail)
    return json_response(about | error.members(), error.status, PROBLEM, headers_of(error))


def render_http(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    return json_response(_problem("about:blank", HTTPStatus(status).phrase, status, detail), status, PROBLEM, headers)


def _problem(type_: str, title: str, status: int, detail: str) -> dict[str, Any]:
    return {"type": type_, "title": title, "status": status, "detail": detail}


def json_response(
    document: Mapping[str, Any], status: int, media_type: str, headers: Mapping[str, str] | None
) -> Response:
    # Not orjson, which raises on the lone surrogates that a client may put into a field's name.
    return Response(json.dumps(document), status, headers=headers, media_type=media_type)


PROBLEMS = Dialect("", render, render_http, status_of)
