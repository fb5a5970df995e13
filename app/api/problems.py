"""Turns a refusal into what the dialect's clients read."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import Response

from app.errors import InvalidInput, ServiceError

PROBLEM = "application/problem+json"  # RFC 9457


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


def render(error: ServiceError, path: str = "") -> Response:
    """To a request for that path. It never repeats what the client sent but for names of fields and models."""
    if _is_v2(path):
        status = 400 if isinstance(error, InvalidInput) else error.status
        return _json({"error": error.detail}, status, "application/json", error.headers)
    about = f"urn:jepa:error:{error.slug}", error.title, error.status, error.detail
    return _json(_problem(*about) | error.members(), error.status, PROBLEM, error.headers)


def render_http(status: int, detail: str, headers: Mapping[str, str] | None = None, path: str = "") -> Response:
    """What the framework refuses by itself: no such path, wrong method."""
    if _is_v2(path):
        return _json({"error": detail}, status, "application/json", headers)
    return _json(_problem("about:blank", HTTPStatus(status).phrase, status, detail), status, PROBLEM, headers)


def _is_v2(path: str) -> bool:
    """Whether clients of the Open Inference Protocol ask; they read `error` alone, and of plain JSON."""
    return path == "/v2" or path.startswith("/v2/")


def _problem(type_: str, title: str, status: int, detail: str) -> dict[str, Any]:
    return {"type": type_, "title": title, "status": status, "detail": detail}


def _json(document: dict[str, Any], status: int, media_type: str, headers: Mapping[str, str] | None) -> Response:
    # The stdlib writes ASCII, whatever half of a surrogate pair a field was called; orjson would raise.
    return Response(json.dumps(document), status, headers=headers, media_type=media_type)
