"""Documents that are small on the wire and would be large as findings: refused before each member is looked at."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.bundles import TinyModel
from tests.support.serving import Server

MANY = 100_000
LONG = "x" * 1_000_000
ROW = [0.5] * 10
INFER = "/v2/models/tiny/infer"
MAX_ANSWER_BYTES = 10_000


def tensor(**other: Any) -> dict[str, Any]:
    return {"name": "features", "shape": [1, 10], "datatype": "FP32", "data": ROW} | other


CASES: list[tuple[str, dict[str, Any]]] = [
    ("/embed", {"features": ROW} | {f"k{i}": i for i in range(MANY)}),
    ("/embed", {"features": ROW, "hidden": [1] * MANY}),
    ("/embed", {"features": ROW, "hidden": [LONG]}),
    ("/embed", {"features": ROW, LONG: 1}),
    ("/embed", {"features": ROW, "encoder": {f"k{i}": i for i in range(MANY)}}),
    ("/predict", {"features": ROW, "targets": [[]] * MANY}),
    ("/forecast", {"features": ROW, "heads": ["mood"] * MANY}),
    ("/forecast", {"features": ROW, "heads": [LONG], "novelty": LONG}),
    ("/forecast", {"features": ROW, "heads": [LONG]}),
    ("/loss", {"features": ROW, "target_features": ROW} | {f"k{i}": i for i in range(MANY)}),
    ("/v2/models/tiny.forecast/infer", {"inputs": [tensor()], "parameters": {"heads": ",".join("a" * MANY)}}),
    (INFER, {"inputs": [{}] * MANY}),
    (INFER, {"inputs": [tensor(shape=[-1] * MANY)]}),
    (INFER, {"inputs": [tensor(name=LONG)]}),
    (INFER, {"inputs": [tensor()], "outputs": [{}] * MANY}),
    (INFER, {"inputs": [tensor()], "parameters": {f"k{i}": i for i in range(MANY)}}),
    (INFER, {"inputs": [tensor()], "parameters": {LONG: 1}}),
    ("/v2/repository/index", {f"k{i}": i for i in range(MANY)}),
    ("/v2/repository/models/tiny/load", {"parameters": {f"k{i}": i for i in range(MANY)}}),
]


@pytest.fixture(scope="module")
def client(models: Path) -> Iterator[httpx.Client]:
    flags = ("--models", str(models), "--model-control", "--workers", "1")
    with Server(*flags) as server, httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "document", "coding"),
    [
        *((path, document, "identity") for path, document in CASES),
        # Of the dialects the Open Inference Protocol alone takes compressed bodies.
        *((path, document, "gzip") for path, document in CASES if path == INFER),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_document_of_many_or_long_members_is_refused_in_few_words(
    client: httpx.Client, path: str, document: dict[str, Any], coding: str
) -> None:
    body, headers = json.dumps(document).encode(), {"Content-Type": "application/json"}
    if coding == "gzip":
        body, headers = gzip.compress(body), headers | {"Content-Encoding": "gzip"}
    answer = client.post(path, content=body, headers=headers)
    assert answer.status_code in (400, 413, 422)
    assert len(answer.content) < MAX_ANSWER_BYTES
    assert client.post("/embed", json={"features": ROW}).status_code == 200


def test_a_request_with_some_findings_hears_of_ten_and_how_many_more_there_are(client: httpx.Client) -> None:
    answer = client.post("/embed", json={"features": ROW} | {f"k{i}": i for i in range(25)})
    assert answer.status_code == 422
    errors = answer.json()["errors"]
    assert len(errors) == 11
    assert errors[0]["loc"] == ["body", "k0"]
    assert errors[-1]["msg"] == "15 more are wrong"


def test_a_tensor_of_many_numbers_is_no_bomb(client: httpx.Client, tiny: TinyModel) -> None:
    rows = tiny.rows(500)
    nested = tensor(shape=[500, 10], data=rows.tolist())
    flat = tensor(shape=[500, 10], data=rows.ravel().tolist())
    for each in (nested, flat):
        assert client.post(INFER, json={"inputs": [each]}).status_code == 200
