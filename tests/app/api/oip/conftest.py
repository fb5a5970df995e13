"""What the tests of the Open Inference Protocol share: a service that is asked both ways."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.serving import serving

MAX_BODY_BYTES = 4000
LENGTH = "Inference-Header-Content-Length"
INFER = "/v2/models/tiny/infer"


@pytest.fixture(scope="module", params=["asgi", "socket"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
async def client(models: Path, way: str) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(way, models=models, max_rows=8, max_body_bytes=MAX_BODY_BYTES) as client:
        yield client


def refusal(response: httpx.Response, status: int) -> str:
    """What Triton's and KServe's clients show of a refusal; KServe's looks into nothing but exactly this type."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    document = response.json()
    assert document.keys() == {"error"}
    return str(document["error"])


def asked(rows: np.ndarray, **further: Any) -> dict[str, Any]:
    tensor = {"name": "features", "shape": rows.shape, "datatype": "FP32", "data": rows.tolist()}
    return {"inputs": [tensor], **further}


def embedding(response: httpx.Response) -> np.ndarray:
    assert response.status_code == 200, response.text
    header = response.headers.get(LENGTH)
    document = json.loads(response.content if header is None else response.content[: int(header)])
    (output,) = document["outputs"]
    assert (output["name"], output["datatype"]) == ("embedding", "FP32")
    numbers = output["data"] if header is None else np.frombuffer(response.content[int(header) :], "<f4")
    return np.reshape(numbers, output["shape"])


ROW = np.zeros((1, 10), np.float32)
