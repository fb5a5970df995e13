"""What the tests of /stream share."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect

from app.main import create_app
from app.service import Service
from app.settings import Settings
from tests.support.bundles import TinyModel
from tests.support.serving import listening

TINY = TinyModel(heads=True)
KEY = "key-0123456789abcdef"
Open = Callable[..., AbstractAsyncContextManager[ClientConnection]]


def message(number: int, rows: np.ndarray) -> bytes:
    return struct.pack("<I", number) + rows.astype("<f4").tobytes()


def frame(number: int) -> bytes:
    return message(number, TINY.rows(1, seed=number))


async def answer(stream: ClientConnection) -> tuple[int, np.ndarray | int]:
    """The number of a frame, and its embeddings or the status it was refused with."""
    received = await stream.recv()
    if isinstance(received, str):
        problem = json.loads(received)
        return problem["seq"], problem["status"]
    return struct.unpack_from("<I", received)[0], np.frombuffer(received[4:], "<f4").reshape(-1, TINY.embed_dim)


@asynccontextmanager
async def opened(port: int, query: str = "", **headers: str) -> AsyncIterator[ClientConnection]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    url = f"ws://127.0.0.1:{port}/stream{query}"
    async with connect(url, additional_headers=named, compression=None, proxy=None) as stream:
        yield stream


@asynccontextmanager
async def running(
    models: Path, update: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[tuple[int, Any]]:
    """The port and the app. `update` has settings that are too short for a user."""
    app = create_app(Settings(models=models, **settings).model_copy(update=update))
    async with app.router.lifespan_context(app), listening(app) as port:
        yield port, app


@pytest.fixture
async def app(models: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FastAPI]:
    # So that whoever takes the thread can hold frames up.
    monkeypatch.setattr("app.inference.batch_limits.MAX_LOOP_BLOCK_S", 0)
    app = create_app(Settings(models=models, batch_threads=1, max_rows=8, max_body_bytes=4000))
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def port(app: FastAPI) -> AsyncIterator[int]:
    async with listening(app) as port:
        yield port


@pytest.fixture
def service(app: FastAPI) -> Service:
    service: Service = app.state.service
    return service


async def queued(service: Service, rows: int) -> None:
    while service.registry.get(None).engine.queues.target_encoder.queue_rows != rows:
        await asyncio.sleep(0.001)
