"""A relay in front of a service that injects faults and records the requests."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

# Closes the connection without an answer.
CLOSE = b""
# Resets it.
RESET = b"RST"


def answer(status: int, body: str = "", **headers: str) -> bytes:
    """A response such as the service or a proxy would send."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", body]).encode()


class Relay:
    """Each new connection meets the next of `faults`; after those, connections are forwarded to port `to`."""

    def __init__(self, to: int | None = None, *faults: bytes) -> None:
        # Heads of the requests that met a fault.
        self.heads: list[str] = []
        self.connections = 0
        self._open: list[asyncio.StreamWriter] = []
        self._to = to
        self._faults = list(faults)

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()

    async def cut(self) -> None:
        """Closes all forwarded connections, in both directions."""
        for writer in self._open:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if self._faults:
                await self._break(self._faults.pop(0), reader, writer)
            else:
                from_service, to_service = await asyncio.open_connection("127.0.0.1", self._to)
                self._open += [to_service, writer]
                with suppress(OSError):
                    await asyncio.gather(_pump(reader, to_service), _pump(from_service, writer))
        finally:
            writer.close()

    async def _break(self, fault: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head.lower())
        length = next((line for line in head.lower().splitlines() if line.startswith("content-length:")), ": 0")
        await reader.readexactly(int(length.split(":")[1]))
        if fault == RESET:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            writer.write(fault)
            await writer.drain()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
