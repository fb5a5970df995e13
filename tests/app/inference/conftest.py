import asyncio
from collections.abc import Iterator

import pytest

from app.inference.batch_limits import BatchLimits
from app.inference.batcher import Batcher
from app.inference.threads import BatchThreads
from app.system.streams import Streams
from tests.support.fakes import FakeGraph, rows_from


@pytest.fixture
def threads() -> Iterator[BatchThreads]:
    threads = BatchThreads(1)
    yield threads
    threads.close()


@pytest.fixture
def graph() -> Iterator[FakeGraph]:
    graph = FakeGraph()
    yield graph
    graph.release()


def threaded(graph: FakeGraph, threads: BatchThreads, max_rows: int = 8, max_queue_rows: int = 1000) -> Batcher:
    return Batcher(graph.run, BatchLimits(max_rows), threads, Streams(), max_queue_rows=max_queue_rows)


def inline(graph: FakeGraph, threads: BatchThreads, max_rows: int = 8) -> Batcher:
    return Batcher(graph.run, BatchLimits(max_rows, inline_rows=max_rows), threads, Streams(), max_queue_rows=1000)


async def until_running(graph: FakeGraph) -> None:
    while not graph.started.is_set():
        await asyncio.sleep(0.001)


async def busy(graph: FakeGraph, batcher: Batcher) -> "asyncio.Task[object]":
    """A request that holds the only thread until `graph.release()`."""
    graph.hold()
    task = asyncio.create_task(batcher.submit(rows_from(9000, 1)))
    await until_running(graph)
    return task


async def until_queued() -> None:
    """Tasks that were just made submit in the next turn of the loop, and are dispatched in the one after."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
