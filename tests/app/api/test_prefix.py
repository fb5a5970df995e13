"""A prefix before all paths, as a proxy with `location /jepa/` puts it there and takes it off, or does not."""

import re
from pathlib import Path

import httpx
import numpy as np
import pytest
from pydantic import ValidationError
from websockets.asyncio.client import connect

from app.main import create_app
from app.settings import Settings
from tests.support.bundles import TinyModel
from tests.support.serving import client_of, serving

pytestmark = pytest.mark.anyio
ROOT = "/jepa"
BODY = {"features": [0.5] * 10}
KEY = "key-0123456789abcdef"
HTML = {"Accept": "text/html"}


@pytest.mark.parametrize("way", ["asgi", "socket"])
@pytest.mark.parametrize("passed_on", [ROOT, ""], ids=["passed on", "taken off"])
async def test_all_is_there_whether_the_proxy_passes_the_prefix_on_or_takes_it_off(
    models: Path, way: str, passed_on: str
) -> None:
    async with serving(way, models=models, root_path=ROOT) as client:
        paths = (await client.get(f"{passed_on}/openapi.json")).json()
        assert paths["servers"] == [{"url": ROOT}]
        for path in ("/embed", "/predict", "/forecast"):
            assert (await client.post(passed_on + path, json=BODY)).status_code == 200
        infer = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 10], "data": BODY["features"]}]}
        assert (await client.post(f"{passed_on}/v2/models/tiny/infer", json=infer)).status_code == 200
        for path in ("/livez", "/readyz", "/metrics", "/models/tiny", "/v2", "/docs"):
            assert (await client.get(passed_on + path)).status_code == 200
        page = (await client.get(f"{passed_on}/", headers=HTML)).text
        docs = (await client.get(f"{passed_on}/docs")).text
        for link in re.findall(r"""(?:href|src)=["']([^"'#]+)""", page + docs):
            assert not link.startswith(("/", "http")), link
            assert (await client.get(f"{passed_on}/{link}")).status_code == 200, link
        links = (await client.get(f"{passed_on}/", headers={"Accept": "application/json"})).json()["links"]
        assert all(link.startswith(f"{ROOT}/") for link in links.values())
        refused = await client.post(f"{passed_on}/v2/models/nope/infer", json={})
        assert refused.json().keys() == {"error"}
        moved = await client.get(f"{passed_on}/docs/")
        assert httpx.URL(moved.headers["location"]).path == f"{ROOT}/docs"
        text = (await client.get("/metrics")).text
        assert 'route="/embed",status="200"} 1.0' in text
        assert "jepa/" not in text


async def test_the_prefix_alone_leads_to_the_page(models: Path) -> None:
    async with serving(models=models, root_path=ROOT) as client:
        moved = await client.get(ROOT)
        assert moved.status_code == 307
        assert httpx.URL(moved.headers["location"]).path == f"{ROOT}/"
        assert (await client.get(f"{ROOT}s/livez")).status_code == 404


async def test_keys_are_asked_for_behind_a_prefix_as_without(models: Path) -> None:
    async with serving("socket", models=models, root_path=ROOT, api_keys=KEY) as client:
        for root in (ROOT, ""):
            for path in ("/livez", "/readyz", "/metrics", "/"):
                assert (await client.get(root + path)).status_code == 200, path
            assert (await client.get(f"{root}/models")).status_code == 401
            assert (await client.post(f"{root}/embed", json=BODY)).status_code == 401
            assert (await client.post(f"{root}/embed", json=BODY, headers={"x-api-key": KEY})).status_code == 200


@pytest.mark.parametrize("root", [ROOT, ""])
async def test_a_stream_opens_behind_a_prefix(models: Path, root: str) -> None:
    async with serving("socket", models=models, root_path=ROOT) as client:
        url = f"ws://127.0.0.1:{client.base_url.port}{root}/stream"
        async with connect(url, compression=None) as stream:
            await stream.send(bytes(4) + TinyModel().rows(1).tobytes())
            assert np.frombuffer(await stream.recv(decode=False), "<f4").shape == (1 + TinyModel().embed_dim,)


async def test_a_prefix_that_the_server_before_it_names_holds_too(models: Path) -> None:
    """As Ray Serve mounts it, and `uvicorn --root-path`."""
    app = create_app(Settings(models=models))
    async with client_of(app):
        transport = httpx.ASGITransport(app, root_path=ROOT)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.get(f"{ROOT}/livez")).status_code == 200
            assert (await client.get(f"{ROOT}/openapi.json")).json()["servers"] == [{"url": ROOT}]
            assert (await client.post(f"{ROOT}/embed", json=BODY)).status_code == 200


@pytest.mark.parametrize("wrong", ["jepa", "/jepa/", "/", "/v2", "/v2/x", "http://x/jepa", "/a b", "//"])
def test_what_is_no_prefix_stops_the_start(wrong: str) -> None:
    with pytest.raises(ValidationError, match="it begins with a slash, ends without one and is not /v2, as in /jepa"):
        Settings(root_path=wrong)
