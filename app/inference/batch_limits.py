"""How large a run pays, and which runs are too short to be worth a thread: measured when a model is loaded."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import thread_time

import numpy as np

from app.rows import Array, Run

SWEEP_ROWS = (1, 2, 4, 8, 16, 32, 64)
# What a run costs beside its rows: gathering them and handing out the answers.
HANDLING_S = 0.02e-3
# Four times what a hop to a thread and back costs: what an event loop can spare that feeds several threads.
INLINE_S = 0.4e-3
# A quarter of a frame at 60 Hz: the longest that a loop is deaf which has its core to itself. It could answer no row
# meanwhile, but refuse one.
DEAF_S = 4e-3
# Half a frame at 60 Hz: whoever comes while a run is on waits for its end.
LONGEST_RUN_S = 8e-3


@dataclass(frozen=True)
class Pace:
    """At most `max_rows` go into one run; runs of up to `inline_rows` stay on the event loop."""

    max_rows: int
    inline_rows: int = 0
    measured_s: dict[int, float] = field(default_factory=dict)  # rows of a run → its seconds

    def beside(self, threads: int) -> "Pace":
        """The same, for an event loop beside so many threads; beside one it gains nothing by leaving the work to it."""
        limit_s = DEAF_S if threads == 1 else INLINE_S
        return replace(self, inline_rows=min(self.max_rows, inline_rows(self.measured_s, limit_s)))

    def __str__(self) -> str:
        times = ", ".join(f"{rows}: {seconds * 1e3:.2f} ms" for rows, seconds in self.measured_s.items())
        return f"at most {self.max_rows} rows a run, up to {self.inline_rows} on the event loop ({times})"


def measure_pace(
    run: Run,
    samples: tuple[Array, ...],
    *,
    max_rows: int = 0,
    budget_s: float = 0.15,
    clock: Callable[[], float] = thread_time,
) -> Pace:
    """Tries growing runs made of `samples` ([n, …] each) until the budget is spent; `max_rows` 0 chooses the limit.

    The time of this thread is not lengthened by what else the machine does, but leaves out what other threads do.
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
        # The next size takes about twice as long, three times.
        if clock() + 6 * measured[rows] > ends_at:
            break
    return Pace(max_rows or choose_max_rows(measured), 0, measured)


def choose_max_rows(measured: dict[int, float]) -> int:
    """The smallest run within a twentieth of the best rows/s, among those that are over in time."""
    in_time = {rows: seconds for rows, seconds in measured.items() if seconds <= LONGEST_RUN_S} or {1: measured[1]}
    rates = {rows: rows / (seconds + HANDLING_S) for rows, seconds in in_time.items()}
    return next(rows for rows, rate in rates.items() if rate >= 0.95 * max(rates.values()))


def inline_rows(measured: dict[int, float], limit_s: float) -> int:
    return max((rows for rows, seconds in measured.items() if seconds <= limit_s), default=0)
