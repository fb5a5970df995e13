"""What the Open Inference Protocol says when more comes than can be computed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from app.main import create_app
from app.service import Service
from app.settings import Settings
from tests.app.api.oip.conftest import INFER, ROW, asked, refusal
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


async def waits(service: Service, rows: int) -> None:
    while service.registry.get("tiny").engine.queues.target_encoder.queue_rows != rows:
        await asyncio.sleep(0.001)


async def test_a_full_queue_is_429_with_when_to_come_again(held: Held) -> None:
    client, service = held
    waiting = asyncio.create_task(client.post(INFER, json=asked(ROW.repeat(4, 0))))
    await waits(service, 4)
    response = await client.post(INFER, json=asked(ROW.repeat(2, 0)))
    assert "4 rows wait already" in refusal(response, 429)
    assert int(response.headers["retry-after"]) >= 1
    service.threads.release()
    assert (await waiting).status_code == 200


@pytest.mark.parametrize(
    ("timeout_us", "header_ms"), [(20_000, None), (None, "20"), (20_000, "60000"), (60_000_000, "20"), (0, "20")]
)
async def test_a_request_past_the_earlier_of_its_deadlines_is_504(
    held: Held, timeout_us: int | None, header_ms: str | None
) -> None:
    client, service = held
    body = asked(ROW, parameters={} if timeout_us is None else {"timeout": timeout_us})
    headers = {} if header_ms is None else {"x-request-timeout-ms": header_ms}
    assert "deadline" in refusal(await client.post(INFER, json=body, headers=headers), 504)
    await waits(service, 0)
    service.threads.release()


async def test_a_newer_frame_of_a_stream_supersedes_one_that_waits(held: Held) -> None:
    client, service = held
    stream = {"x-stream-id": "bot 1"}
    older = asyncio.create_task(client.post(INFER, json=asked(ROW), headers=stream))
    await waits(service, 1)
    newer = asyncio.create_task(client.post(INFER, json=asked(ROW), headers=stream))
    assert "newer frame" in refusal(await older, 409)
    service.threads.release()
    assert (await newer).status_code == 200


async def test_a_draining_service_is_503_and_finishes_what_it_has(held: Held) -> None:
    client, service = held
    waiting = asyncio.create_task(client.post(INFER, json=asked(ROW)))
    await waits(service, 1)
    service.drain()
    for response in (
        await client.post(INFER, json=asked(ROW)),
        await client.get("/v2/health/ready"),
        await client.get("/v2/models/tiny/ready"),
    ):
        assert "draining" in refusal_unmeasured(response)
        assert int(response.headers["retry-after"]) >= 1
    assert (await client.get("/v2/health/live")).status_code == 200
    service.threads.release()
    assert (await waiting).status_code == 200


def refusal_unmeasured(response: httpx.Response) -> str:
    """Probes are given no id."""
    assert response.status_code == 503
    return str(response.json()["error"])


async def test_bots_that_name_no_stream_do_not_share_one(held: Held) -> None:
    client, service = held
    frames = [client.post(INFER, json=asked(ROW), headers={"x-stream-id": ""}) for _ in range(2)]
    answers = asyncio.gather(*frames)
    await waits(service, 2)
    service.threads.release()
    assert [each.status_code for each in await answers] == [200, 200]
