"""How large a run pays, and which runs are too short to be worth a thread: measured when a model is loaded."""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Run = Callable[..., Array]  # arrays [B, …], alike in B → [B, D]

SWEEP_ROWS = (1, 2, 4, 8, 16, 32, 64)
# What a hop to a thread and back costs, and four times that: what the event loop can spare.
HOP_S = 0.1e-3
INLINE_S = 0.4e-3
# Half a frame at 60 Hz: whoever comes while a run is on waits for its end.
LONGEST_RUN_S = 8e-3


@dataclass(frozen=True)
class Pace:
    """At most `max_rows` go into one run; runs of up to `inline_rows` stay on the event loop."""

    max_rows: int
    inline_rows: int = 0
    measured_s: dict[int, float] = field(default_factory=dict)  # rows of a run → its seconds

    def __str__(self) -> str:
        times = ", ".join(f"{rows}: {seconds * 1e3:.2f} ms" for rows, seconds in self.measured_s.items())
        return f"at most {self.max_rows} rows a run, up to {self.inline_rows} on the event loop ({times})"


def measure_pace(run: Run, samples: tuple[Array, ...], *, max_rows: int = 0, budget_s: float = 0.15) -> Pace:
    """Tries growing runs made of `samples` ([n, …] each) until the budget is spent; `max_rows` 0 chooses the limit."""
    measured: dict[int, float] = {}
    ends_at = perf_counter() + budget_s
    for rows in SWEEP_ROWS:
        feeds = tuple(np.resize(array, (rows, *array.shape[1:])) for array in samples)
        measured[rows] = min(_seconds(run, feeds) for _ in range(3))
        # The next size takes about twice as long, three times.
        if perf_counter() + 6 * measured[rows] > ends_at:
            break
    limit = max_rows or choose_max_rows(measured)
    return Pace(limit, min(limit, inline_rows(measured)), measured)


def choose_max_rows(measured: dict[int, float]) -> int:
    """The smallest run within a tenth of the best rows/s, among those that are over in time."""
    in_time = {rows: seconds for rows, seconds in measured.items() if seconds <= LONGEST_RUN_S} or {1: measured[1]}
    rates = {rows: rows / (seconds + HOP_S) for rows, seconds in in_time.items()}
    return next(rows for rows, rate in rates.items() if rate >= 0.9 * max(rates.values()))


def inline_rows(measured: dict[int, float]) -> int:
    return max((rows for rows, seconds in measured.items() if seconds <= INLINE_S), default=0)


def _seconds(run: Run, feeds: tuple[Array, ...]) -> float:
    started = perf_counter()
    run(*feeds)
    return perf_counter() - started
