"""What /openapi.json says beyond what FastAPI finds out: both body formats, the problems, and examples that run."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel

from app.registry import ServedModel
from app.schemas import Options, Problem
from app.schemas_v2 import InferRefusal, InferRequest, RepositoryRequest

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
MODEL_CONTROL = {
    400: "The body is not what is asked for, or the bundle fails its checks",
    403: "`JEPA_MODEL_CONTROL` is not set",
    404: "No such model or version",
    413: "The body is too large",
    503: "Starting or draining",
}
OF_STREAMS = {403, 426}
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


def v2_problems(*statuses: int, described: Mapping[int, str] = REFUSALS) -> dict[int | str, dict[str, Any]]:
    """As `problems`, in the form that clients of the Open Inference Protocol read."""
    return {status: {"description": described[status], "model": InferRefusal} for status in statuses}


def documented(query: type[Options], body: type[Options], answer: type[BaseModel]) -> dict[str, Any]:
    """The keyword arguments of a route that reads JSON as `body`, or floats with `query`, by itself."""
    return {
        "tags": ["inference"],
        "response_model": answer,
        "responses": {
            200: {"content": {"application/octet-stream": FLOATS}},
            **problems(*(REFUSALS.keys() - OF_STREAMS)),
        },
        "openapi_extra": {
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": body.model_json_schema()},
                    "application/octet-stream": FLOATS,
                },
            },
            "parameters": [*query_parameters(query), *header_parameters()],
        },
    }


def complete(document: dict[str, Any], models: list[ServedModel]) -> None:
    """Adds to FastAPI's document what its routes cannot know: schemas that they read themselves, and examples for a
    loaded model."""
    for schema in (Problem, InferRequest, RepositoryRequest):
        described = schema.model_json_schema(ref_template=SCHEMAS + "{model}")
        document["components"]["schemas"] |= described.pop("$defs") | {schema.__name__: described}
    for model in models[:1]:
        name = {"model": model.bundle.manifest.name} if len(models) > 1 else {}
        for path, examples in _examples(model).items():
            content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
            content["examples"] = {title: {"summary": title, "value": name | body} for title, body in examples.items()}
        infer = document["paths"]["/v2/models/{name}/infer"]["post"]
        next(each for each in infer["parameters"] if each["name"] == "name")["example"] = model.bundle.manifest.name
        infer["requestBody"]["content"]["application/json"]["example"] = _infer_example(model)


def _examples(model: ServedModel) -> dict[str, dict[str, Any]]:
    """Requests that the model answers with 200, by path and summary."""
    manifest = model.bundle.manifest
    first, second = np.nan_to_num(model.bundle.golden.features[:2]).round(3).tolist()
    embedding = model.bundle.golden.target_embedding[0].round(3).tolist()
    hidden = manifest.feature_schema.groups[-1].name
    horizon = manifest.horizons[-1]
    embed: dict[str, Any] = {"one row": {"features": first}}
    if len(manifest.feature_schema.groups) > 1:
        embed[f"two rows, {hidden} hidden"] = {"features": [first, second], "hidden": [hidden]}
    return {
        "/embed": embed,
        "/predict": {
            f"one row, {horizon} frames ahead": {"features": first, "horizon": horizon},
            "from a context embedding": {"context": embedding},
        },
        "/loss": {
            "how surprising is the later row": {"features": first, "target_features": second, "horizon": horizon},
            "between embeddings": {"predicted": embedding, "target": embedding},
        },
    }


def _infer_example(model: ServedModel) -> dict[str, Any]:
    row = np.nan_to_num(model.bundle.golden.features[:1]).round(3)
    return {"inputs": [{"name": "features", "datatype": "FP32", "shape": row.shape, "data": row.ravel().tolist()}]}


def query_parameters(query: type[Options]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "query",
            "description": f"Beside a binary body. {schema.pop('description')}",
            "schema": schema,
            "style": "form",
            "explode": False,  # lists are one parameter, separated by commas
        }
        for name, schema in query.model_json_schema()["properties"].items()
    ]


def header_parameters(headers: Mapping[str, tuple[str, str]] = HEADERS) -> list[dict[str, Any]]:
    """Of headers by name, each with its type and what it means."""
    return [
        {"name": name, "in": "header", "description": text, "schema": {"type": kind}}
        for name, (kind, text) in headers.items()
    ]
