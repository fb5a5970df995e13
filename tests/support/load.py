"""Bots that keep sending requests while something happens to the service, and count the outcomes."""

import asyncio
import ssl
import threading
from collections import Counter
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import orjson

from tests.support.bundles import TinyModel
from tests.support.changes import until

TINY = TinyModel()
# An answer that takes longer counts as lost.
MAX_WAIT_S = 30
BINARY, JSON = "application/octet-stream", "application/json"
# The bytes of a request, whether its answer is binary, and the right answer.
Question = tuple[bytes, bool, np.ndarray]


def questions() -> list[Question]:
    made = []
    for seed in range(8):
        rows = TINY.rows(1 + seed % 3, seed)
        for kind, body in ((BINARY, rows.tobytes()), (JSON, orjson.dumps({"features": rows.tolist()}))):
            head = f"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nAccept: {kind}\r\n"
            request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
            made.append((request, kind == BINARY, TINY.encode(rows)))
    return made


class Listening(Protocol):
    """Where a service, or what stands before it, listens."""

    host: str
    port: int


class Load:
    """Runs bots in a thread for a `with` block, each on a connection that it reopens when it is closed.

    answered  correct answers
    refused   answers with other statuses
    cut       requests whose connection closed before the answer
    lost      wrong answers, and requests that got none
    """

    def __init__(self, server: Listening, bots: int = 16, *, trusted: ssl.SSLContext | None = None) -> None:
        """`trusted` is what the certificate of a server that speaks TLS is checked with."""
        self._address, self._bots, self._trusted = (server.host, server.port), bots, trusted
        self.answered = self.cut = self.lost = 0
        self.refused: Counter[int] = Counter()
        self._done = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        self.go_on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done = True
        self._thread.join()

    def go_on(self, requests: int = 200) -> None:
        """Waits until `requests` more were answered."""
        before = self.answered
        until(lambda: self.answered >= before + requests)

    async def _run(self) -> None:
        asked = questions()
        async with asyncio.TaskGroup() as group:
            for bot in range(self._bots):
                group.create_task(self._bot(asked[bot % len(asked) :] + asked[: bot % len(asked)]))

    async def _bot(self, asked: list[Question]) -> None:
        number = 0
        while not self._done:
            try:
                reader, writer = await asyncio.open_connection(*self._address, ssl=self._trusted)
            except OSError:
                await asyncio.sleep(0.01)
                continue
            stays = True
            while stays and not self._done:
                number += 1
                try:
                    async with asyncio.timeout(MAX_WAIT_S):
                        stays = await self._ask(reader, writer, asked[number % len(asked)])
                except (OSError, EOFError):
                    self.cut += 1
                    stays = False
                except TimeoutError:
                    self.lost += 1
                    stays = False
            if self._done:
                # The loop ends, and could not wait for the other side to say goodbye, as TLS wants it.
                writer.transport.abort()
            else:
                writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, question: Question) -> bool:
        """Sends a request and counts its outcome; returns whether the connection stays open."""
        request, is_binary, right = question
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body, status = await reader.readexactly(length), int(head[9:12])
        if status != 200:
            self.refused[status] += 1
        else:
            rows = np.frombuffer(body, "<f4").reshape(right.shape) if is_binary else orjson.loads(body)["embeddings"]
            if np.allclose(rows, right, atol=1e-5):
                self.answered += 1
            else:
                self.lost += 1
        return b"connection: close" not in head
