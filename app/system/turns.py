"""What a connection sends ahead waits here for its turn, so that nobody's flood holds up the others."""

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic

MAX_STARTS_A_TURN = 16
MAX_TURN_S = 2e-3


class Turns:
    """Of a process: whoever has more to do than is its due in one turn of the event loop. Each turn goes on with a few
    of them, in the order in which they came, and takes the sockets of all others in between."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], bool]] = deque()
        self._is_due = False

    def wait(self, go_on: Callable[[], bool]) -> None:
        """Calls `go_on` in a later turn. It returns whether most of what it started is still to be done, in which case
        it was the last of its turn."""
        self._waiting.append(go_on)
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    async def pause(self) -> None:
        """Lets others have their turn, for whoever has more to do within one request."""
        turn = asyncio.get_running_loop().create_future()

        def go_on() -> bool:
            if not turn.done():
                turn.set_result(None)
            return True

        self.wait(go_on)
        await turn

    def _turn(self) -> None:
        until = monotonic() + MAX_TURN_S
        try:
            for _ in range(min(MAX_STARTS_A_TURN, len(self._waiting))):
                if self._waiting.popleft()() or monotonic() > until:
                    break
        finally:
            self._is_due = bool(self._waiting)
            if self._is_due:
                asyncio.get_running_loop().call_soon(self._turn)
