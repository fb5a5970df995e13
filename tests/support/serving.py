"""Runs an app in this process, including its lifespan, with an HTTP client; or runs `jepa serve` in its own."""

import asyncio
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from uvicorn.server import ServerState

from app.main import create_app
from app.server.protocol import FrontDoor
from app.settings import Settings
from tests.support.forker import Fork

ROOT = Path(__file__).parents[2]
# For `before`: makes the model fail on some rows.
FAILS_ON_THIRTEEN = """
import app.inference.sessions
run = app.inference.sessions.Graph.run

def run_or_fail(self, *inputs):
    if (inputs[0] == 13).any():
        raise RuntimeError("thirteen")
    return run(self, *inputs)

app.inference.sessions.Graph.run = run_or_fail
"""


@asynccontextmanager
async def client_of(app: FastAPI, way: str = "asgi") -> AsyncIterator[httpx.AsyncClient]:
    """A client that calls the app directly ("asgi") or through a socket and `app.server.protocol` ("socket")."""
    async with app.router.lifespan_context(app):
        if way == "socket":
            async with listening(app) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                yield client
        else:
            # Errors come back as a 500, as they would over a socket.
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                yield client


@asynccontextmanager
async def listening(app: FastAPI, keep_alive_s: float = 5.0) -> AsyncIterator[int]:
    """Serves a started app in this process, and yields the port."""
    config = uvicorn.Config(app, http=FrontDoor, ws="none", proxy_headers=False, lifespan="off", log_config=None)
    # uvicorn's type is whole seconds, which a test need not wait for.
    config.timeout_keep_alive = keep_alive_s  # type: ignore[assignment]
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(lambda: FrontDoor(config, state, {}), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.close()
        await server.wait_closed()


@asynccontextmanager
async def serving(way: str = "asgi", **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a new app with these settings."""
    async with client_of(create_app(Settings(**settings)), way) as client:
        yield client


class Server:
    """`jepa serve` in a process of its own, as a user starts it, for a `with` block."""

    def __init__(
        self,
        *flags: str,
        env: Mapping[str, str] | None = None,
        verify: ssl.SSLContext | bool = True,
        before: str = "pass",
        within: Sequence[str] = (),
    ) -> None:
        """`verify` is how httpx checks the server's certificate. `before` is Python code to run first, for faults that
        cannot be caused from outside. `within` is a command that wraps the program."""
        self._verify = verify
        program = f"{before}\nfrom cli.main import main; main()"
        arguments, environment = ["serve", "--port", "0", *flags], os.environ | dict(env or {})
        self.process: Fork | subprocess.Popen[str]
        if within:
            command = [*within, sys.executable, "-c", program, *arguments]
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        else:
            self.process = Fork(program, arguments, environment)
        self.log = ""
        self._reader = threading.Thread(target=self._read_log)
        self._reader.start()

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log += line

    def __enter__(self) -> "Server":
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                self._reader.join()
                raise RuntimeError(f"the server stopped: {self.log}")
            if (address := re.search(r"on (https?)://([\d.]+):(\d+)", self.log)) and self._is_ready(address[0][3:]):
                self.scheme, self.host, self.port = address[1], address[2], int(address[3])
                return self
            time.sleep(0.02)
        self.__exit__()
        raise RuntimeError(f"the server did not become ready: {self.log}")

    def _is_ready(self, url: str) -> bool:
        try:
            return httpx.get(f"{url}/readyz", verify=self._verify).status_code == 200
        except httpx.TransportError:
            return False

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=10)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends the signal and returns the exit code, which must come within 20 s."""
        self.process.send_signal(number)
        code = self.process.wait(timeout=20)
        self._reader.join()
        return code

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()
