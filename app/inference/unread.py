"""How long requests may have waited at their sockets before the event loop read them."""

import asyncio
from collections.abc import Callable
from time import monotonic

# A loop that did nothing for so long had looked at its sockets meanwhile.
IDLE_S = 1e-3
# Between two looks at its sockets a loop that is well does not compute for longer.
MAX_TURN_S = 0.1


class Unread:
    """The turns of the event loop in which requests are read, of all queues of a process.

    In a turn the loop looks at its sockets, reads whatever is there, and then calls what `call_soon` was given. While
    a busy loop reads, refuses, computes and answers, requests wait unseen: what is found came since the look before.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        # How many there were.
        self.number = 0
        # Whether requests are being read in this turn, and whether this turn or the last was such a one.
        self._is_reading = self.is_busy = False
        # When this turn's first request was read, and that of the turn before.
        self._looked_at = self._looked_before = 0.0
        self._busy_at = 0.0
        # When the last runs began.
        self._ran_at = 0.0

    def age_s(self) -> float:
        """How long a request that is read now may have waited at its socket, at most."""
        now = self._clock()
        if not self._is_reading:
            was_idle = not self.is_busy and now - self._busy_at > IDLE_S
            self._looked_before, self._looked_at = now if was_idle else self._looked_at, now
            self._is_reading = self.is_busy = True
            self.number += 1
            asyncio.get_running_loop().call_soon(self._end)
        return now - self._looked_before

    def went_on(self, began: float, until: float) -> None:
        """The loop has computed something; `began` is alike for runs in a row."""
        if began > self._ran_at and (self._looked_at < self._ran_at or began - self._looked_at > MAX_TURN_S):
            # Whatever it read for this came to an empty queue, so that nobody asked for its age.
            self._looked_at = began
        self._ran_at, self._busy_at = began, until

    def _end(self) -> None:
        self._is_reading = False
        asyncio.get_running_loop().call_soon(self._passed, self.number)

    def _passed(self, number: int) -> None:
        """A turn after the end."""
        self._busy_at = self._clock()
        self.is_busy = self.number != number
