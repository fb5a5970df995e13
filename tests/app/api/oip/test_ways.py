"""Inference requests are answered alike on the short way, which the front door goes, and on the long one."""

import gzip
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.api.documents import MAX_PIECE_BYTES
from app.api.oip.handler import InferHandler
from app.main import create_app
from app.settings import Settings
from tests.app.api.oip.conftest import INFER, LENGTH, ROW, asked, embedding, refusal
from tests.support.bundles import TinyModel
from tests.support.changes import put, version
from tests.support.serving import client_of, serving
from tests.support.ways import on_the_long_way

pytestmark = pytest.mark.anyio

KEY = "key-0123456789abcdef"
VERSIONED = "/v2/models/tiny/versions/1/infer"
HASH = str(TinyModel(heads=True).manifest()["schema_hash"])
# Of one moment.
PASSING = frozenset(("date", "server-timing"))
TENSOR = {"name": "features", "shape": [2, 10], "datatype": "FP32"}
ROWS = TinyModel().rows(2)


def binary(**further: Any) -> tuple[bytes, dict[str, str]]:
    """Two rows behind their JSON, and the header that says how long that is."""
    document = {"inputs": [TENSOR | {"parameters": {"binary_data_size": ROWS.nbytes}}], **further}
    header = json.dumps(document).encode()
    return header + ROWS.tobytes(), {LENGTH: str(len(header))}


