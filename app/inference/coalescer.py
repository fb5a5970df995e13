"""When a run waits for more requests, so that clients which ask again at the same moment share it."""

import os
from collections.abc import Callable
from time import monotonic

from app.inference.batch_limits import BatchLimits

# A turn of the event loop that took longer is not waited for twice.
MAX_LOOK_S = 2e-3
# How long a run waits for clients that were answered together: as a share of what a lone row takes, and at most.
PATIENCE = 0.5
MAX_PATIENCE_S = 0.5e-3
# Clients that have not asked again so soon after their answers are not waited for.
SOON_S = 2e-3


class Coalescer:
    """Follows the requests that come to a queue, turn by turn of the event loop.

    Environments that step together, and load generators, ask again as soon as they are answered. Their requests reach
    the sockets one after another, so that the first would have a run to itself while the others wait for the next. A
    lone row costs as much as several that share a run, so the run is put off until they are here, or soon after.
    """

    def __init__(self, limits: BatchLimits, clock: Callable[[], float] = monotonic) -> None:
        self._max_rows, self._clock = limits.max_rows, clock
        self._patience_s = min(PATIENCE * limits.measured_s.get(1, 0.0), MAX_PATIENCE_S)
        # Requests of this turn, and of the last turn in which any came; when the first of this turn did.
        self.arrivals = self._last_arrivals = 0
        self._arrived_at = 0.0
        # Whether the run was put off at the end of the last turn, because several requests had come in it.
        self._looks_again = False
        # Clients that one run answered and that have not asked again; until when they are expected to.
        self._expected, self._expected_until = 0, 0.0

    def arrived(self, at: float) -> None:
        """A request was put into the queue."""
        self.arrivals += 1
        if self.arrivals == 1:
            self._arrived_at = at
        if self._expected:
            self._expected -= 1

    def answered(self, requests: int) -> None:
        """A run answered so many requests."""
        if requests > 1:
            self._expected, self._expected_until = requests, self._clock() + SOON_S

    @property
    def expects_none(self) -> bool:
        """Whether requests come one at a time, so that there is no point in waiting for the end of the turn."""
        return self.arrivals == self._last_arrivals == 1 and not self._expects_some(self._arrived_at)

    def puts_off(self, rows: int, waits_since: float) -> bool:
        """At the end of a turn: whether so many rows, the first of which have waited since then, wait for another turn
        of the loop, which may bring more."""
        now, arrivals, self.arrivals = self._clock(), self.arrivals, 0
        self._last_arrivals = arrivals or self._last_arrivals
        # While the requests of this turn were read, others may have reached their sockets.
        came_together = arrivals > 1 or (arrivals and self._looks_again)
        has_room = rows < self._max_rows
        self._looks_again = bool(came_together and has_room and now - self._arrived_at < MAX_LOOK_S)
        if self._looks_again:
            return True
        waits = has_room and self._expects_some(now) and now - waits_since < self._patience_s
        if waits and hasattr(os, "sched_yield"):
            # The clients may run on this core.
            os.sched_yield()
        return waits

    def _expects_some(self, now: float) -> bool:
        return self._expected > 0 and now < self._expected_until
