"""Refusals as RFC 9457 problem documents, and what a dialect of its own has to bring along."""

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from pydantic import BaseModel, Field
from starlette.responses import Response

from app.errors import (
    BodyTooLarge,
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
# A connection is closed where the rest of a body is never read, and where nobody shall be about to send on it.
HEADERS: Mapping[type[ServiceError], Mapping[str, str]] = {
    Unauthorized: {"WWW-Authenticate": "Bearer", "Connection": "close"},
    BodyTooLarge: {"Connection": "close"},
    UpgradeRequired: {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"},
    QueueFull: {"Retry-After": "1"},
    NotReady: {"Retry-After": "1"},
    Draining: {"Retry-After": "1", "Connection": "close"},
    TooManyConnections: {"Retry-After": "1"},
}


class FieldError(BaseModel):
    loc: list[str | int] = Field(description="Where: body, query or header, then the path to the field")
    msg: str


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] | None = Field(None, description="With status 422")
    queue_rows: int | None = Field(None, description="With status 429: the rows that wait")


class Dialect(NamedTuple):
    """How refusals are written to clients of the paths below `prefix`."""

    prefix: str
    render: Callable[[ServiceError], Response]
    # What the framework refuses by itself, such as an unknown path or a wrong method: status, detail, headers.
    render_http: Callable[[int, str, Mapping[str, str] | None], Response]
    status_of: Callable[[ServiceError], int]

    def speaks_at(self, path: str) -> bool:
        return path == self.prefix or path.startswith(f"{self.prefix}/")


def status_of(error: ServiceError) -> int:
    return error.status


def headers_of(error: ServiceError) -> Mapping[str, str]:
    return HEADERS.get(type(error), {})


def render(error: ServiceError) -> Response:
    """A problem document. It never repeats what the client sent but for names of fields and models."""
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
    # The standard library writes ASCII whatever a field was called; orjson raises on half a surrogate pair.
    return Response(json.dumps(document), status, headers=headers, media_type=media_type)
