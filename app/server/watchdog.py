"""Whether a process of the service still lives: its event loop turns, and its batch threads come back from their runs.

Each shows that in the ledger, by `app.service.Service.beat`. A thread beside the loop ends the process where it does
not, with the stacks of all threads in the log; where not even that thread gets a turn, the parent of workers does.
"""

import logging
import os
import sys
import threading
import traceback
from time import sleep

from app.system.counters import Sheet

logger = logging.getLogger("app.serve")

LOOK_EVERY_S = 0.2
STILL_LOOKS = 50  # until a process ends itself
PARENTS_LOOKS = 75  # until its parent does that
STANDS_STILL = 70  # the exit code; EX_SOFTWARE of sysexits.h


class Pulse:
    """Of the process that writes to the sheet. Counted in looks, so that a pause of the whole machine kills nobody."""

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet
        self._turned_at = 0.0
        self._still_looks = 0

    def still_looks(self) -> int:
        """Looks once more: how many in a row have found it where it was; none before it has begun to turn."""
        turned_at = self._sheet.turned_at
        self._still_looks = self._still_looks + 1 if turned_at and turned_at == self._turned_at else 0
        self._turned_at = turned_at
        return self._still_looks


def watch_over(sheet: Sheet) -> None:
    """Ends this process should it stand still; whoever started it, or its orchestrator, starts another."""
    threading.Thread(target=_watch, args=(Pulse(sheet),), name="watchdog", daemon=True).start()


def _watch(pulse: Pulse) -> None:
    while pulse.still_looks() < STILL_LOOKS:
        sleep(LOOK_EVERY_S)
    seconds = STILL_LOOKS * LOOK_EVERY_S
    logger.critical("nothing has moved for %.0f s, so this process ends; it stands here:\n%s", seconds, _stacks())
    os._exit(STANDS_STILL)


def _stacks() -> str:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames()
    del frames[threading.get_ident()]
    stacks = (
        f"{names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}" for ident, frame in frames.items()
    )
    return "\n".join(stacks)
