"""Parts of /openapi.json that both dialects share and FastAPI cannot infer: errors, headers, binary bodies."""

import re
from collections.abc import Mapping
from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel

SCHEMAS = "#/components/schemas/"
REFUSALS = {
    400: "The body is not valid JSON",
    401: "The key is missing or wrong",
    403: "The request comes from a web page of another origin",
    404: "There is no such model, or it has no such thing",
    409: "The model has another feature schema, or a newer frame of the same stream arrived",
    413: "Too many bytes or rows",
    415: "The content type is neither JSON nor octet-stream",
    421: "The service does not know itself under the name in `Host`",
    422: "A field is wrong; `errors` says which one and how to fix it",
    426: "This endpoint is a WebSocket",
    429: "The queue is full; retry after `Retry-After` seconds",
    500: "The model failed on these rows",
    503: "The service is starting or draining, or has no model",
    504: "The deadline set by X-Request-Timeout-Ms passed",
}
HEADERS = {
    "X-Request-Timeout-Ms": (
        "number",
        "Deadline in milliseconds; a request that misses it gets 504 and is not computed",
    ),
    "X-Stream-Id": ("string", "A newer frame of a stream replaces one of the same stream that is still queued"),
    "X-Schema-Hash": ("string", "Answer 409 unless the model's feature schema has this hash"),
}
FLOATS = {"schema": {"type": "string", "format": "binary", "description": "Little-endian float32, row-major"}}


def operation_id(route: APIRoute) -> str:
    """What generated clients call an endpoint: `embed`, `v2_models_name_infer`."""
    return "_".join(re.findall(r"\w+", route.path_format))


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` argument of a route that may answer with these statuses."""
    content = {"application/problem+json": {"schema": {"$ref": SCHEMAS + "Problem"}}}
    return {status: {"description": REFUSALS[status], "content": content} for status in statuses}


def header_parameters(headers: Mapping[str, tuple[str, str]] = HEADERS) -> list[dict[str, Any]]:
    """OpenAPI parameters for headers given as name → (type, description)."""
    return [
        {"name": name, "in": "header", "description": text, "schema": {"type": kind}}
        for name, (kind, text) in headers.items()
    ]


def fill_paths(document: dict[str, Any], served: Mapping[str, str]) -> None:
    """Gives the parameters of all paths examples from `served`, which is name → value; a form of /docs begins with
    them."""
    for path in document["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path":
                    parameter["example"] = served[parameter["name"]]


def add_schemas(document: dict[str, Any], *schemas: type[BaseModel]) -> None:
    """Adds the schemas of bodies that routes parse themselves, which FastAPI therefore does not know."""
    for schema in schemas:
        described = schema.model_json_schema(ref_template=SCHEMAS + "{model}")
        document["components"]["schemas"] |= described.pop("$defs", {}) | {schema.__name__: described}
