"""What the tests of gRPC share."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio

from app.api.guard import Guard
from app.api.oip.grpc.server import serving
from app.main import create_app
from app.service import Service
from app.settings import Settings
from tests.support.serving import ROOT, Server

KEY = "key-0123456789abcdef"
PROTO = (ROOT / "app" / "api" / "oip" / "grpc" / "inference.proto").read_text()


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with Server("--models", str(models), "--workers", "2", "--grpc-port", "0") as server:
        yield server
        assert server.stop() == 0


def address(server: Server) -> str:
    (found,) = re.findall(r"gRPC on ([\d.]+:\d+)", server.log)
    return str(found)


@pytest.fixture
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address(server)) as client:
        yield client


def tensor(name: str, values: Any, datatype: str = "FP32") -> triton.InferInput:
    return triton.InferInput(name, values.shape, datatype).set_data_from_numpy(values)


@asynccontextmanager
async def answering(models: Path, **settings: Any) -> AsyncIterator[tuple[triton_aio.InferenceServerClient, Service]]:
    """A client of a server in this process."""
    service = create_app(Settings(models=models, grpc_port=0, **settings)).state.service
    service.open()
    async with (
        serving(service, Guard(service)) as port,
        triton_aio.InferenceServerClient(f"127.0.0.1:{port}") as client,
    ):
        yield client, service
    service.close()


@pytest.fixture
def holds(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings with which whoever takes the thread can hold requests up."""
    monkeypatch.setattr("app.inference.batch_limits.MAX_LOOP_BLOCK_S", 0)
    return {"batch_threads": 1, "max_rows": 4, "max_queue_rows": 4, "max_body_bytes": 4000}


async def queued(service: Service, rows: int) -> None:
    while service.registry.get(None).engine.queues.target_encoder.queue_rows != rows:
        await asyncio.sleep(0.001)
