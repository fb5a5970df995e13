"""A bot that hands its clients to other processes: `python -m tests.support.handed_client URL METHOD ROWS`.

By a client, a stream, and both of asyncio it asks for the embedding of the first row of an .npy file. Then it hands all
four to two processes that multiprocessing starts by METHOD (fork, spawn, forkserver), which ask for the next two rows,
and at last it asks for the last row itself. It prints the embeddings, [kind, row].
"""

import asyncio
import json
import multiprocessing
import sys
from typing import Any

import numpy as np

from jepa_client import AsyncJepaClient, JepaClient


async def _once(asked: Any, row: Any) -> Any:
    embedding = await asked.embed(row)
    await asked.aclose()
    return embedding


def embeddings(clients: list[Any], row: Any) -> list[list[float]]:
    """One by each of them; the connection of an asyncio client ends with its event loop."""
    blocking, of_asyncio = clients[:2], clients[2:]
    found = [asked.embed(row) for asked in blocking] + [asyncio.run(_once(asked, row)) for asked in of_asyncio]
    return [embedding.tolist() for embedding in found]


def tell(clients: list[Any], row: Any, to: Any) -> None:
    to.put(embeddings(clients, row))
    for asked in clients[:2]:
        asked.close()


def main(url: str, method: str, rows: Any) -> None:
    context: Any = multiprocessing.get_context(method)
    client, client_async = JepaClient(url), AsyncJepaClient(url)
    clients = [client, client.stream(), client_async, client_async.stream()]
    answers, told = [embeddings(clients, rows[0])], []
    for row in rows[1:-1]:
        queue = context.SimpleQueue()
        child = context.Process(target=tell, args=(clients, row, queue))
        child.start()
        told.append((child, queue))
    answers += [queue.get() for _, queue in told]
    for child, _ in told:
        child.join()
        assert child.exitcode == 0
    answers.append(embeddings(clients, rows[-1]))
    print(json.dumps([*zip(*answers, strict=True)]))


if __name__ == "__main__":
    url, method, file = sys.argv[1:]
    main(url, method, np.load(file))
