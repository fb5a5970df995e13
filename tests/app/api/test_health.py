import asyncio
import threading
from pathlib import Path

import pytest

from app.main import create_app
from app.service import Service
from app.settings import Settings
from tests.support.serving import client_of, serving

pytestmark = pytest.mark.anyio


async def test_a_service_with_a_model_is_alive_and_ready(models: Path) -> None:
    async with serving(models=models) as client:
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200


PATHS = (
    *("/livez", "/readyz", "/metrics", "/", "/docs", "/docs/assets/swagger-ui.css", "/openapi.json", "/models"),
    *("/models/tiny", "/models/tiny/drift", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/tiny"),
    *("/v2/models", "/v2/models/stats", "/v2/models/tiny/ready", "/v2/models/tiny/versions/1/config"),
)


@pytest.mark.parametrize("way", ["asgi", "socket"])
async def test_head_is_answered_as_get_without_the_body(models: Path, way: str) -> None:
    """As `wget --spider` and `curl -I` ask, and the probes of some balancers."""
    async with serving(way, models=models) as client:
        for path in PATHS:
            head, got = await client.head(path), await client.get(path)
            assert (head.status_code, head.content) == (got.status_code, b"") == (200, b""), path
            assert head.headers["content-type"] == got.headers["content-type"]
            # What is counted meanwhile makes the metrics longer.
            assert head.headers["content-length"] == got.headers["content-length"] or path == "/metrics"
        for path, status in (("/nope", 404), ("/models/nope", 404), ("/v2/models/nope", 404), ("/stream", 426)):
            head = await client.head(path)
            assert (head.status_code, head.content) == (status, b""), path
        for path in ("/embed", "/predict", "/forecast", "/loss", "/v2/models/tiny/infer", "/v2/repository/index"):
            head = await client.head(path)
            assert (head.status_code, head.content, head.headers["allow"]) == (405, b"", "POST"), path
        for path in PATHS:
            posted = await client.post(path, headers={"origin": "http://test", "sec-fetch-site": "same-origin"})
            assert (posted.status_code, posted.headers["allow"]) == (405, "GET, HEAD"), path


async def test_every_path_is_counted_by_its_route(models: Path) -> None:
    async with serving("socket", models=models) as client:
        for path in PATHS:
            await client.get(path)
            await client.head(path)
        text = (await client.get("/metrics")).text
    assert 'route="unmatched"' not in text
    for route in ("/", "/docs", "/docs/assets/{name}", "/openapi.json", "/v2/models/{name}/ready"):
        for method in ("GET", "HEAD"):
            assert f'jepa_http_requests_total{{method="{method}",route="{route}",status="200"}} 1.0' in text


async def test_without_a_model_it_is_alive_but_not_ready(tmp_path: Path) -> None:
    async with serving(models=tmp_path) as client:
        assert (await client.get("/livez")).status_code == 200
        response = await client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["type"] == "urn:jepa:error:not-ready"
        embed = await client.post("/embed", json={"features": [0]})
        assert embed.status_code == 503
        assert (await client.get("/models")).json() == {"models": [], "refused": []}


async def test_before_the_start_and_while_draining_it_is_not_ready(models: Path) -> None:
    app = create_app(Settings(models=models))
    service: Service = app.state.service
    assert service.phase.value == "starting"
    async with client_of(app) as client:
        service.drain()
        response = await client.get("/readyz")
        assert response.status_code == 503
        assert "draining" in response.json()["detail"]
        assert (await client.get("/livez")).status_code == 200


async def test_a_model_that_stops_answering_makes_it_not_ready(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.service.CANARY_EVERY_S", 0)
    async with serving(models=models) as client:
        assert (await client.get("/readyz")).status_code == 200
        monkeypatch.setattr("app.inference.jobs._checked", lambda *_: 1 / 0)
        response = await client.get("/readyz")
        assert response.status_code == 503
        assert "model 'tiny' does not answer" in response.json()["detail"]


async def test_batch_threads_that_take_no_work_make_it_not_ready(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.service.CANARY_EVERY_S", 0)
    monkeypatch.setattr("app.service.CANARY_TIMEOUT_S", 0.2)
    app = create_app(Settings(models=models, batch_threads=2))
    async with client_of(app) as client:
        threads, over = app.state.service.threads, threading.Event()
        for _ in range(threads.count):
            threads._executor.submit(over.wait)
        response = await client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["detail"] == "no batch thread took work for 0.2 s"
        # The row of the canary is computed on the event loop: what threads do not do, a request need not notice.
        assert (await client.post("/embed", json={"features": [0] * 10})).status_code == 200
        over.set()
        for _ in range(3):  # each gave its place back
            assert (await client.get("/readyz")).status_code == 200


async def test_a_run_that_does_not_end_makes_it_not_ready_and_stops_the_heartbeat(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.service.BEAT_EVERY_S", 0.01)
    monkeypatch.setattr("app.service.MAX_RUN_S", 0.1)
    app = create_app(Settings(models=models, batch_threads=2))
    async with client_of(app) as client:
        service, over = app.state.service, threading.Event()
        assert service.threads.acquire(lambda: None)
        running = service.threads.run(over.wait)
        await asyncio.sleep(0.15)
        response = await client.get("/readyz")
        assert response.status_code == 503
        assert "a run has not come back for" in response.json()["detail"]
        sheet = service.telemetry.ledger.sheets[0]
        turned_at = sheet.turned_at
        await asyncio.sleep(0.1)
        assert sheet.turned_at == turned_at
        assert (await client.get("/livez")).status_code == 200
        over.set()
        await running
        service.threads.release(running)
        assert (await client.get("/readyz")).status_code == 200
        await asyncio.sleep(0.1)
        assert sheet.turned_at > turned_at


async def test_readiness_computes_a_row_at_most_once_a_second(models: Path) -> None:
    async with serving(models=models) as client:
        for _ in range(5):
            assert (await client.get("/readyz")).status_code == 200
        text = (await client.get("/metrics")).text
        assert 'jepa_infer_rows_total{graph="target_encoder",model="tiny"} 1.0' in text


async def test_a_full_queue_is_no_reason_to_take_a_replica_out(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = create_app(Settings(models=models))
    async with client_of(app) as client:
        monkeypatch.setattr(app.state.service.registry.get(None).engine.queues.target_encoder, "max_queue_rows", 0)
        assert (await client.get("/readyz")).status_code == 200
