"""What /openapi.json says beyond what FastAPI finds out: both body formats, the problems, and examples that run."""

from typing import Any

from pydantic import BaseModel

from app.schemas import Options

REFUSALS = {
    400: "The body is no JSON",
    404: "No such model",
    409: "The model reads another feature schema, or a newer frame of the stream came",
    413: "Too many bytes or rows",
    415: "Neither JSON nor octet-stream",
    422: "A field is wrong; `errors` says which and how to mend it",
    429: "The queue is full; try again after `Retry-After` seconds",
    503: "Starting, draining, or no model",
    504: "The deadline in X-Request-Timeout-Ms passed",
}
FLOATS = {"schema": {"type": "string", "format": "binary"}}
HEADERS = {
    "X-Request-Timeout-Ms": (
        "number",
        "Milliseconds after which the answer is worthless: 504, and nothing is computed",
    ),
    "X-Stream-Id": ("string", "A newer frame of the same stream takes the place of one that still waits"),
    "X-Schema-Hash": ("string", "Refuse with 409 unless the model's feature schema has this hash"),
}


def documented(query: type[Options], body: type[Options], answer: type[BaseModel]) -> dict[str, Any]:
    """Keyword arguments for a route that reads its body by itself."""
    return {
        "tags": ["inference"],
        "response_model": answer,
        "responses": {
            200: {"content": {"application/octet-stream": FLOATS}},
            **{
                status: {"description": text, "content": {"application/problem+json": {"schema": PROBLEM_REF}}}
                for status, text in REFUSALS.items()
            },
        },
        "openapi_extra": {
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": body.model_json_schema()},
                    "application/octet-stream": FLOATS,
                },
            },
            "parameters": [*_query_parameters(query), *_header_parameters()],
        },
    }


PROBLEM_REF = {"$ref": "#/components/schemas/Problem"}


def _query_parameters(query: type[Options]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": f"Beside a binary body. {schema.pop('description', '')}",
            "schema": schema,
            "style": "form",
            "explode": False,
        }
        for name, schema in query.model_json_schema()["properties"].items()
    ]


def _header_parameters() -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": kind}}
        for name, (kind, text) in HEADERS.items()
    ]
