"""Work that may never end, such as loading a bundle: each in a thread of its own, which nobody has to wait for.

A volume may hang, and a graph may loop. Python cannot end a thread, so one that is past its limit is given up: what
ONNX Runtime does for it is stopped, its outcome is dropped, and it no longer counts as under way. A thread that does
not come back even so takes one of MAX_LOADS places.
"""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event, RLock, Thread
from time import monotonic
from typing import Generic, TypeVar

from app.errors import Draining, NotReady
from app.inference.sessions import Stop, current_stop
from app.repository.loading import Loaded, Loader, Stamp
from bundle.folders import BundleError

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Threads that load at the same time, given up or not.
MAX_LOADS = 4
# How long the end of the process waits for threads that were told to stop.
MAX_FAREWELL_S = 0.5


class Load(Generic[T]):
    """One piece of work, in a thread that has begun."""

    def __init__(self, about: str, work: Callable[[], T]) -> None:
        """`about` says what is loaded, for logs."""
        self.about, self.began = about, monotonic()
        self._stop = Stop()
        self._over, self._lock = Event(), RLock()
        self._callbacks: list[Callable[[], None]] = []
        self._outcome: T | Exception
        # A daemon, so that Python does not wait for it at the end.
        self._thread = Thread(target=self._run, args=(work,), name=f"load {about}", daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], T]) -> None:
        current_stop.set(self._stop)
        try:
            self._settle(work())
        except Exception as error:
            self._settle(error)

    def _settle(self, outcome: T | Exception) -> bool:
        # The lock may be taken again by a signal's handler, within the same thread.
        with self._lock:
            if self._over.is_set():
                return False
            self._outcome = outcome
            self._over.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
        return True

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    @property
    def is_stuck(self) -> bool:
        """Whether it was given up and has not come back."""
        return self.is_over and self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def seconds(self) -> float:
        return monotonic() - self.began

    def wait(self, timeout_s: float) -> bool:
        """Whether it is over by then."""
        return self._over.wait(max(0.0, timeout_s))

    def join(self, timeout_s: float) -> None:
        self._thread.join(max(0.0, timeout_s))

    def give_up(self, error: Exception) -> None:
        """Its outcome is this error, unless it is over already."""
        if self._settle(error):
            self._stop.set()

    def when_over(self, callback: Callable[[], None]) -> None:
        """Calls back once, in any thread."""
        with self._lock:
            if not self.is_over:
                self._callbacks.append(callback)
                return
        callback()

    def result(self) -> T:
        """What the work returned, or raises what it raised; once, and only when it is over."""
        outcome = self._outcome
        # An error holds all that was read until it was raised, and would hold itself by way of this load and this call.
        del self._outcome
        if not isinstance(outcome, Exception):
            return outcome
        try:
            raise outcome
        finally:
            del outcome


class Loads:
    """The loads of this process."""

    def __init__(self, limit_s: float) -> None:
        """`limit_s` is how long each may take."""
        self.limit_s = float(limit_s)
        self._loads: list[Load[object]] = []
        self._lock = RLock()
        self._is_closed = False
        # Why nothing can be loaded at the moment, in words.
        self._trouble: str | None = None

    def begin(self, about: str, work: Callable[[], T]) -> Load[T]:
        """NotReady where too many are under way or do not come back."""
        with self._lock:
            self._check_open()
            self._loads = [load for load in self._loads if load.is_alive]
            if len(self._loads) >= MAX_LOADS:
                under_way = ", ".join(f"{load.about} for {load.seconds:.0f} s" for load in self._loads)
                raise NotReady(f"no more than {MAX_LOADS} models are loaded at once, and these are: {under_way}")
            load = Load(about, work)
            self._loads.append(load)  # type: ignore[arg-type]
        if self._is_closed:
            # By a signal's handler, between the look above and the list that it goes through.
            self.close()
        return load

    def begin_apart(self, about: str, work: Callable[[], T]) -> Load[T]:
        """As `begin`, but takes no place; the caller never begins a second one while the first is alive."""
        with self._lock:
            self._check_open()
            return Load(about, work)

    def _check_open(self) -> None:
        if self._is_closed:
            raise Draining("the service is draining, and loads no more models; send this to another replica")

    def too_slow(self, about: str) -> str:
        """Why a load that reached the limit is given up."""
        return f"{about} was not loaded within {self.limit_s:g} s, the limit that JEPA_LOAD_TIMEOUT_S sets"

    @property
    def stuck(self) -> list[Load[object]]:
        """Those that were given up and have not come back."""
        return [load for load in self._loads if load.is_stuck]

    def be_in_trouble(self, trouble: str | None) -> None:
        """Notes and logs why nothing can be loaded, or that there is no such reason any more."""
        if trouble is not None and self._trouble is None:
            logger.error("%s", trouble)
        self._trouble = trouble

    @property
    def are_blocked(self) -> bool:
        return self._trouble is not None

    @property
    def troubles(self) -> list[str]:
        """What is wrong, one sentence each, for those who may not know the names of models; the log says more."""
        blocked = "models cannot be loaded at the moment; those that are served go on, and the log says why"
        hung = f"{len(self.stuck)} loads do not end; the log says which, and a restart would end them"
        return [text for text, holds in ((blocked, self.are_blocked), (hung, self.stuck)) if holds]

    def close(self) -> None:
        """Gives up all there are, and begins no more; a signal's handler may call it."""
        self._is_closed = True
        for load in self._loads:
            load.give_up(Draining("the service is draining, and the model was not loaded by then"))

    def have_ended(self) -> bool:
        """After `close`: whether no thread is left; it is granted a moment."""
        ends_at = monotonic() + MAX_FAREWELL_S
        for load in self._loads:
            load.join(ends_at - monotonic())
        return not any(load.is_alive for load in self._loads)


class BundleLoads:
    """Loads of bundles, each begun by one look at the models folder and found over by the same look or a later one."""

    def __init__(self, loads: Loads, loader: Loader, models: Path) -> None:
        self._loads, self._loader, self._models = loads, loader, models
        self._under_way: dict[Path, tuple[Stamp, Load[Loaded]]] = {}

    def load(self, folder: Path, stamp: Stamp, ends_at: float) -> Loaded | None:
        """The bundle, or None where it is not loaded by `ends_at` (`time.monotonic`); a later call finds it. None is
        begun after that moment. Raises BundleError, and NotReady where there is no place for a load."""
        known, load = self._under_way.get(folder, ((), None))
        if load is None or known != stamp:
            if monotonic() >= ends_at:
                return None
            self._give_up(folder)
            load = self._loads.begin(str(folder.relative_to(self._models)), partial(self._loader.load, folder))
            self._under_way[folder] = stamp, load
            # One that an earlier call began was waited for by then, and others are to have their turn.
            load.wait(min(self._loads.limit_s, ends_at - monotonic()))
        if load.seconds >= self._loads.limit_s:
            load.give_up(BundleError(self._loads.too_slow(str(folder))))
        if not load.is_over:
            return None
        del self._under_way[folder]
        return load.result()

    def give_up_all_but(self, folders: set[Path]) -> None:
        for folder in self._under_way.keys() - folders:
            self._give_up(folder)

    def _give_up(self, folder: Path) -> None:
        if (found := self._under_way.pop(folder, None)) is not None:
            load = found[1]
            load.give_up(BundleError(f"{folder} is not wanted any more"))
            logger.error("gave up loading %s after %.1f s: it changed, or is not wanted any more", folder, load.seconds)
