import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.bench.load import Condition, due_times, parse_condition, summarise

MILLISECONDS = np.arange(1, 101) / 1000


def test_a_summary_says_percentiles_rates_and_what_was_late():
    summary = summarise(MILLISECONDS, {"503": 2}, seconds=2.0, rows_each=64, deadline_s=0.0905)
    assert summary.requests == 102
    assert summary.requests_per_second == 51
    assert summary.rows_per_second == 3200
    assert summary.latency_ms["p50"] == pytest.approx(50.5)
    assert summary.latency_ms["max"] == pytest.approx(100)
    assert summary.late == 10 + 2
    assert summary.value("errors") == pytest.approx(100 * 2 / 102)


def test_no_answer_at_all_is_no_latency_below_any_limit():
    summary = summarise(np.array([]), {"ConnectError": 5}, 1.0, 1, 0.016)
    assert parse_condition("p50>1000s").holds(summary)
    assert summary.value("errors") == 100
    assert json.dumps(summary.as_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("p99>16.67ms", Condition("p99", ">", 16.67)),
        ("p50 >= 0.5s", Condition("p50", ">=", 500)),
        ("errors>0%", Condition("errors", ">", 0)),
        ("late > 1", Condition("late", ">", 1)),
    ],
)
def test_a_condition_is_read_with_its_unit(text, expected):
    assert parse_condition(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p99", "is no condition; write one like"),
        ("p98>3ms", "'p98' in 'p98>3ms' is not measured; there is p50"),
        ("errors>3ms", "'ms' in 'errors>3ms' does not fit errors, which is in %"),
        ("p50>1.2.3ms", "'1.2.3' in 'p50>1.2.3ms' is no number"),
    ],
)
def test_a_bad_condition_is_explained(text, message):
    with pytest.raises(ValueError, match=message):
        parse_condition(text)


@given(st.integers(1, 50), st.floats(1, 240), st.floats(0.1, 5))
def test_bots_are_a_frame_apart_and_out_of_step(bots, hz, seconds):
    due = due_times(bots, hz, seconds)
    assert len(due) == bots
    for times in due:
        assert len(times) == max(1, round(seconds * hz))
        np.testing.assert_allclose(np.diff(times), 1 / hz)
    first = [times[0] for times in due]
    assert first == sorted(first)
    assert first[-1] < 1 / hz
