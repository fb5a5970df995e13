"""What the tests of the front door share."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from fastapi import FastAPI

from app.api.native.handler import Handler
from app.main import create_app
from app.service import Service
from app.settings import Settings
from tests.support.bundles import TinyModel
from tests.support.serving import listening
from tests.support.ways import on_the_long_way

TINY = TinyModel()
BINARY = "application/octet-stream"
Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter


def request(seed: int, rows: int = 1, *lines: str, version: str = "1.1") -> bytes:
    body = TINY.rows(rows, seed).tobytes()
    head = [f"POST /embed HTTP/{version}", "Host: x", f"Content-Type: {BINARY}", f"Accept: {BINARY}"]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", *lines, "", ""]).encode() + body


def answer_to(seed: int, rows: int = 1) -> np.ndarray:
    return TINY.encode(TINY.rows(rows, seed))


def floats(body: bytes) -> np.ndarray:
    return np.frombuffer(body, "<f4").reshape(-1, TINY.embed_dim)


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    status, *lines = head.decode().strip().split("\r\n")
    return int(status.split()[1]), {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}


async def read_answer(reader: Reader) -> tuple[int, dict[str, str], bytes]:
    status, headers = parse_head(await reader.readuntil(b"\r\n\r\n"))
    return status, headers, await reader.readexactly(int(headers["content-length"]))


@pytest.fixture
async def app(models: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FastAPI]:
    # So that whoever takes the thread can hold requests up.
    monkeypatch.setattr("app.inference.batch_limits.MAX_LOOP_BLOCK_S", 0)
    app = create_app(Settings(models=models, batch_threads=1))
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
def service(app: FastAPI) -> Service:
    service: Service = app.state.service
    return service


@pytest.fixture
async def connection(app: FastAPI) -> AsyncIterator[tuple[Reader, Writer]]:
    async with listening(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        yield reader, writer
        writer.close()


@pytest.fixture
def long_way(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return on_the_long_way(monkeypatch, Handler)


async def until_queued(service: Service, rows: int) -> None:
    while service.registry.get(None).engine.queues.target_encoder.queue_rows != rows:
        await asyncio.sleep(0.001)


def question(path: str, *, chunked: bool = False) -> bytes:
    """A request of one row to that endpoint, or of a pair of rows."""
    body, kind = TINY.rows(2 if path == "/loss" else 1).tobytes(), BINARY
    if path == "/v2/models/tiny.loss/infer":
        data, kind = TINY.rows(1).tolist(), "application/json"
        names = ("features", "target_features")
        inputs = [{"name": name, "shape": [1, 10], "datatype": "FP32", "data": data} for name in names]
        body = json.dumps({"inputs": inputs}).encode()
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    lines = (f"POST {path} HTTP/1.1", "Host: x", f"Content-Type: {kind}", framing, "", "")
    return "\r\n".join(lines).encode() + (b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body)
