"""How many rows a run takes, and which runs are too short to be worth a thread: measured when a model is loaded."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import thread_time

import numpy as np

from app.rows import Array, Run

SWEEP_ROWS = (1, 2, 4, 8, 16, 32, 64)
# What a run costs besides computing its rows: gathering them and handing out the answers.
HANDLING_S = 0.02e-3
# How long a run may block an event loop that feeds several batch threads: four times what it takes to hand the run to a
# thread and to hear back. While the loop is blocked it can give no thread its next run.
MAX_INLINE_RUN_S = 0.4e-3
# The same with one batch thread. A quarter of a frame at 60 Hz: meanwhile the loop can read no request, but a thread of
# its own would only take the core from it, and no row would be answered sooner.
MAX_LOOP_BLOCK_S = 4e-3
# How long a run of several rows may take. Half a frame at 60 Hz, as whoever comes while a run is on waits for its end.
MAX_BATCH_S = 8e-3


@dataclass(frozen=True)
class BatchLimits:
    """At most `max_rows` go into one run; runs of up to `inline_rows` are computed on the event loop itself."""

    max_rows: int
    inline_rows: int = 0
    # Rows of a run → the seconds it took.
    measured_s: dict[int, float] = field(default_factory=dict)

    def with_threads(self, batch_threads: int) -> "BatchLimits":
        """The limits of a process that has so many batch threads."""
        limit_s = MAX_LOOP_BLOCK_S if batch_threads == 1 else MAX_INLINE_RUN_S
        return replace(self, inline_rows=min(self.max_rows, choose_inline_rows(self.measured_s, limit_s)))

    @property
    def row_s(self) -> float:
        """Seconds that a row takes in the best of the runs that may be."""
        return min(seconds / rows for rows, seconds in self.measured_s.items() if rows <= self.max_rows)

    def __str__(self) -> str:
        times = ", ".join(f"{rows}: {seconds * 1e3:.2f} ms" for rows, seconds in self.measured_s.items())
        return f"at most {self.max_rows} rows a run, up to {self.inline_rows} on the event loop ({times})"


def measure_limits(
    run: Run,
    samples: tuple[Array, ...],
    *,
    max_rows: int = 0,
    budget_s: float = 0.15,
    clock: Callable[[], float] = thread_time,
) -> BatchLimits:
    """Tries growing runs made of `samples` ([n, …] each) until the budget is spent; `max_rows` 0 chooses the limit.

    The CPU time of this thread does not grow with what else the machine does, but leaves out the work of other threads.
    """

    def seconds(feeds: tuple[Array, ...]) -> float:
        started = clock()
        run(*feeds)
        return clock() - started

    measured: dict[int, float] = {}
    ends_at = clock() + budget_s
    for rows in SWEEP_ROWS:
        feeds = tuple(np.resize(array, (rows, *array.shape[1:])) for array in samples)
        measured[rows] = min(seconds(feeds) for _ in range(5 if rows <= 8 else 3))
        # The next size takes about twice as long and is tried three times.
        if clock() + 6 * measured[rows] > ends_at:
            break
    return BatchLimits(max_rows or choose_max_rows(measured), 0, measured)


def choose_max_rows(measured_s: dict[int, float]) -> int:
    """The smallest run within a twentieth of the best rows/s, among those that are over in time."""
    in_time = {rows: seconds for rows, seconds in measured_s.items() if seconds <= MAX_BATCH_S} or {1: measured_s[1]}
    rates = {rows: rows / (seconds + HANDLING_S) for rows, seconds in in_time.items()}
    return next(rows for rows, rate in rates.items() if rate >= 0.95 * max(rates.values()))


def choose_inline_rows(measured_s: dict[int, float], limit_s: float) -> int:
    """The largest run that was over within the limit; 0 if none was."""
    return max((rows for rows, seconds in measured_s.items() if seconds <= limit_s), default=0)
