"""A service in this process, behind a real socket, and the two clients in front of it as one."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI

from app.main import create_app
from app.service import Service
from app.settings import Settings
from jepa_client import AsyncJepaClient, JepaClient
from tests.support.relay import Relay
from tests.support.serving import listening


class Running(NamedTuple):
    url: str
    port: int
    service: Service


class Blocking:
    """An AsyncJepaClient that is called without await."""

    def __init__(self, client: AsyncJepaClient, portal: BlockingPortal) -> None:
        self._client = client
        self._portal = portal

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *args, **options: self._portal.call(partial(method, *args, **options))


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    """An event loop in a thread of its own, in which the service answers and AsyncJepaClient asks."""
    with start_blocking_portal("asyncio") as portal:
        yield portal


@asynccontextmanager
async def answering(app: FastAPI) -> AsyncIterator[int]:
    async with app.router.lifespan_context(app), listening(app) as port:
        yield port


@contextmanager
def services(models: Path, portal: BlockingPortal) -> Iterator[Callable[..., Running]]:
    with ExitStack() as stack:

        def start(**settings: Any) -> Running:
            app = create_app(Settings(**{"models": models, **settings}))
            port = stack.enter_context(portal.wrap_async_context_manager(answering(app)))
            return Running(f"http://127.0.0.1:{port}", port, app.state.service)

        yield start


@pytest.fixture
def serve(models: Path, portal: BlockingPortal) -> Iterator[Callable[..., Running]]:
    """Starts a service with these settings; the tiny bundle is its model unless they say otherwise."""
    with services(models, portal) as start:
        yield start


@pytest.fixture(scope="module")
def running(models: Path, portal: BlockingPortal) -> Iterator[Running]:
    """A service that tests share, and leave as it was."""
    with services(models, portal) as start:
        yield start(max_rows=8, max_body_bytes=4000)


@pytest.fixture
def held(serve: Callable[..., Running], monkeypatch: pytest.MonkeyPatch) -> Running:
    """A service whose only thread is taken, until `service.threads.release()` in the loop."""
    monkeypatch.setattr("app.inference.batch_limits.MAX_LOOP_BLOCK_S", 0)
    running = serve(batch_threads=1, max_rows=4, max_queue_rows=5)
    assert running.service.threads.acquire(lambda: None)
    return running


@pytest.fixture
def relay(portal: BlockingPortal) -> Iterator[Callable[..., tuple[Relay, str]]]:
    """Starts a Relay, and gives its URL too."""
    with ExitStack() as stack:

        def start(to: int | None, *faults: bytes) -> tuple[Relay, str]:
            relay = Relay(to, *faults)
            return relay, stack.enter_context(portal.wrap_async_context_manager(relay.running()))

        yield start


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest, portal: BlockingPortal) -> Iterator[Callable[..., Any]]:
    """Either client, called alike."""
    with ExitStack() as stack:

        def open_client(*args: Any, **options: Any) -> Any:
            if request.param == "sync":
                return stack.enter_context(JepaClient(*args, **options))
            client = AsyncJepaClient(*args, **options)
            return Blocking(stack.enter_context(portal.wrap_async_context_manager(client)), portal)

        yield open_client
