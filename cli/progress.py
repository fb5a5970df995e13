"""Shows how far long work is and how long it will take."""

import time

from rich.console import Console

from model.training.bars import duration as duration
from model.training.bars import progress_bar

# In a log, progress is first printed after this time, and then at this interval.
FIRST_REPORT_S, REPORT_INTERVAL_S = 1, 10


class Meter:
    """Shows progress: a bar on a terminal, else a line with the time left after one second and every ten seconds."""

    def __init__(self, console: Console, total: int, unit: str) -> None:
        self._console, self._total, self._unit = console, total, unit
        self._bar = progress_bar(console, unit)
        self._task = self._bar.add_task(unit, total=total)
        self._started = time.monotonic()
        self._next_report = self._started + FIRST_REPORT_S

    def __enter__(self) -> "Meter":
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def at(self, done: int) -> None:
        """Reports that `done` units of the total are finished."""
        self._bar.update(self._task, completed=done)
        now = time.monotonic()
        if done and now >= self._next_report and not self._console.is_terminal:
            left = (now - self._started) / done * (self._total - done)
            self._console.print(f"{done:,} of {self._total:,} {self._unit}, about {left:.0f} s left")
            self._next_report = now + REPORT_INTERVAL_S
