"""The parts of /openapi.json that FastAPI cannot infer for the Open Inference Protocol."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from app.api.oip.schemas import InferRefusal, InferRequest, RepositoryRequest
from app.api.openapi import REFUSALS, add_schemas
from app.repository.registry import ServedModel

MODEL_CONTROL = {
    400: "The body is not a valid request, or the bundle fails its checks",
    403: "`JEPA_MODEL_CONTROL` is not set",
    404: "There is no such model or version",
    413: "The body is too large",
    503: "The service is starting or draining",
}


def v2_problems(*statuses: int, described: Mapping[int, str] = REFUSALS) -> dict[int | str, dict[str, Any]]:
    """Like `app.api.openapi.problems`, for errors in the protocol's format."""
    return {status: {"description": described[status], "model": InferRefusal} for status in statuses}


def complete(document: dict[str, Any], models: list[ServedModel]) -> None:
    """Adds the schemas of bodies that routes parse themselves, and examples that a loaded model answers."""
    add_schemas(document, InferRequest, RepositoryRequest)
    for model in models[:1]:
        for path in ("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"):
            content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
            content["example"] = _infer_example(model)


def _infer_example(model: ServedModel) -> dict[str, Any]:
    row = np.nan_to_num(model.bundle.golden.features[:1]).round(3)
    return {"inputs": [{"name": "features", "datatype": "FP32", "shape": row.shape, "data": row.ravel().tolist()}]}
