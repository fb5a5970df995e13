"""The parts of /openapi.json that FastAPI cannot infer for the native dialect."""

from functools import cache
from typing import Any

import numpy as np
from pydantic import BaseModel

from app.api.native.schemas import EmbedRequest, ForecastRequest, LossRequest, Options, PredictRequest
from app.api.openapi import FLOATS, REFUSALS, SCHEMAS, add_schemas, header_parameters, problems
from app.api.openapi import HEADERS as SHARED_HEADERS
from app.api.problems import Problem
from app.repository.registry import ServedModel
from app.rows import Array

STREAM_STATUSES = {426}
HEADERS = SHARED_HEADERS | {
    "X-Row-Width": ("integer", "Of a binary body: answer 422 unless the model takes rows of so many numbers"),
}


def documented(query: type[Options], body: type[Options], answer: type[BaseModel]) -> dict[str, Any]:
    """Keyword arguments for a route that parses its own body: JSON as `body`, or float32; `query` options with both."""
    return {
        "tags": ["inference"],
        "response_model": answer,
        "responses": {
            200: {"content": {"application/octet-stream": FLOATS}},
            **problems(*(REFUSALS.keys() - STREAM_STATUSES)),
        },
        "openapi_extra": {
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": {"$ref": SCHEMAS + body.__name__}},
                    "application/octet-stream": FLOATS,
                },
            },
            "parameters": [*query_parameters(query), *header_parameters(HEADERS)],
        },
    }


def complete(document: dict[str, Any], models: list[ServedModel]) -> None:
    """Adds the schema of problem documents, and examples that a loaded model answers."""
    add_schemas(document, Problem, EmbedRequest, PredictRequest, ForecastRequest, LossRequest)
    for model in models[:1]:
        name = {"model": model.bundle.manifest.name} if len(models) > 1 else {}
        for path, examples in _examples(model).items():
            content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
            content["examples"] = {title: {"summary": title, "value": name | body} for title, body in examples.items()}


def _examples(model: ServedModel) -> dict[str, dict[str, Any]]:
    """Requests that the model answers with 200: path → summary → body."""
    manifest = model.bundle.manifest
    # As float64, which writes .302 as a person would.
    first, second = np.nan_to_num(model.bundle.golden.features[:2]).astype(float).round(3).tolist()
    embedding = model.bundle.golden.target_embedding[0].astype(float).round(3).tolist()
    hidden = manifest.feature_schema.groups[-1].name
    horizon = manifest.horizons[-1]
    embed: dict[str, Any] = {"one row": {"features": first}}
    if len(manifest.feature_schema.groups) > 1:
        embed[f"two rows, {hidden} hidden"] = {"features": [first, second], "hidden": [hidden]}
    forecast: dict[str, Any] = {}
    if manifest.heads:
        forecast["all heads, now"] = {"features": first}
        head = manifest.heads[0].name
        forecast[f"{head}, {horizon} frames ahead"] = {"features": first, "heads": [head], "horizon": horizon}
    if manifest.heads and model.bundle.novelty is not None:
        forecast["two rows, and how novel they are"] = {"features": [first, second], "novelty": True}
    predict: dict[str, Any] = {
        f"one row, {horizon} frames ahead": {"features": first, "horizon": horizon},
        "from a context embedding": {"context": embedding},
    }
    if model.bundle.golden.actions is not None and horizon:
        given, other = (_written(each[:2]) for each in model.bundle.golden.actions[:2])
        predict["with the inputs of two frames"] = {"features": first, "horizon": horizon, "actions": given}
        predict["two candidates for one row"] = {"features": first, "horizon": horizon, "actions": [given, other]}
    return {
        "/embed": embed,
        "/forecast": forecast,
        "/predict": predict,
        "/loss": {
            "how surprising is the later row": {"features": first, "target_features": second, "horizon": horizon},
            "between embeddings": {"predicted": embedding, "target": embedding},
        },
    }


def _written(inputs: Array) -> list[list[float | None]]:
    """[n, A] with null where a number is not known."""
    return [[None if np.isnan(each) else round(float(each), 3) for each in numbers] for numbers in inputs]


@cache
def query_parameters(*queries: type[Options]) -> tuple[dict[str, Any], ...]:
    """The OpenAPI parameters for options in the query string, which are those of one of `queries`."""
    described: dict[str, Any] = {}
    for query in queries:
        described = query.model_json_schema()["properties"] | described
    return tuple(
        {
            "name": name,
            "in": "query",
            "description": schema["description"],
            # Without its default, which a form would send beside a body that says something else.
            "schema": {key: value for key, value in schema.items() if key not in ("default", "description")},
            "style": "form",
            # A list is one parameter with commas.
            "explode": False,
        }
        for name, schema in described.items()
    )
