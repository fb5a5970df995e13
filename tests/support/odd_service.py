"""Programs behind a socket that answer as jepa-serve never does."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Behave = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
BINARY_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
# Far less than the timeouts of the tests, so that no single read takes too long.
DRIP_S = 0.01


@asynccontextmanager
async def odd_service(behave: Behave) -> AsyncIterator[str]:
    """Serves each connection by `behave`, and yields the URL."""
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        with suppress(OSError, asyncio.CancelledError, asyncio.IncompleteReadError):
            await behave(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections)


async def _drip(writer: asyncio.StreamWriter, part: bytes) -> None:
    while True:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(DRIP_S)


async def drips_a_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(BINARY_HEAD + b"Content-Length: 100000\r\n\r\n")
    await _drip(writer, b"\0")


async def drips_a_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(BINARY_HEAD + b"X-Drip: ")
    await _drip(writer, b"a")


async def goes_on_saying_continue(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    await _drip(writer, b"HTTP/1.1 100 Continue\r\n\r\n")


async def answers_without_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(BINARY_HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    size = 1 << 20
    while True:
        writer.write(b"%x\r\n" % size + bytes(size) + b"\r\n")
        await writer.drain()


async def answers_compressed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    body = gzip.compress(bytes(16))
    writer.write(BINARY_HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
