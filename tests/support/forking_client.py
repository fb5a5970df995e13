"""A bot that forks after its first call: `python -m tests.support.forking_client URL KIND ROWS`.

It asks for the embedding of the first row of an .npy file, then a child for that of the second, then the parent for
that of the third, and prints all three.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

from jepa_client import AsyncJepaClient, JepaClient

Run = Callable[[Awaitable[Any]], Any]


def blocking(url: str, kind: str) -> tuple[Callable[[Any], Any], Callable[[], Any]]:
    """The `embed` and the `close` of a client or a stream."""
    if kind.startswith("async"):
        loop, pid = asyncio.new_event_loop(), os.getpid()

        def run(awaitable: Any) -> Any:
            # A loop cannot be used in a child of the process that made it.
            return loop.run_until_complete(awaitable) if os.getpid() == pid else asyncio.run(awaitable)

        client_async = AsyncJepaClient(url)
        asked: Any = client_async if kind == "async client" else client_async.stream()

        async def embed_and_close(row: Any) -> Any:
            embedding = await asked.embed(row)
            if os.getpid() != pid:
                await asked.aclose()
            return embedding

        return lambda row: run(embed_and_close(row)), lambda: run(asked.aclose())
    client = JepaClient(url)
    both: Any = client if kind == "client" else client.stream()
    return both.embed, both.close


def main(url: str, kind: str, rows: Any) -> None:
    embed, close = blocking(url, kind)
    first = embed(rows[0])
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.write(sending, json.dumps(embed(rows[1]).tolist()).encode())
            if not kind.startswith("async"):
                close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    print(json.dumps([first.tolist(), json.loads(os.read(receiving, 65536)), embed(rows[2]).tolist()]))
    close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], np.load(sys.argv[3]))
