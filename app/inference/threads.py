"""The threads that run batches, which all queues of a process share."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any, TypeVar

T = TypeVar("T")


class BatchThreads:
    """Handed out in turn, by the event loop; none is started before it has something to run."""

    def __init__(self, count: int) -> None:
        self.count = self._free = count
        # Queues that wait for a thread, called in turn.
        self._line: deque[Callable[[], None]] = deque()
        # The runs that are on and when they began, the oldest first.
        self._began: dict[asyncio.Future[Any], float] = {}
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="batch")

    def acquire(self, call_when_free: Callable[[], None]) -> bool:
        """Takes a thread if one is free; otherwise `call_when_free` is called, once, when one may be."""
        if self._free:
            self._free -= 1
            return True
        if call_when_free not in self._line:
            self._line.append(call_when_free)
        return False

    def run(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        running = asyncio.get_running_loop().run_in_executor(self._executor, work)
        self._began[running] = monotonic()
        return running

    def release(self, running: "asyncio.Future[Any] | None" = None) -> None:
        """Gives a thread back, after what it ran."""
        if running is not None:
            del self._began[running]
        self._free += 1
        # Whoever is called may have nothing left to run, and then the next in line is.
        while self._free and self._line:
            self._line.popleft()()

    @property
    def longest_run_s(self) -> float:
        """How long the oldest of the runs that are on has been so."""
        return monotonic() - next(iter(self._began.values())) if self._began else 0.0

    async def try_thread(self) -> None:
        """Waits in line for a thread, and until that has done nothing at all."""
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        running = None

        def take() -> None:
            if not mine.done() and self.acquire(take):
                mine.set_result(None)

        take()
        try:
            await mine
            running = self.run(int)
            await running
        finally:
            if not mine.cancelled():
                self.release(running)

    def close(self) -> None:
        self._executor.shutdown()
