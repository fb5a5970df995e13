"""Sends a bot's frames over a WebSocket that stays open, and reopens it for the next frame if it was closed.

A frame whose answer was lost is not resent, since by then there is a newer one.
"""

import asyncio
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Self

from numpy.typing import ArrayLike

from jepa_client.errors import JepaError
from jepa_client.frames import Frames, Received
from jepa_client.inputs import Inputs
from jepa_client.processes import PerLoop, PerProcess
from jepa_client.rows import Rows

try:
    from websockets.asyncio.client import ClientConnection as AsyncConnection
    from websockets.asyncio.client import connect as connect_async
    from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
    from websockets.protocol import State
    from websockets.sync.client import ClientConnection, connect
except ImportError as error:
    raise ImportError("a stream needs websockets; install it with: pip install 'websockets>=17'") from error


class Stream:
    """The stream that `JepaClient.stream` returns; only one thread at a time may use it."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._held = PerProcess(_Held)

    def __reduce__(self) -> tuple[type[Self], tuple[Frames]]:
        # Another process opens a connection of its own.
        return type(self), (self._frames,)

    def embed(self, features: ArrayLike) -> Rows:
        """[D] or [B, D] → embeddings, [E] or [B, E]. After any JepaError the stream still takes the next frame."""
        return self._ask("embed", features)

    def predict(self, features: ArrayLike, *, actions: Inputs | None = None, horizon: float | None = None) -> Rows:
        """[D] or [B, D] → predicted embeddings, [E] or [B, E]. `actions` as for JepaClient.predict, of at most as many
        frames as the stream was opened for; `horizon` is the stream's."""
        self._frames.check_horizon(horizon)
        return self._ask("predict", features, actions)

    def forecast(self, features: ArrayLike, *, actions: Inputs | None = None) -> Rows:
        """[D] or [B, D] → values of the heads, [O] or [B, O], in the order of the model's `heads` in `model()`; where
        novelty was asked for, it is the last number of each row."""
        return self._ask("forecast", features, actions)

    def _ask(self, answer: str, features: ArrayLike, actions: Inputs | None = None) -> Rows:
        number, shape, message = self._frames.message(features, answer, actions)
        deadline = monotonic() + self._frames.timeout
        with _as_jepa_errors(self._frames):
            connection = self._open(deadline)
            self._frames.check(shape)
            # A service that stopped reading would otherwise hold this thread for ever. Receiving has a thread of its
            # own, which waits for bytes before it reads them.
            connection.socket.settimeout(_left(deadline))
            connection.send(message)
            received = self._receive(connection, deadline)
            # Skip late answers to frames that timed out.
            while received.number != number:
                received = self._receive(connection, deadline)
        return received.rows(shape)

    def _receive(self, connection: ClientConnection, deadline: float) -> Received:
        message = connection.recv(_left(deadline))
        try:
            return self._frames.read(message)
        except JepaError:
            self._drop()
            raise

    def _open(self, deadline: float) -> ClientConnection:
        held = self._held.get()
        if held.connection is None or held.connection.state is not State.OPEN:
            self._drop()
            held.connection = connect(**self._frames.connecting(), open_timeout=_left(deadline)).__enter__()
            self._frames.opened(_headers(held.connection))
        return held.connection

    def _drop(self) -> None:
        """Ends the connection without the exchange that closes one properly, which takes time."""
        held = self._held.get()
        if held.connection is not None:
            with suppress(OSError):
                held.connection.socket.shutdown(socket.SHUT_RDWR)
            held.connection = None

    def close(self) -> None:
        held = self._held.get()
        if held.connection is not None:
            held.connection.close()
            held.connection = None

    def __enter__(self) -> Self:
        with _as_jepa_errors(self._frames):
            self._open(monotonic() + self._frames.timeout)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Held:
    """The connection of a Stream, if it is open."""

    def __init__(self) -> None:
        self.connection: ClientConnection | None = None


