"""A forward proxy, as a company has one: it relays plain HTTP request by request, and opens tunnels for all else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Proxy:
    """Every host is a port of this machine, whatever its name."""

    def __init__(self, to: int, refusal: bytes = b"") -> None:
        """`refusal` is what every request is answered with, if it is not empty."""
        # What it was asked for, in lower case.
        self.heads: list[str] = []
        self._to, self._refusal = to, refusal

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, to_service = there = await asyncio.open_connection("127.0.0.1", self._to)
        back = asyncio.create_task(_pump(there[0], writer))
        with suppress(OSError, EOFError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.heads.append(head.lower())
                if self._refusal:
                    writer.write(self._refusal)
                elif head.startswith("CONNECT "):
                    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    await _pump(reader, to_service)
                else:
                    await self._relay(head, reader, to_service)
        to_service.close()
        await back
        writer.close()

    async def _relay(self, head: str, reader: asyncio.StreamReader, to_service: asyncio.StreamWriter) -> None:
        method, _, rest = head.partition(" http://")
        to_service.write(f"{method} /{rest.partition('/')[2]}".encode())
        length = head.lower().partition("content-length: ")[2].partition("\r\n")[0]
        to_service.write(await reader.readexactly(int(length or 0)))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