@pytest.fixture(scope="module")
async def client(models: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with serving("socket", models=models, max_rows=2048, api_keys=KEY, root_path="/jepa") as client:
        yield client


@pytest.fixture
def long_way(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return on_the_long_way(monkeypatch, InferHandler)


async def in_chunks(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def counters(client: httpx.AsyncClient) -> dict[str, float]:
    """What requests are counted by, and how often each is."""
    lines = (await client.get("/metrics", headers={"x-api-key": KEY})).text.splitlines()
    names = ("jepa_http_requests_total", "jepa_requests_rejected_total", "jepa_infer_rows_total")
    found = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith(names)}
    (stats,) = (await client.get("/v2/models/tiny/stats", headers={"x-api-key": KEY})).json()["model_stats"]
    parts = {name: part["count"] for name, part in stats["inference_stats"].items()}
    return found | parts | {name: stats[name] for name in ("inference_count", "execution_count")}


async def rise(client: httpx.AsyncClient, before: dict[str, float]) -> dict[str, float]:
    """By how much each has risen, but for those of the counters' own requests."""
    now = await counters(client)
    found = {name: count - before.get(name, 0) for name, count in now.items() if "/stats" not in name}
    return {name: count for name, count in found.items() if count}


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        (INFER, asked(ROWS), {}, 200),
        (VERSIONED, asked(ROWS, id="7"), {}, 200),
        (f"/jepa{INFER}", asked(ROWS), {}, 200),
        (f"/jepa{VERSIONED}", asked(ROWS), {}, 200),
        (f"{INFER}?x=1", asked(ROWS), {}, 200),
        (INFER, asked(ROWS), {"accept-encoding": "gzip"}, 200),
        (INFER, asked(ROWS), {"x-schema-hash": HASH, "x-stream-id": "bot", "x-request-timeout-ms": "60000"}, 200),
        (INFER, asked(np.tile(ROWS, (700, 1))), {}, 200),
        (INFER, *binary(), 200),
        (INFER, *binary(parameters={"binary_data_output": True}), 200),
        (INFER, ROWS.tobytes(), {LENGTH: "0"}, 200),
        (INFER, ROWS.tobytes(), {"content-type": "application/octet-stream"}, 200),
        (INFER, asked(ROWS, parameters={"hidden": "own"}), {}, 200),
        ("/v2/models/tiny.context_encoder/infer", asked(ROWS), {}, 200),
        ("/v2/models/tiny.forecast/infer", asked(ROWS, parameters={"horizon": 15, "novelty": True}), {}, 200),
        ("/v2/models/chess/infer", asked(ROWS), {}, 404),
        ("/v2/models/tiny.decoder/infer", asked(ROWS), {}, 404),
        ("/v2/models/..tiny/infer", asked(ROWS), {}, 404),
        ("/v2/models/tiny/versions/2/infer", asked(ROWS), {}, 404),
        ("/v2/models/tiny/versions/01/infer", asked(ROWS), {}, 404),
        (INFER, b"{", {}, 400),
        (INFER, b"[1]", {}, 400),
        (INFER, {}, {}, 400),
        (INFER, asked(ROWS[:0]), {}, 400),
        (INFER, asked(ROWS[:, :4]), {}, 400),
        (INFER, asked(ROWS, parameters={"hiden": "own"}), {}, 400),
        (INFER, asked(ROWS, outputs=[{"name": "x"}]), {}, 400),
        (INFER, json.dumps(asked(ROW)).replace("0.0", "true", 1).encode(), {}, 400),
        (INFER, json.dumps(asked(ROW)).replace("0.0", "NaN", 1).encode(), {}, 400),
        (INFER, binary()[0], {LENGTH: "9999"}, 400),
        (INFER, binary()[0], {LENGTH: "x"}, 400),
        (INFER, ROWS.tobytes()[:-1], {LENGTH: "0"}, 400),
        ("/v2/models/tiny.loss/infer", bytes(80), {LENGTH: "0"}, 400),
        (INFER, asked(ROWS), {"x-request-timeout-ms": "soon"}, 400),
        (INFER, asked(ROWS), {"x-schema-hash": "0"}, 409),
        (INFER, asked(np.tile(ROWS, (1025, 1))), {}, 413),
        (INFER, asked(ROWS, parameters={"timeout": 1}), {}, 504),
        (INFER, asked(ROWS), {"x-request-timeout-ms": "0"}, 504),
    ],
)
async def test_both_ways_answer_and_count_alike(
    client: httpx.AsyncClient,
    long_way: list[str],
    path: str,
    body: dict[str, Any] | bytes,
    headers: dict[str, str],
    status: int,
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    asks, found = {"accept-encoding": "identity", "x-api-key": KEY, "x-request-id": "7"} | headers, []
    for sends in (content, content, in_chunks(content)):
        before = await counters(client)
        answer = await client.post(path, content=sends, headers=asks)
        assert answer.status_code == status, answer.text
        kept = {name: value for name, value in answer.headers.items() if name not in PASSING}
        document = json.loads(answer.content[: int(answer.headers.get(LENGTH, len(answer.content)))])
        assert kept["x-request-id"] == "7"
        assert (document.keys() == {"error"}) == (status != 200)
        found.append((kept, answer.content, await rise(client, before)))
        # The first two alone went the short way, where the second has a head that is known.
        assert len(long_way) == (len(found) == 3)
    assert found[0] == found[1] == found[2]


async def test_a_large_document_is_parsed_by_pieces_on_the_short_way(
    client: httpx.AsyncClient, long_way: list[str], tiny: TinyModel
) -> None:
    rows = tiny.rows(1000)
    content = json.dumps(asked(rows)).encode()
    assert len(content) > 2 * MAX_PIECE_BYTES
    np.testing.assert_allclose(
        embedding(await client.post(INFER, content=content, headers={"x-api-key": KEY})), tiny.encode(rows), atol=1e-5
    )
    assert long_way == []


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (INFER, {"content-encoding": "gzip"}),
        ("/v2/models/t%69ny/infer", {}),
        ("/v2/models/%74iny/versions/%31/infer", {}),
    ],
)
async def test_what_is_unusual_goes_the_long_way(
    client: httpx.AsyncClient, long_way: list[str], path: str, headers: dict[str, str]
) -> None:
    content = json.dumps(asked(ROWS)).encode()
    packed = gzip.compress(content) if headers else content
    answer = await client.post(path, content=packed, headers={"x-api-key": KEY, **headers})
    np.testing.assert_allclose(embedding(answer), TinyModel().encode(ROWS), atol=1e-5)
    assert len(long_way) == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-api-key": "a-key-that-is-none"}, 401),
        ({"x-api-key": KEY, "origin": "http://stranger.example"}, 403),
        ({"x-api-key": KEY, "host": "stranger.example"}, 421),
    ],
)
async def test_who_is_not_let_in_is_refused_in_the_protocols_form(
    client: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    content = json.dumps(asked(ROW)).encode()
    told = {
        refusal(await client.post(INFER, content=sends, headers=headers), status)
        for sends in (content, content, in_chunks(content))
    }
    assert len(told) == 1


async def test_the_log_names_the_model_that_was_asked_both_ways(
    models: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    access_log = logging.getLogger("app.access")
    monkeypatch.setattr(access_log, "propagate", True)
    app, paths = create_app(Settings(models=models, root_path="/jepa")), (INFER, VERSIONED, f"/jepa{VERSIONED}")
    with caplog.at_level(logging.INFO, access_log.name):
        async with client_of(app, "socket") as client:
            for path in paths:
                content = json.dumps(asked(ROW)).encode()
                await client.post(path, content=content)
                await client.post(path, content=in_chunks(content))
    logged = [record.getMessage() for record in caplog.records if record.name == access_log.name]
    assert logged == [f"POST {path} 200" for path in (INFER, INFER, *[VERSIONED] * 4)]


async def test_a_connection_that_knows_a_head_is_answered_by_the_model_that_is_served_now(own_models: Path) -> None:
    app = create_app(Settings(models=own_models, model_control=True))
    async with client_of(app, "socket") as client:
        for _ in range(2):
            assert (await client.post(INFER, json=asked(ROW))).json()["model_version"] == "1"
        put(version(2), own_models)
        await client.post("/v2/repository/models/tiny/load")
        assert (await client.post(INFER, json=asked(ROW))).json()["model_version"] == "2"
        await client.post("/v2/repository/models/tiny/unload")
        assert "no model is loaded" in refusal(await client.post(INFER, json=asked(ROW)), 503)