class AsyncStream:
    """The stream that `AsyncJepaClient.stream` returns. Tasks may share it: a newer frame replaces one still waiting,
    which raises Superseded. Each event loop has a connection of its own."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._held = PerLoop(_HeldLink)

    def __reduce__(self) -> tuple[type[Self], tuple[Frames]]:
        return type(self), (self._frames,)

    async def embed(self, features: ArrayLike) -> Rows:
        return await self._ask("embed", features)

    async def predict(
        self, features: ArrayLike, *, actions: Inputs | None = None, horizon: float | None = None
    ) -> Rows:
        self._frames.check_horizon(horizon)
        return await self._ask("predict", features, actions)

    async def forecast(self, features: ArrayLike, *, actions: Inputs | None = None) -> Rows:
        return await self._ask("forecast", features, actions)

    async def _ask(self, answer: str, features: ArrayLike, actions: Inputs | None = None) -> Rows:
        number, shape, message = self._frames.message(features, answer, actions)
        with _as_jepa_errors(self._frames):
            async with asyncio.timeout(self._frames.timeout):
                link = await self._open()
                self._frames.check(shape)
                received = await link.ask(number, message)
        return received.rows(shape)

    async def _open(self) -> "_Link":
        held = self._held.get()
        async with held.opening:
            if held.link is None or not held.link.is_open():
                connection = await connect_async(**self._frames.connecting(), open_timeout=None)
                self._frames.opened(_headers(connection))
                held.link = _Link(self._frames, connection)
            return held.link

    async def aclose(self) -> None:
        held = self._held.get()
        if held.link is not None:
            link, held.link = held.link, None
            await link.close()

    async def __aenter__(self) -> Self:
        with _as_jepa_errors(self._frames):
            async with asyncio.timeout(self._frames.timeout):
                await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class _HeldLink:
    """The connection of an AsyncStream in one event loop, if it is open."""

    def __init__(self) -> None:
        self.link: _Link | None = None
        self.opening = asyncio.Lock()


class _Link:
    """One connection and the frames that await an answer on it."""

    def __init__(self, frames: Frames, connection: AsyncConnection) -> None:
        self._frames = frames
        self.connection = connection
        self._waiting: dict[int, asyncio.Future[Received]] = {}
        self._reading = asyncio.create_task(self._read())

    def is_open(self) -> bool:
        return self.connection.state is State.OPEN and not self._reading.done()

    async def ask(self, number: int, message: bytes) -> Received:
        answer: asyncio.Future[Received] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            await self._send(message)
            return await answer
        finally:
            del self._waiting[number]

    async def _send(self, message: bytes) -> None:
        try:
            await self.connection.send(message)
        except asyncio.CancelledError:
            # The service does not read: what it has not read would pile up in memory with each frame.
            self.connection.transport.abort()
            raise

    async def close(self) -> None:
        await self.connection.close()
        await self._reading

    async def _read(self) -> None:
        try:
            while True:
                received = self._frames.read(await self.connection.recv())
                self._answer(received.number, received)
        except ConnectionClosed as closed:
            self._fail(_ended(self._frames, closed))
        except JepaError as odd:
            self._fail(odd)
            self.connection.transport.abort()

    def _fail(self, error: JepaError) -> None:
        for number in self._waiting:
            self._answer(number, Received(number, error))

    def _answer(self, number: int, answer: Received) -> None:
        waiting = self._waiting.get(number)
        # Otherwise the caller gave up on this frame.
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)


@contextmanager
def _as_jepa_errors(frames: Frames) -> Iterator[None]:
    """Turns exceptions of websockets into JepaErrors."""
    try:
        yield
    except TimeoutError:
        raise frames.too_late() from None
    except InvalidStatus as refused:
        answer = refused.response
        raise frames.refused(answer.status_code, dict(answer.headers.raw_items()), bytes(answer.body)) from None
    except ConnectionClosed as closed:
        if isinstance(closed.__cause__, TimeoutError):
            # The frame could not be sent in time.
            raise frames.too_late() from None
        raise _ended(frames, closed) from closed
    except (OSError, WebSocketException) as failure:
        raise frames.unreachable(failure) from None


def _headers(connection: ClientConnection | AsyncConnection) -> Mapping[str, str]:
    """Those of the answer to the handshake."""
    assert connection.response is not None
    return connection.response.headers


def _left(deadline: float) -> float:
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _ended(frames: Frames, closed: ConnectionClosed) -> JepaError:
    return frames.ended(*((1006, "") if closed.rcvd is None else (closed.rcvd.code, closed.rcvd.reason)))
