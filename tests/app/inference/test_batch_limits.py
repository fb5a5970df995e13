import time

import numpy as np
import pytest

from app.inference.batch_limits import (
    MAX_INLINE_RUN_S,
    MAX_LOOP_BLOCK_S,
    BatchLimits,
    choose_inline_rows,
    choose_max_rows,
    measure_limits,
)
from app.rows import Array


@pytest.mark.parametrize(
    ("measured_s", "expected"),
    [
        ({1: 0.001, 2: 0.002, 4: 0.004}, 1),  # nothing gained by company
        ({1: 0.001, 2: 0.0011, 4: 0.0012, 8: 0.0013}, 8),  # nearly free company
        ({1: 0.0018, 2: 0.0025, 4: 0.0040, 8: 0.0079, 16: 0.0157}, 4),  # within a twentieth of the best
        ({1: 0.0018, 2: 0.0025, 4: 0.0043, 8: 0.0090}, 4),  # more would take longer than half a frame
        ({1: 0.020, 2: 0.021}, 1),  # even one row does
    ],
)
def test_the_limit_is_the_smallest_run_that_is_about_as_good_as_any(
    measured_s: dict[int, float], expected: int
) -> None:
    assert choose_max_rows(measured_s) == expected


def test_only_runs_the_event_loop_can_spare_are_inline() -> None:
    assert choose_inline_rows({1: 0.0001, 2: 0.0003, 4: 0.0005}, 0.0004) == 2
    assert choose_inline_rows({1: 0.002}, 0.001) == 0


def test_measuring_stops_at_its_budget_and_obeys_a_limit_that_is_set() -> None:
    tried: list[int] = []

    def run(rows: Array) -> Array:
        tried.append(len(rows))
        time.sleep(0.002 * len(rows))
        return rows

    samples = (np.zeros((3, 5), np.float32),)
    limits = measure_limits(run, samples, max_rows=5, budget_s=0.05, clock=time.perf_counter)
    assert max(tried) < 64
    assert limits.max_rows == 5
    assert limits.measured_s.keys() == set(tried)


def test_a_loop_that_feeds_several_threads_keeps_only_short_runs_to_itself() -> None:
    limits = BatchLimits(
        8, measured_s={1: MAX_INLINE_RUN_S / 2, 4: MAX_INLINE_RUN_S, 8: MAX_LOOP_BLOCK_S, 16: 2 * MAX_LOOP_BLOCK_S}
    )
    assert limits.with_threads(2).inline_rows == 4
    assert limits.with_threads(1).inline_rows == 8
    assert BatchLimits(2, measured_s=limits.measured_s).with_threads(1).inline_rows == 2


def test_a_row_takes_what_it_does_in_the_best_run_that_is_allowed() -> None:
    measured = {1: 0.004, 2: 0.006, 4: 0.008, 8: 0.012}
    assert BatchLimits(4, measured_s=measured).row_s == 0.002
    assert BatchLimits(1, measured_s=measured).row_s == 0.004
