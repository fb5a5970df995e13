import re
from pathlib import Path

import pytest

from tests.support.serving import serving

pytestmark = pytest.mark.anyio


async def test_the_page_and_all_that_it_loads_come_from_the_service_behind_any_prefix(models: Path) -> None:
    async with serving(models=models) as client:
        page = await client.get("/docs")
        links = re.findall(r"""(?:href|src|url)(?:=|: )["']([^"']+)""", page.text)
        assert len(links) == 4
        assert not any(link.startswith(("/", "http")) for link in links)
        for link in links:
            answer = await client.get(f"/{link}")
            assert answer.status_code == 200
            again = await client.get(f"/{link}", headers={"If-None-Match": answer.headers.get("etag", "")})
            assert again.status_code == (200 if link == "openapi.json" else 304)
    assert "default-src 'self'" in page.headers["content-security-policy"]


async def test_the_operations_have_names_that_a_client_would_give_them(models: Path) -> None:
    async with serving(models=models) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    names = [operation["operationId"] for methods in paths.values() for operation in methods.values()]
    assert len(names) == len(set(names))
    assert {"embed", "predict", "loss", "models", "v2_models_name_infer"} <= set(names)


async def test_a_form_sends_no_option_that_nobody_chose(models: Path) -> None:
    async with serving(models=models) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    for path in ("/embed", "/predict", "/loss"):
        assert not any("default" in each["schema"] for each in paths[path]["post"]["parameters"])
