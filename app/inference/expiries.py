"""The deadlines of the jobs of one queue, on one timer: a timer a job costs as much as all else that is done for it."""

import asyncio
from collections.abc import Callable
from math import inf
from weakref import WeakMethod

from app.inference.jobs import Job

# The timers of the event loop are of whole milliseconds.
TIMER_S = 1e-3


class Expiries:
    """Calls `expire`, a method, with each job that is added and not removed by its deadline."""

    def __init__(self, expire: Callable[[Job], None], clock: Callable[[], float]) -> None:
        # Whose method it is holds this, and goes as soon as nobody else holds it.
        self._expire, self._clock = WeakMethod(expire), clock
        # Their deadlines.
        self._jobs: dict[Job, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        # When the timer fires; not after the first deadline.
        self._fires_at = inf

    def add(self, job: Job, deadline: float) -> None:
        self._jobs[job] = deadline
        if deadline < self._fires_at:
            self._set(deadline, deadline - job.queued_at)

    def remove(self, job: Job) -> None:
        self._jobs.pop(job, None)

    def _set(self, fires_at: float, in_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires_at = fires_at
        self._timer = asyncio.get_running_loop().call_later(in_s, self._look)

    def _look(self) -> None:
        self._timer, self._fires_at = None, inf
        now, expire = self._clock(), self._expire()
        if expire is None:
            return
        for job in [job for job, deadline in self._jobs.items() if deadline < now + TIMER_S / 2]:
            expire(job)
        if self._jobs:
            first = min(self._jobs.values())
            self._set(first, max(TIMER_S, first - now))
