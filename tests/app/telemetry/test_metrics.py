import json
import logging
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.telemetry.logs import Json
from tests.support.bundles import TinyModel
from tests.support.serving import serving

pytestmark = pytest.mark.anyio


async def samples(client: httpx.AsyncClient) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Name → labels → value."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families((await client.get("/metrics")).text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


async def test_rows_runs_and_requests_are_counted(models: Path, tiny: TinyModel) -> None:
    async with serving(models=models) as client:
        for count in (1, 3):
            await client.post("/embed", json={"features": tiny.rows(count).tolist()})
        await client.post("/embed", json={"features": []})
        found = await samples(client)
    graph = (("graph", "target_encoder"), ("model", "tiny"))
    assert found["jepa_infer_rows_total"][graph] == 4
    assert found["jepa_infer_executions_total"][graph] == 2
    assert found["jepa_batch_rows_sum"][graph] == 4
    assert found["jepa_queue_duration_seconds_count"][graph] == 2
    assert found["jepa_queue_rows"][graph] == 0
    requests = found["jepa_http_requests_total"]
    assert requests[(("method", "POST"), ("route", "/embed"), ("status", "200"))] == 2
    assert requests[(("method", "POST"), ("route", "/embed"), ("status", "422"))] == 1
    assert found["jepa_requests_rejected_total"][(("reason", "invalid_input"),)] == 1
    assert found["jepa_http_requests_in_flight"][()] == 0
    assert found["jepa_model_load_duration_seconds"][(("model", "tiny"),)] > 0
    assert [dict(labels)["version"] for labels in found["jepa_model_info"]] == ["1"]
    assert "process_resident_memory_bytes" in found
    assert found["jepa_layout"][(("of", "processes"),)] == 1
    assert found["jepa_batch_rows_limit"][graph] >= found["jepa_inline_rows_limit"][graph] >= 0


async def test_frame_deadlines_are_edges_of_the_latency_buckets(models: Path, tiny: TinyModel) -> None:
    async with serving(models=models) as client:
        await client.post("/embed", json={"features": tiny.rows(1).tolist()})
        found = await samples(client)
    edges = {dict(labels)["le"] for labels in found["jepa_http_request_duration_seconds_bucket"]}
    assert {"0.0083", "0.0167", "0.0333"} <= edges


async def test_labels_do_not_grow_with_what_clients_send(models: Path) -> None:
    async with serving(models=models) as client:
        for i in range(3):
            await client.get(f"/nowhere/{i}")
            await client.get(f"/models/{i}")
            await client.request(f"METHOD{i}", "/nowhere")
            await client.request(f"METHOD{i}", "/models/tiny")
        found = await samples(client)
    routes = {dict(labels)["route"] for labels in found["jepa_http_requests_total"]}
    assert routes == {"unmatched", "/models/{name}"}
    assert {dict(labels)["method"] for labels in found["jepa_http_requests_total"]} == {"other", "GET"}


async def test_a_request_keeps_its_id_or_gets_one(models: Path) -> None:
    async with serving(models=models) as client:
        given = await client.get("/models", headers={"x-request-id": "abc-123"})
        assert given.headers["x-request-id"] == "abc-123"
        ids = {(await client.get("/models")).headers["x-request-id"] for _ in range(3)}
        assert len(ids) == 3
        unfit = await client.get("/models", headers={"x-request-id": "a b" * 100})
        assert " " not in unfit.headers["x-request-id"]


async def test_the_access_log_is_one_json_line_a_request_and_leaves_probes_out(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "app.access"):
        async with serving(models=models) as client:
            await client.get("/models/chess", headers={"x-request-id": "r1"})
            await client.get("/livez")
    (line,) = [json.loads(Json().format(record)) for record in caplog.records if record.name == "app.access"]
    assert line.pop("ms") > 0
    assert datetime.fromisoformat(line.pop("time")).tzinfo is UTC
    asked = {"request_id": "r1", "method": "GET", "path": "/models/chess", "status": 404}
    assert line == asked | {"level": "info", "logger": "app.access", "message": "GET /models/chess 404"}
