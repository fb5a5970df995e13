"""What gRPC says when more comes than can be computed, and when the service stops."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from app.api.guard import Guard
from app.api.oip.grpc.messages import SERVICE
from app.api.oip.grpc.server import serving
from app.main import create_app
from app.settings import Settings
from tests.app.api.oip.grpc.conftest import answering, queued, tensor
from tests.support.bundles import TinyModel


@pytest.mark.anyio
@pytest.mark.parametrize("limit", [{"client_timeout": 0.05}, {"timeout": 50_000}])
async def test_a_request_past_its_deadline_is_refused_and_never_computed(
    models: Path, tiny: TinyModel, holds: dict[str, Any], limit: dict[str, Any]
) -> None:
    async with answering(models, **holds) as (client, service):
        assert service.threads.acquire(lambda: None)
        with pytest.raises(InferenceServerException) as expired:
            await client.infer("tiny", [tensor("features", tiny.rows(1))], **limit)
        assert expired.value.status() == "StatusCode.DEADLINE_EXCEEDED"
        await queued(service, 0)
        service.threads.release()
        text = service.telemetry.text()
        assert b'jepa_infer_rows_total{graph="target_encoder",model="tiny"} 0.0' in text
        assert b"jepa_http_requests_in_flight 0.0" in text


@pytest.mark.anyio
async def test_rows_of_a_client_that_left_are_not_computed(
    models: Path, tiny: TinyModel, holds: dict[str, Any]
) -> None:
    async with answering(models, **holds) as (client, service):
        assert service.threads.acquire(lambda: None)
        infer = asyncio.create_task(client.infer("tiny", [tensor("features", tiny.rows(1))]))
        await queued(service, 1)
        infer.cancel()
        await queued(service, 0)
        service.threads.release()
        text = service.telemetry.text()
        assert b'jepa_infer_rows_total{graph="target_encoder",model="tiny"} 0.0' in text
        assert f'route="/{SERVICE}/ModelInfer",status="499"}} 1.0'.encode() in text


@pytest.mark.anyio
async def test_what_a_busy_service_refuses_has_codes_of_its_own(
    models: Path, tiny: TinyModel, holds: dict[str, Any]
) -> None:
    async with answering(models, **holds) as (client, service):

        def infer(rows: int, **headers: str) -> "asyncio.Task[Any]":
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            inputs = [tensor("features", tiny.rows(rows))]
            return asyncio.create_task(client.infer("tiny", inputs, headers=named))

        assert service.threads.acquire(lambda: None)
        older = infer(4, x_stream_id="bot 1")
        await queued(service, 4)
        for task, code in ((infer(1), "RESOURCE_EXHAUSTED"), (infer(101), "RESOURCE_EXHAUSTED")):
            with pytest.raises(InferenceServerException) as refused:
                await task
            assert refused.value.status() == f"StatusCode.{code}"
        newer = infer(3, x_stream_id="bot 1")
        with pytest.raises(InferenceServerException) as superseded:
            await older
        assert superseded.value.status() == "StatusCode.ABORTED"
        service.threads.release()
        assert (await newer).as_numpy("embedding").shape == (3, 4)
        with pytest.raises(InferenceServerException, match="the request expects another") as mismatch:
            await infer(1, x_schema_hash="another")
        assert mismatch.value.status() == "StatusCode.FAILED_PRECONDITION"


@pytest.mark.anyio
async def test_a_stopping_server_answers_what_has_come_and_nothing_else(
    models: Path, tiny: TinyModel, holds: dict[str, Any]
) -> None:
    service = create_app(Settings(models=models, grpc_port=0, **holds)).state.service
    service.open()
    running = serving(service, Guard(service))
    port = await running.__aenter__()
    async with triton_aio.InferenceServerClient(f"127.0.0.1:{port}") as client:
        assert service.threads.acquire(lambda: None)
        inputs = [tensor("features", tiny.rows(1))]
        waiting = asyncio.create_task(client.infer("tiny", inputs))
        await queued(service, 1)
        service.drain()
        assert not await client.is_server_ready()
        with pytest.raises(InferenceServerException, match="the service is draining") as refused:
            await client.infer("tiny", inputs)
        assert refused.value.status() == "StatusCode.UNAVAILABLE"
        stopping = asyncio.create_task(running.__aexit__(None, None, None))
        await asyncio.sleep(0.05)
        service.threads.release()
        assert (await waiting).as_numpy("embedding").shape == (1, 4)
        await stopping
    service.close()
