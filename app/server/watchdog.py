"""Ends a process whose event loop has stopped, or whose batch threads do not return from their runs.

`app.service.Service.beat` records a heartbeat in the shared counters. A thread in the same process watches it, and ends
the process with the stacks of all threads in the log; if not even that thread gets to run, the parent of the workers
kills the process.
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
# Looks in a row without a heartbeat until a process ends itself, and until its parent kills it.
MAX_STILL_LOOKS = 50
MAX_STILL_LOOKS_OF_PARENT = 75
# Exit code; EX_SOFTWARE of sysexits.h.
HUNG_EXIT_CODE = 70


class Pulse:
    """The heartbeat of the process that writes to the sheet. It is counted in looks, not in seconds, so that a pause of
    the whole machine kills nobody."""

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet
        self._turned_at = 0.0
        self._still_looks = 0

    def still_looks(self) -> int:
        """Looks once more: how many looks in a row found no new heartbeat; 0 before the first one."""
        turned_at = self._sheet.turned_at
        self._still_looks = self._still_looks + 1 if turned_at and turned_at == self._turned_at else 0
        self._turned_at = turned_at
        return self._still_looks


def watch_over(sheet: Sheet) -> None:
    """Ends this process if it hangs; the parent or the orchestrator starts another."""
    threading.Thread(target=_watch, args=(Pulse(sheet),), name="watchdog", daemon=True).start()


def _watch(pulse: Pulse) -> None:
    while pulse.still_looks() < MAX_STILL_LOOKS:
        sleep(LOOK_EVERY_S)
    seconds = MAX_STILL_LOOKS * LOOK_EVERY_S
    message = "nothing has moved for %.0f s, so this process ends; it stands here:"
    logger.critical(message, seconds, extra={"below": _stacks()})
    os._exit(HUNG_EXIT_CODE)


def _stacks() -> str:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames()
    del frames[threading.get_ident()]
    stacks = (
        f"{names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}" for ident, frame in frames.items()
    )
    return "\n".join(stacks)
