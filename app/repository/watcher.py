"""Keeps the served models as the models folder and the operator want them, in every process of the service alike.

Each process looks by itself, now and then and when it gets a SIGHUP, which the parent passes on. What was asked of one
over HTTP stands on the board, where the others find it when they look.
"""

import asyncio
import logging
import os
import signal
from contextlib import suppress
from functools import partial
from time import monotonic, monotonic_ns
from typing import TypeVar
from weakref import WeakValueDictionary

from app.errors import Draining, ModelRefused, NotReady, cut
from app.repository.loading import Loaded
from app.repository.loads import Load
from app.repository.look import Look
from app.repository.registry import HIGHEST, Registry
from app.system.allocator import give_back
from app.system.counters import Ledger

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_SPREAD_S = 30.0
ASK_EVERY_S = 0.02
# How long a look waits for the bundles that are being loaded, and how soon the next one sees whether they are.
LOOK_PATIENCE_S, LOOK_AGAIN_S = 1.0, 0.25
# The same before the first request of a process.
OPEN_PATIENCE_S = 5.0
FOLDER = "the models folder"


class Watcher:
    """Looks one after the other, each in a thread, so that the event loop goes on answering. What is asked for over
    HTTP does not wait for them: a bundle that takes long, or for ever, holds up nothing but its own model."""

    def __init__(self, registry: Registry, ledger: Ledger, every_s: float) -> None:
        self._registry, self._ledger, self._every_s = registry, ledger, every_s
        self._board = registry.board
        self._asked = asyncio.Event()
        # The look whose outcome was not taken yet, and when it began.
        self._looking: tuple[Load[Look], int] | None = None
        # Models of which this process still has to load a bundle, as the board says.
        self._pending: set[str] = set()
        # Requests to load a model are answered one after the other; this is the one that is being answered.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._fetching: dict[str, Load[object]] = {}
        # The parent of the workers or, where none are forked, this process.
        self._parent = os.getpid()

    def open(self) -> None:
        """Before the first request, as a worker may take the place of one that had looked since the fork."""
        if self._every_s or self._board["asked"]:
            load = self._begin()
            if load.wait(OPEN_PATIENCE_S):
                self._take(load)
            else:
                self._registry.loads.be_in_trouble(f"{FOLDER} has not been read yet; what was read before is served")

    def look_now(self) -> None:
        self._board["asked"] = 1
        self._asked.set()

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s):
                    await self._asked.wait()
            self._asked.clear()
            await self._look()

    @property
    def _pause_s(self) -> float | None:
        return LOOK_AGAIN_S if self._looking or self._registry.pending else self._every_s or None

    def _begin(self) -> Load[Look]:
        load = self._registry.loads.begin_apart(FOLDER, partial(self._registry.look, LOOK_PATIENCE_S))
        self._looking = load, monotonic_ns()
        return load

    async def _look(self) -> None:
        load = self._looking[0] if self._looking else self._begin()
        # What a look waits for loads is no sign that the folder hangs.
        limit_s = self._registry.loads.limit_s + LOOK_PATIENCE_S
        if not await self._is_over(load, limit_s):
            trouble = f"{FOLDER} could not be read for {limit_s:g} s; what is served goes on, and does not change"
            self._registry.loads.be_in_trouble(trouble)
            # Another look would hang as well.
            await self._is_over(load, None)
        if self._take(load):
            await asyncio.to_thread(give_back)

    def _take(self, load: Load[Look]) -> bool:
        """Whether memory may have become free: that of a model that was replaced, or of a bundle that was refused."""
        assert self._looking is not None
        (_, began), self._looking = self._looking, None
        try:
            look = load.result()
            changed = self._registry.take(look)
        except NotReady:
            # The service is draining.
            return False
        except Exception:
            # Whatever it was, the next look may go well.
            logger.exception("the models could not be looked at")
            self._registry.loads.be_in_trouble(f"{FOLDER} could not be looked at; the log says why")
            return False
        for name in self._pending ^ self._registry.pending:
            self._board["pending", self._ledger.own, name] = int(name in self._registry.pending)
        self._pending = self._registry.pending
        self._board["looked", self._ledger.own] = began
        return changed or look.has_read

    async def _is_over(self, load: Load[T], limit_s: float | None) -> bool:
        """Whether it is over within so many seconds; it is waited for without a limit if that is None."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            # The loop is closed if the service has ended meanwhile.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(over.set)

        load.when_over(tell)
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await over.wait()
        return load.is_over

    async def load(self, name: str, version: int | None) -> None:
        """Serves and pins that version, or serves the highest from now on; done when all processes have done it. Raises
        UnknownModel and ModelRefused, and then nothing has changed."""
        async with self._turns.setdefault(name, asyncio.Lock()):
            load = await self._begin_fetch(name, version)
            self._fetching[name] = load  # type: ignore[assignment]
            try:
                await self._is_over(load, self._registry.loads.limit_s)
            finally:
                # Also where the client has left: nobody waits for it.
                del self._fetching[name]
                load.give_up(ModelRefused(self._registry.loads.too_slow(f"model '{cut(name)}'")))
            self._registry.serve(name, version or HIGHEST, load.result())
            await asyncio.to_thread(give_back)
        await self._spread(name)

    async def _begin_fetch(self, name: str, version: int | None) -> Load[Loaded | None]:
        """Waits for a place as long as a load may take, and raises NotReady where there is none."""
        loads, ends_at = self._registry.loads, monotonic() + self._registry.loads.limit_s
        while True:
            try:
                return loads.begin(ascii(cut(name)), partial(self._registry.fetch, name, version))
            except Draining:
                raise
            except NotReady:
                if monotonic() >= ends_at:
                    raise
            await asyncio.sleep(ASK_EVERY_S)

    async def unload(self, name: str) -> None:
        if name in self._fetching:
            self._fetching[name].give_up(ModelRefused(f"model '{cut(name)}' was unloaded before it was loaded"))
        self._registry.unload(name)
        await asyncio.to_thread(give_back)
        await self._spread(name)

    async def _spread(self, name: str) -> None:
        """Has the others look, and waits until they have, and have loaded that model."""
        if os.getppid() != self._parent:
            return
        self._board["asked"] = 1
        # One clock for all processes.
        asked = monotonic_ns()
        os.kill(self._parent, signal.SIGHUP)
        try:
            async with asyncio.timeout(MAX_SPREAD_S):
                while not self._all_did(name, asked):
                    await asyncio.sleep(ASK_EVERY_S)
        except TimeoutError:
            raise NotReady("done in this process, but not yet in all; the others will when they look") from None

    def _all_did(self, name: str, since: int) -> bool:
        numbers = [number for number, sheet in enumerate(self._ledger.sheets) if sheet.pid]
        return all(
            self._board["looked", number] >= since and not self._board["pending", number, name] for number in numbers
        )
