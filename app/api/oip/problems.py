"""Errors in the format of the Open Inference Protocol: a JSON object with nothing but `error`."""

from collections.abc import Mapping

from starlette.responses import Response

from app.api.problems import Dialect, headers_of, json_response
from app.errors import InvalidInput, ServiceError


def render(error: ServiceError) -> Response:
    return render_http(status_of(error), error.detail, headers_of(error))


def status_of(error: ServiceError) -> int:
    """The protocol has no 422: a wrong field is a 400."""
    return 400 if isinstance(error, InvalidInput) else error.status


def render_http(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    return json_response({"error": detail}, status, "application/json", headers)


OPEN_INFERENCE = Dialect("/v2", render, render_http, status_of)
