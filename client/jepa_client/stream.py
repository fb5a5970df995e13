"""Sends a bot's frames over a WebSocket that stays open, and reopens it for the next frame if it was closed.

A frame whose answer was lost is not resent, since by then there is a newer one.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Self

from numpy.typing import ArrayLike

from jepa_client.errors import JepaError
from jepa_client.frames import Frames
from jepa_client.rows import Rows

try:
    from websockets.asyncio.client import ClientConnection as AsyncConnection
    from websockets.asyncio.client import connect as connect_async
    from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
    from websockets.protocol import State
    from websockets.sync.client import ClientConnection, connect
except ImportError as error:
    raise ImportError("a stream needs websockets; install it with: pip install 'jepa-client[stream]'") from error


class Stream:
    """The stream that `JepaClient.stream` returns; only one thread at a time may use it."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._connection: ClientConnection | None = None

    def embed(self, features: ArrayLike) -> Rows:
        """[D] or [B, D] → embeddings, [E] or [B, E]. After any JepaError the stream still takes the next frame."""
        number, rows, message = self._frames.message(features)
        deadline = monotonic() + self._frames.timeout
        with _as_jepa_errors(self._frames):
            connection = self._open(deadline)
            connection.send(message)
            received = connection.recv(max(0.0, deadline - monotonic()))
            # Skip late answers to frames that timed out.
            while self._frames.number_of(received) != number:
                received = connection.recv(max(0.0, deadline - monotonic()))
        return self._frames.read(received, rows)

    def _open(self, deadline: float) -> ClientConnection:
        if self._connection is None or self._connection.state is not State.OPEN:
            self.close()
            left_s = max(1e-3, deadline - monotonic())
            self._connection = connect(**self._frames.connecting(), open_timeout=left_s).__enter__()
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        with _as_jepa_errors(self._frames):
            self._open(monotonic() + self._frames.timeout)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncStream:
    """The stream that `AsyncJepaClient.stream` returns. Tasks may share it: a newer frame replaces one still waiting,
    which raises Superseded."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._link: _Link | None = None
        self._opening = asyncio.Lock()

    async def embed(self, features: ArrayLike) -> Rows:
        number, rows, message = self._frames.message(features)
        with _as_jepa_errors(self._frames):
            async with asyncio.timeout(self._frames.timeout):
                received = await (await self._open()).ask(number, message)
        return self._frames.read(received, rows)

    async def _open(self) -> "_Link":
        async with self._opening:
            if self._link is None or self._link.connection.state is not State.OPEN:
                await self.aclose()
                connection = await connect_async(**self._frames.connecting(), open_timeout=None)
                self._link = _Link(self._frames, connection)
            return self._link

    async def aclose(self) -> None:
        if self._link is not None:
            link, self._link = self._link, None
            await link.connection.close()
            await link.reading

    async def __aenter__(self) -> Self:
        with _as_jepa_errors(self._frames):
            async with asyncio.timeout(self._frames.timeout):
                await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class _Link:
    """One connection and the frames that await an answer on it."""

    def __init__(self, frames: Frames, connection: AsyncConnection) -> None:
        self._frames = frames
        self.connection = connection
        self._waiting: dict[int, asyncio.Future[str | bytes | JepaError]] = {}
        self.reading = asyncio.create_task(self._read())

    async def ask(self, number: int, message: bytes) -> str | bytes:
        answer: asyncio.Future[str | bytes | JepaError] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            await self.connection.send(message)
            received = await answer
        finally:
            del self._waiting[number]
        if isinstance(received, JepaError):
            raise received
        return received

    async def _read(self) -> None:
        try:
            while True:
                received = await self.connection.recv()
                self._answer(self._frames.number_of(received), received)
        except ConnectionClosed as closed:
            for number in self._waiting:
                self._answer(number, _ended(self._frames, closed))

    def _answer(self, number: int, answer: str | bytes | JepaError) -> None:
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
        raise _ended(frames, closed) from closed
    except (OSError, WebSocketException) as failure:
        raise frames.unreachable(failure) from failure


def _ended(frames: Frames, closed: ConnectionClosed) -> JepaError:
    return frames.ended(*((1006, "") if closed.rcvd is None else (closed.rcvd.code, closed.rcvd.reason)))
