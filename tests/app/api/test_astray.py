"""Paths that lead nowhere, and methods that nobody answers: in both dialects, on the wire."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.support.bundles import TinyModel
from tests.support.serving import serving

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["", "/jepa"])
def prefix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
async def client(models: Path, prefix: str) -> AsyncIterator[httpx.AsyncClient]:
    async with serving("socket", models=models, root_path=prefix) as client:
        yield client


def said(response: httpx.Response) -> str:
    document = response.json()
    assert document.get("status", response.status_code) == response.status_code
    return str(document.get("detail", document.get("error")))


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("/embed/", "/embed"),
        ("//embed", "/embed"),
        ("//embed//", "/embed"),
        ("/embed/?encoder=context", "/embed?encoder=context"),
        ("/v2//models/tiny//infer/", "/v2/models/tiny/infer"),
    ],
)
async def test_a_slash_too_many_leads_to_the_right_path_behind_any_prefix(
    client: httpx.AsyncClient, prefix: str, path: str, right: str
) -> None:
    response = await client.post(httpx.URL(f"{client.base_url}".rstrip("/") + prefix + path))
    assert response.status_code == 307
    assert said(response) == f"ask at {prefix}{right.partition('?')[0]}; slashes count"
    assert "://" not in response.headers["location"]
    assert str(response.url.join(response.headers["location"])).endswith(f":{response.url.port}{prefix}{right}")


async def test_a_slash_at_the_end_leads_to_the_right_path_behind_a_prefix_that_the_service_does_not_know(
    models: Path,
) -> None:
    async with serving("socket", models=models) as client:
        response = await client.get("/v2/models/tiny/")
    asked = httpx.URL("https://a:99/one/two/v2/models/tiny/")
    assert str(asked.join(response.headers["location"])) == "https://a:99/one/two/v2/models/tiny"


async def test_a_body_follows_to_the_right_path(client: httpx.AsyncClient, prefix: str, tiny: TinyModel) -> None:
    body = {"features": tiny.rows(1)[0].tolist()}
    answer = await client.post(f"{prefix}/embed/", json=body, follow_redirects=True)
    np.testing.assert_allclose(answer.json()["embeddings"], tiny.encode(tiny.rows(1))[0], atol=1e-5)


@pytest.mark.parametrize("slashes", ["//evil.example/", "//evil.example//embed", "/docs/assets/", "/embed//x"])
async def test_no_path_of_a_strangers_is_led_anywhere(client: httpx.AsyncClient, prefix: str, slashes: str) -> None:
    response = await client.get(httpx.URL(f"{client.base_url}".rstrip("/") + prefix + slashes))
    assert response.status_code == 404
    assert "location" not in response.headers


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/embeddings", "there is nothing at /embeddings; the nearest is /embed; /docs lists what there is"),
        ("/EMBED", "there is nothing at /EMBED; the nearest is /embed; /docs lists what there is"),
        ("/readz", "there is nothing at /readz; the nearest is /readyz; /docs lists what there is"),
        ("/v2/nowhere", "there is nothing at /v2/nowhere; /docs lists what there is"),
        ("/" + "x" * 900, f"there is nothing at /{'x' * 63}…; /docs lists what there is"),
    ],
)
async def test_who_is_astray_is_told_what_there_is(
    client: httpx.AsyncClient, prefix: str, path: str, told: str
) -> None:
    response = await client.get(prefix + path)
    assert response.status_code == 404
    assert said(response) == told


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/embed", "POST"),
        ("PUT", "/embed", "POST"),
        ("OPTIONS", "/models", "GET, HEAD"),
        ("DELETE", "/v2/models/tiny", "GET, HEAD"),
        ("GET", "/v2/models/tiny/infer", "POST"),
    ],
)
async def test_a_method_that_is_not_answered_is_told_from_those_that_are(
    client: httpx.AsyncClient, prefix: str, method: str, path: str, allowed: str
) -> None:
    response = await client.request(method, prefix + path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
    assert said(response) == f"{method} is not answered at {path}; {allowed} is"
