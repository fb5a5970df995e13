"""What the native endpoints say when more comes than can be computed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from app.main import create_app
from app.service import Service
from app.settings import Settings
from tests.app.api.native.conftest import ROW, problem
from tests.support.serving import client_of

pytestmark = pytest.mark.anyio

Held = tuple[httpx.AsyncClient, Service]


@pytest.fixture
async def held(models: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Held]:
    """A service whose only thread is taken, until it is released."""
    monkeypatch.setattr("app.inference.batch_limits.MAX_LOOP_BLOCK_S", 0)
    app = create_app(Settings(models=models, batch_threads=1, max_rows=4, max_queue_rows=5))
    service: Service = app.state.service
    async with client_of(app, way) as client:
        assert service.threads.acquire(lambda: None)
        yield client, service


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def queue_rows(service: Service) -> int:
    return service.registry.get("tiny").engine.queues.target_encoder.queue_rows


async def test_a_full_queue_is_429_at_once_with_its_depth(held: Held) -> None:
    client, service = held
    waiting = asyncio.create_task(client.post("/embed", json={"features": [ROW] * 4}))
    await until(lambda: queue_rows(service) == 4)
    response = await client.post("/embed", json={"features": [ROW] * 2})
    document = problem(response, 429)
    assert document["queue_rows"] == 4
    assert int(response.headers["retry-after"]) >= 1
    service.threads.release()
    assert (await waiting).status_code == 200


async def test_a_request_past_its_deadline_is_504_while_the_model_is_still_busy(held: Held) -> None:
    client, service = held
    response = await client.post("/embed", json={"features": ROW}, headers={"x-request-timeout-ms": "20"})
    problem(response, 504)
    assert queue_rows(service) == 0
    problem(await client.post("/embed", json={"features": ROW}, headers={"x-request-timeout-ms": "0"}), 504)
    service.threads.release()


async def test_a_newer_frame_of_a_stream_supersedes_one_that_waits(held: Held) -> None:
    client, service = held
    stream = {"x-stream-id": "bot 1"}
    older = asyncio.create_task(client.post("/embed", json={"features": ROW}, headers=stream))
    await until(lambda: queue_rows(service) == 1)
    newer = asyncio.create_task(client.post("/embed", json={"features": ROW}, headers=stream))
    document = problem(await older, 409)
    assert document["type"] == "urn:jepa:error:superseded"
    service.threads.release()
    assert (await newer).status_code == 200


async def test_bots_that_name_no_stream_do_not_share_one(held: Held) -> None:
    client, service = held
    frames = [client.post("/embed", json={"features": ROW}, headers={"x-stream-id": ""}) for _ in range(2)]
    answers = asyncio.gather(*frames)
    await until(lambda: queue_rows(service) == 2)
    service.threads.release()
    assert [each.status_code for each in await answers] == [200, 200]


async def test_a_draining_service_finishes_what_it_has_and_takes_nothing_new(held: Held) -> None:
    client, service = held
    waiting = asyncio.create_task(client.post("/embed", json={"features": ROW}))
    await until(lambda: queue_rows(service) == 1)
    service.drain()
    response = await client.post("/embed", json={"features": ROW})
    assert "draining" in problem(response, 503)["detail"]
    assert int(response.headers["retry-after"]) >= 1
    service.threads.release()
    assert (await waiting).status_code == 200
