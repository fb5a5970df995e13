"""What processes and event loops must not share."""

import asyncio
import os
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Connections of this process alone, made anew in a forked child: two processes that read from one socket would get
    each other's answers."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        # One tuple, since two threads of a child may ask at once.
        self._held = (os.getpid(), make())

    def get(self) -> T:
        pid, held = self._held
        if pid != os.getpid():
            # The parent's are dropped but not closed: their locks may be held by threads that the child does not have,
            # and a WebSocket that is closed says so to the service.
            held = self._make()
            self._held = (os.getpid(), held)
        return held


class PerLoop(Generic[T]):
    """Connections of this process and the running event loop alone, which cannot be used once it has ended, as after
    each `asyncio.run`."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._loops = PerProcess[WeakKeyDictionary[asyncio.AbstractEventLoop, T]](WeakKeyDictionary)

    def get(self) -> T:
        loops, loop = self._loops.get(), asyncio.get_running_loop()
        if loop not in loops:
            # Connections hold the loop that they were made in, which would therefore never be freed, nor would they.
            # A list of references is made at once, while another thread may add a loop of its own.
            for reference in loops.keyrefs():
                if (held := reference()) is not None and held.is_closed():
                    loops.pop(held, None)
            loops[loop] = self._make()
        return loops[loop]
