"""What /openapi.json says of both dialects beyond what FastAPI finds out: problems, headers, floats."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

SCHEMAS = "#/components/schemas/"
REFUSALS = {
    400: "The body is no JSON",
    401: "No key, or a wrong one",
    403: "A page of another origin asks",
    404: "No such model",
    409: "The model reads another feature schema, or a newer frame of the stream came",
    413: "Too many bytes or rows",
    415: "Neither JSON nor octet-stream",
    422: "A field is wrong; `errors` says which and how to mend it",
    426: "This is a WebSocket",
    429: "The queue is full; try again after `Retry-After` seconds",
    500: "The model failed on these rows",
    503: "Starting, draining, or no model",
    504: "The deadline in X-Request-Timeout-Ms passed",
}
HEADERS = {
    "X-Request-Timeout-Ms": (
        "number",
        "Milliseconds after which the answer is worthless: 504, and nothing is computed",
    ),
    "X-Stream-Id": ("string", "A newer frame of the same stream takes the place of one that still waits"),
    "X-Schema-Hash": ("string", "Refuse with 409 unless the model's feature schema has this hash"),
}
FLOATS = {"schema": {"type": "string", "format": "binary", "description": "Little-endian float32, row-major"}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may refuse with these."""
    content = {"application/problem+json": {"schema": {"$ref": SCHEMAS + "Problem"}}}
    return {status: {"description": REFUSALS[status], "content": content} for status in statuses}


def header_parameters(headers: Mapping[str, tuple[str, str]] = HEADERS) -> list[dict[str, Any]]:
    """Of headers by name, each with its type and what it means."""
    return [
        {"name": name, "in": "header", "description": text, "schema": {"type": kind}}
        for name, (kind, text) in headers.items()
    ]


def add_schemas(document: dict[str, Any], *schemas: type[BaseModel]) -> None:
    """Of bodies that routes read by themselves, so that FastAPI does not know them."""
    for schema in schemas:
        described = schema.model_json_schema(ref_template=SCHEMAS + "{model}")
        document["components"]["schemas"] |= described.pop("$defs", {}) | {schema.__name__: described}
