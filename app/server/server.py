"""uvicorn's server, for connections that come from a source: a listening socket, or the channel from the parent.

uvicorn gives TLS no time limits, counts a connection only once it speaks TLS, and waits at the end for whoever does not
hang up. This server does none of that.
"""

import asyncio
import logging
import socket
from collections.abc import Iterator
from time import monotonic
from types import FrameType
from typing import Protocol

import uvicorn

from app.errors import TooManyConnections
from app.server.protocol import FrontDoor
from app.server.stream import Stream
from app.service import Service
from app.settings import MAX_HANDSHAKE_S

logger = logging.getLogger("app.serve")

# How long a peer may take to confirm that its TLS connection is closed.
MAX_TLS_SHUTDOWN_S = 1.0
# Pause after a failed accept, so that an error which lasts is not retried and logged in a loop.
ACCEPT_PAUSE_S = 0.1
# When the service stops: how long a connection may stay that is owed no answer, whatever its peer does; how long if a
# request is still arriving; and how often all are looked at.
MAX_FAREWELL_S = 0.4
MAX_ARRIVAL_S = 0.6
LOOK_EVERY_S = 0.05


class Source(Protocol):
    """Where connections come from."""

    def begin(self) -> None: ...

    def fileno(self) -> int: ...

    def arrived(self) -> Iterator[socket.socket]:
        """Those that wait; raises OSError where one cannot be taken, and EOFError once no more will come."""

    def close(self) -> None: ...


class Listener:
    """A source: a socket that listens already."""

    def __init__(self, listener: socket.socket) -> None:
        self._socket = listener

    def begin(self) -> None:
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def arrived(self) -> Iterator[socket.socket]:
        while True:
            try:
                connection, _ = self._socket.accept()
            except BlockingIOError:
                return
            yield connection

    def close(self) -> None:
        self._socket.close()


class Server(uvicorn.Server):
    """Serves an app of `app.main.create_app`."""

    def __init__(self, config: uvicorn.Config, source: Source) -> None:
        super().__init__(config)
        self._source = source
        self._takes = False
        # Connections that do not speak yet; over TLS they shake hands meanwhile.
        self._connecting: set[asyncio.Task[None]] = set()

    # Taking connections

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets or [])
        self._loop = asyncio.get_running_loop()
        self._service: Service = self.config.loaded_app.state.service
        self._source.begin()
        self._takes = True
        self._loop.add_reader(self._source.fileno(), self._take)

    def _take(self) -> None:
        """Takes every waiting connection at once: taking one per turn, a loaded loop would keep a burst waiting."""
        try:
            for connection in self._source.arrived():
                self._receive(connection)
        except EOFError:
            self.should_exit = True
            self._loop.remove_reader(self._source.fileno())
        # The client has gone already, or there are too many open files.
        except OSError as error:
            logger.warning("a connection could not be accepted: %s", error)
            self._loop.remove_reader(self._source.fileno())
            self._loop.call_later(ACCEPT_PAUSE_S, self._take_again)

    def _take_again(self) -> None:
        if self._takes:
            self._loop.add_reader(self._source.fileno(), self._take)

    def _take_last(self) -> None:
        """Takes what has arrived, and nothing after that."""
        if self._takes:
            self._takes = False
            self._take()
            self._loop.remove_reader(self._source.fileno())
            self._source.close()

    def _receive(self, connection: socket.socket) -> None:
        taken = len(self.server_state.connections) + len(self._connecting)
        if self.config.ssl is not None and taken >= self._service.max_connections:
            # A refusal in words would have to shake hands first, which costs more than most requests.
            connection.close()
            self._service.telemetry.count_rejection(TooManyConnections("every connection is taken"))
            self._service.telemetry.connections_closed.add()
            return
        task = self._loop.create_task(self._connect(connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: socket.socket) -> None:
        telemetry = self._service.telemetry
        # The front door counts a connection from when it speaks.
        telemetry.connections.add()
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.config.ssl is None:
                await self._loop.connect_accepted_socket(self._protocol, connection)
            else:
                await self._loop.connect_accepted_socket(
                    self._protocol,
                    connection,
                    ssl=self.config.ssl,
                    ssl_handshake_timeout=MAX_HANDSHAKE_S,
                    ssl_shutdown_timeout=MAX_TLS_SHUTDOWN_S,
                )
        # uvloop raises a RuntimeError for a connection that its peer has reset already.
        except (OSError, RuntimeError) as error:
            logger.debug("a connection ended before it spoke: %s", error or type(error).__name__)
            connection.close()
            telemetry.connections_closed.add()
        finally:
            telemetry.connections.add(-1)

    def _protocol(self) -> FrontDoor:
        return FrontDoor(self.config, self.server_state, self.lifespan.state, self._loop)

    # Ending

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal handler. It stops accepting at once; uvicorn does so up to 0.1 s later."""
        super().handle_exit(sig, frame)
        if self.started:
            self._loop.call_soon_threadsafe(self._take_last)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Unless a signal has done so already.
        self._service.drain()
        self._take_last()
        for task in self._connecting:
            task.cancel()
        ending = asyncio.create_task(self._end_whoever_stays())
        await super().shutdown(sockets)
        ending.cancel()

    async def _end_whoever_stays(self) -> None:
        """Until cancelled: aborts connections that are owed no answer and do not end, since their peers read nothing,
        have sent half a request, or do not confirm the end."""
        # Since when a connection has been owed nothing; from the beginning, unless it is found to be owed something.
        since: dict[FrontDoor | Stream, float] = {}
        while True:
            now = monotonic()
            for connection in [*self.server_state.connections]:
                assert isinstance(connection, FrontDoor | Stream)
                limit_s = MAX_FAREWELL_S if connection.receiving_since is None else MAX_ARRIVAL_S
                if connection.is_owed:
                    since[connection] = now
                elif now - since.get(connection, self._service.drained_at) >= limit_s:
                    connection.transport.abort()
            await asyncio.sleep(LOOK_EVERY_S)
