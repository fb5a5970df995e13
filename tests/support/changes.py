"""Adds and changes models while `jepa serve` runs, and reads what it serves."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.support.bundles import TinyModel
from tests.support.serving import Server


def version(number: int, **options: Any) -> TinyModel:
    """A version of the tiny model whose answers differ from all others'."""
    return TinyModel(version=number, seed=number, **options)


def put(model: TinyModel, models: Path) -> Path:
    """Publishes the model with one rename, as training does."""
    staged = model.write(models.parent / "staged")
    home = models / model.name
    home.mkdir(exist_ok=True)
    return staged.rename(home / str(model.version))


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def served(server: Server, path: str = "/models/tiny", count: int = 4) -> set[int]:
    """The versions that answer over new connections, which are handed to all workers in turn."""
    clients = [httpx.Client(base_url=server.url, verify=False) for _ in range(count)]
    try:
        answers = [client.get(path) for client in clients]
        return {answer.json()["version"] if answer.status_code == 200 else answer.status_code for answer in answers}
    finally:
        for client in clients:
            client.close()


def reasons(server: Server) -> dict[str, str]:
    return {each["bundle"]: each["reason"] for each in httpx.get(f"{server.url}/models").json()["refused"]}


def post(server: Server, path: str, **body: object) -> httpx.Response:
    return httpx.post(f"{server.url}/v2/repository/{path}", json=body, timeout=60)
