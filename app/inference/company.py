"""Whether a run waits for requests that are about to come, where clients ask again as soon as they are answered."""

import os
from collections.abc import Callable
from time import monotonic

from app.inference.batch_limits import BatchLimits

# A turn of the loop that took longer is not waited for twice.
MAX_LOOK_S = 2e-3
# How long a run waits for clients that are to come back: as a share of what a lone row takes, and at most.
PATIENCE = 0.5
MAX_PATIENCE_S = 0.5e-3
# So soon after their answers they do, or they are not of the kind that asks again at once.
SOON_S = 2e-3


class Company:
    """What came to a queue in the turns of the event loop.

    Clients that were all answered by one run ask again at about the same time: environments that step together, load
    generators. While the requests of one turn are read, others reach their sockets, and whoever is first would have a
    run alone, with all others in the next: two for one, of which the first costs as much as a third of the other.
    """

    def __init__(self, limits: BatchLimits, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._patience_s = min(PATIENCE * limits.measured_s.get(1, 0.0), MAX_PATIENCE_S)
        # Requests of this turn, and of the last turn in which any came; and when the first came.
        self.arrivals = self._last_arrivals = 0
        self._arrived_at = 0.0
        # Whether the run was put off for those of the turn before.
        self._looks_again = False
        # How many were answered together and have not come back, and until when they are waited for.
        self._owed, self._owed_until = 0, 0.0

    def came(self, at: float) -> None:
        """A request is in the queue."""
        self.arrivals += 1
        if self.arrivals == 1:
            self._arrived_at = at
        if self._owed:
            self._owed -= 1

    def left(self, count: int) -> None:
        """So many were answered by one run."""
        if count > 1:
            self._owed, self._owed_until = count, self._clock() + SOON_S

    @property
    def is_unlikely(self) -> bool:
        """Whether requests come one at a time, so that the end of the turn would bring no second one."""
        return self.arrivals == self._last_arrivals == 1 and not self._owed

    def is_near(self, waits_since: float) -> bool:
        """At the end of a turn, with a request that has waited since then at the head of the queue: whether the loop
        looks for others before they run."""
        now, arrivals, self.arrivals = self._clock(), self.arrivals, 0
        self._last_arrivals = arrivals or self._last_arrivals
        # Others may have reached their sockets while those of this turn were read: until it finds none.
        came_with_others = arrivals > 1 or (arrivals and self._looks_again)
        self._looks_again = bool(came_with_others and now - self._arrived_at < MAX_LOOK_S)
        if self._looks_again:
            return True
        is_awaited = bool(self._owed and now < self._owed_until and now - waits_since < self._patience_s)
        if is_awaited and hasattr(os, "sched_yield"):
            # Some of those clients may need this core.
            os.sched_yield()
        return is_awaited
