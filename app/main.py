"""Builds the application; importing this module has no side effects."""

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from types import FrameType
from typing import Any

from fastapi import FastAPI

from app import __version__
from app.api import docs, health
from app.api.guard import Guard
from app.api.handlers import Handlers
from app.api.middleware import guard_app
from app.api.native import openapi as native_openapi
from app.api.native import routes as native
from app.api.native.handler import Handler
from app.api.native.page import Page
from app.api.oip import openapi as oip_openapi
from app.api.oip import repository
from app.api.oip import routes as oip
from app.api.oip.handler import infer_handler
from app.api.oip.problems import OPEN_INFERENCE
from app.api.openapi import fill_paths, operation_id
from app.service import Service
from app.settings import Settings


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service as an ASGI application; without `settings` they are read from the environment.

    Models are loaded when the server starts the application, or earlier by `app.state.service.load()`.
    """
    service = Service(settings or Settings())
    page = Page()
    guard = Guard(service, page.paths)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with _obeying_signals(service):
            service.open()
            tasks = [asyncio.create_task(each) for each in (service.beat(), service.watcher.watch())]
            async with _grpc(service, guard):
                yield
                service.drain()
            for task in tasks:
                task.cancel()
            service.close()

    app = FastAPI(
        title="jepa-serve",
        version=__version__,
        description="Embeds game states, predicts the states that follow, and says how surprising a state was.",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # A client whose path ends in a slash is told so by app.api.astray.
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
        # FastAPI's own telemetry would miss requests on the fast path and count all others twice.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.service = service
    app.openapi = lambda: _openapi(app, service)  # type: ignore[method-assign]
    app.state.guard = guard
    handlers = [Handler(endpoint, service, guard) for endpoint in native.ENDPOINTS]
    app.state.handlers = Handlers(service.settings.root_path, handlers, partial(infer_handler, service, guard))
    app.router.routes += [handler.route() for handler in handlers]
    app.router.routes += oip.infer_routes(service, guard)
    routes = [*app.routes]
    for router in (page.router, native.router, oip.router, repository.router, health.router, docs.router):
        app.include_router(router)
        routes += router.routes
    guard_app(app, guard, [OPEN_INFERENCE], service.settings.root_path, routes)
    return app


@asynccontextmanager
async def _grpc(service: Service, guard: Guard) -> AsyncIterator[None]:
    if service.settings.grpc_port is None:
        yield
        return
    # Imported here because it needs the optional dependencies of the extra `grpc`.
    from app.api.oip.grpc.server import serving

    async with serving(service, guard):
        yield


def _openapi(app: FastAPI, service: Service) -> dict[str, Any]:
    """The OpenAPI document; rebuilt when the served models change, because its examples are made from them."""
    models = [*service.registry.models.values()]
    served = [(model.bundle.manifest.name, model.stamp) for model in models]
    if app.openapi_schema is None or app.state.documented != served:
        app.openapi_schema, app.state.documented = None, served
        for dialect in (native_openapi, oip_openapi):
            dialect.complete(FastAPI.openapi(app), models)
        for model in models[:1]:
            manifest = model.bundle.manifest
            fill_paths(FastAPI.openapi(app), {"name": manifest.name, "version": str(manifest.version)})
    return FastAPI.openapi(app)


@contextmanager
def _obeying_signals(service: Service) -> Iterator[None]:
    """Handles SIGHUP (rescan the models folder) and SIGTERM (refuse new requests before the server closes its port)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    servers_handler = signal.getsignal(signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        service.drain()
        if callable(servers_handler):
            servers_handler(number, frame)

    signal.signal(signal.SIGTERM, handle)
    loop = asyncio.get_running_loop()
    if sys.platform != "win32":
        loop.add_signal_handler(signal.SIGHUP, service.watcher.look_now)
    try:
        yield
    finally:
        if sys.platform != "win32":
            loop.remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGTERM, servers_handler)
