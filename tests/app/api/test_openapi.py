import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.acting import ACTING
from tests.support.bundles import TinyModel
from tests.support.serving import serving

pytestmark = pytest.mark.anyio


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if "$ref" in node else set()
        return own.union(*(references(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(references(value) for value in node))
    return set()


@pytest.mark.parametrize(
    ("made", "examples"),
    [
        ([TinyModel(heads=True)], 9),
        ([TinyModel(name="one", heads=True), TinyModel(name="two", heads=True)], 9),
        ([ACTING], 11),
    ],
    ids=["one", "two", "with the player's own inputs"],
)
async def test_every_example_runs_as_it_stands(tmp_path: Path, made: list[TinyModel], examples: int) -> None:
    for model in made:
        model.write(tmp_path)
    async with serving(models=tmp_path) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
        count = 0
        for path in ("/embed", "/predict", "/forecast", "/loss"):
            body = paths[path]["post"]["requestBody"]["content"]["application/json"]
            for example in body["examples"].values():
                response = await client.post(path, json=example["value"])
                assert response.status_code == 200, response.text
                count += 1
        assert count == examples
        infer = paths["/v2/models/{name}/infer"]["post"]
        name = next(each["example"] for each in infer["parameters"] if each["name"] == "name")
        body = infer["requestBody"]["content"]["application/json"]["example"]
        response = await client.post(f"/v2/models/{name}/infer", json=body)
        assert response.status_code == 200, response.text


async def test_the_document_is_openapi_3_1_and_whole(models: Path) -> None:
    async with serving(models=models) as client:
        document = (await client.get("/openapi.json")).json()
        docs = await client.get("/docs")
    assert docs.status_code == 200
    assert document["openapi"].startswith("3.1")
    for reference in references(document):
        node = document
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


async def test_both_forms_the_options_and_the_problems_are_documented(models: Path) -> None:
    async with serving(models=models) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    assert {"/embed", "/predict", "/forecast", "/loss", "/models", "/models/{name}"} <= paths.keys()
    assert {"/livez", "/readyz", "/metrics"} <= paths.keys()
    embed = paths["/embed"]["post"]
    assert embed["requestBody"]["content"].keys() == {"application/json", "application/octet-stream"}
    assert embed["responses"]["200"]["content"].keys() == {"application/json", "application/octet-stream"}
    assert {"encoder", "hidden", "model", "schema_hash", "X-Stream-Id"} <= {
        each["name"] for each in embed["parameters"]
    }
    for status in ("400", "404", "409", "413", "415", "422", "429", "503", "504"):
        assert embed["responses"][status]["content"].keys() == {"application/problem+json"}


async def test_the_open_inference_protocol_is_documented_with_its_versions_and_refusals(models: Path) -> None:
    async with serving(models=models) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    assert {"/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/stats", "/v2/repository/index"} <= paths.keys()
    for suffix in ("", "/ready", "/config", "/stats", "/infer"):
        method = "post" if suffix == "/infer" else "get"
        for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
            operation = paths[path + suffix][method]
            assert operation["tags"] == ["v2"]
            named = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))
            assert operation["responses"]["404"]["content"].keys() == {"application/json"}
    infer = paths["/v2/models/{name}/infer"]["post"]
    assert infer["requestBody"]["content"].keys() == {"application/json", "application/octet-stream"}
    assert "Inference-Header-Content-Length" in {each["name"] for each in infer["parameters"]}
