"""Keeps the served models as the models folder and the operator want them, in every process of the service alike.

Each process looks by itself, now and then and when it gets a SIGHUP, which the parent passes on. What was asked of one
over HTTP stands on the board, where the others find it when they look.
"""

import asyncio
import logging
import os
import signal
from contextlib import suppress
from time import monotonic_ns

from app.errors import NotReady
from app.repository.registry import HIGHEST, Registry
from app.system.allocator import give_back
from app.system.counters import Ledger

logger = logging.getLogger(__name__)

MAX_SPREAD_S = 30.0
ASK_EVERY_S = 0.02


class Watcher:
    """One thing at a time; the heavy part in a thread, so that the event loop goes on answering."""

    def __init__(self, registry: Registry, ledger: Ledger, every_s: float) -> None:
        self._registry, self._ledger, self._every_s = registry, ledger, every_s
        self._board = registry.board
        self._turn = asyncio.Lock()
        self._asked = asyncio.Event()
        # The parent of the workers or, where none are forked, this process.
        self._parent = os.getpid()

    def open(self) -> None:
        """Before the first request, as a worker may take the place of one that had looked since the fork."""
        if self._every_s or self._board["asked"]:
            began = monotonic_ns()
            self._registry.take(self._registry.look())
            self._board["looked", self._ledger.own] = began

    def look_now(self) -> None:
        self._board["asked"] = 1
        self._asked.set()

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_s or None):
                    await self._asked.wait()
            self._asked.clear()
            async with self._turn:
                await self._look()

    async def _look(self) -> None:
        began = monotonic_ns()
        try:
            changed = self._registry.take(await asyncio.to_thread(self._registry.look))
            self._board["looked", self._ledger.own] = began
        except Exception:
            # Whatever it was, the next look may go well.
            logger.exception("the models could not be looked at")
        else:
            if changed:
                await asyncio.to_thread(give_back)

    async def load(self, name: str, version: int | None) -> None:
        """Serves and pins that version, or serves the highest from now on; done when all processes have done it."""
        async with self._turn:
            loaded = await asyncio.to_thread(self._registry.fetch, name, version)
            self._registry.serve(name, version or HIGHEST, loaded)
            await asyncio.to_thread(give_back)
        await self._spread()

    async def unload(self, name: str) -> None:
        async with self._turn:
            self._registry.unload(name)
            await asyncio.to_thread(give_back)
        await self._spread()

    async def _spread(self) -> None:
        """Has the others look, and waits until they have."""
        if os.getppid() != self._parent:
            return
        self._board["asked"] = 1
        # One clock for all processes.
        asked = monotonic_ns()
        os.kill(self._parent, signal.SIGHUP)
        try:
            async with asyncio.timeout(MAX_SPREAD_S):
                while not self._all_looked(asked):
                    await asyncio.sleep(ASK_EVERY_S)
        except TimeoutError:
            raise NotReady("done in this process, but not yet in all; the others will when they look") from None

    def _all_looked(self, since: int) -> bool:
        sheets = enumerate(self._ledger.sheets)
        return all(self._board["looked", number] >= since for number, sheet in sheets if sheet.pid)
