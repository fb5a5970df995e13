"""What the tests of the native endpoints share: a service that is asked both ways."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.serving import serving

BINARY = "application/octet-stream"
MAX_BODY_BYTES = 4000
MAX_ROWS = 8


@pytest.fixture(scope="module", params=["asgi", "socket"])
def way(request: pytest.FixtureRequest) -> str:
    """Both ways to an endpoint: through FastAPI, and the short one of `app.server.protocol`."""
    return str(request.param)


@pytest.fixture(scope="module")
async def client(models: Path, way: str) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(way, models=models, max_rows=MAX_ROWS, max_body_bytes=MAX_BODY_BYTES) as client:
        yield client


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The problem document, whose form every refusal shares."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == status
    assert {"type", "title", "detail"} <= document.keys()
    assert response.headers["x-request-id"]
    return document


async def post(client: httpx.AsyncClient, path: str, text: str | bytes, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post(path, content=text, headers={"content-type": "application/json", **named})


ROW = [0] * 10
