"""What is computed from where episodes begin and end is what a table of all rows would say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.ranges import Ranges, distinct
from model.data.timeline import Timeline

HORIZONS = (1, 2, 4, 8)


def table(episode, frame, horizon):
    """The row `horizon` frames later by looking at all rows, the first where several are."""
    rows = {}
    for row in reversed(range(len(frame))):
        rows[episode[row], frame[row]] = row
    return [rows.get((one, number + horizon), -1) for one, number in zip(episode, frame, strict=True)]


@st.composite
def recordings(draw):
    """Episodes and frame numbers in order, shuffled, side by side as of several environments, or with repeats."""
    steps = draw(st.lists(st.sampled_from([1, 1, 1, 1, 2, 4, 0]), min_size=1, max_size=60))
    episode = np.sort(draw(st.lists(st.integers(-2, 2), min_size=len(steps), max_size=len(steps))))
    frame = np.cumsum(steps) - draw(st.integers(0, 40))
    order = draw(st.sampled_from(["kept", "shuffled", "interleaved"]))
    if order == "shuffled":
        shuffled = np.array(draw(st.permutations(range(len(steps)))))
        return episode[shuffled], frame[shuffled]
    if order == "interleaved":
        return np.tile(np.arange(3), len(steps))[: len(steps)], np.arange(len(steps)) // 3
    return episode, frame


@settings(deadline=None)
@given(recordings(), st.data())
def test_later_rows_are_those_of_a_table_of_all(recording, data):
    episode, frame = recording
    timeline = Timeline(episode, frame)
    found = [table(episode, frame, horizon) for horizon in HORIZONS]
    for horizon, want in zip(HORIZONS, found, strict=True):
        assert timeline.ahead(np.arange(len(frame)), horizon).tolist() == want
    chosen = np.flatnonzero(data.draw(st.lists(st.booleans(), min_size=len(frame), max_size=len(frame))))
    want = [row for row in chosen.tolist() if all(later[row] >= 0 for later in found)]
    assert timeline.with_later_rows(Ranges.of(chosen), HORIZONS).tolist() == want


@settings(deadline=None)
@given(recordings())
def test_repeats_and_lengths_are_those_of_the_rows_in_order(recording):
    episode, frame = recording
    timeline, order = Timeline(episode, frame), np.lexsort((frame, episode))
    steps = np.where(np.diff(episode[order]) == 0, np.diff(frame[order]), -1)
    assert timeline.stride == (int(np.gcd.reduce(steps[steps > 0])) or 1)
    repeated = timeline.repeated()
    assert (0 if repeated is None else repeated[0]) == (steps == 0).sum()
    assert timeline.episodes.tolist() == np.unique(episode).tolist()
    assert timeline.lengths().tolist() == [np.ptp(frame[episode == one]) for one in timeline.episodes]


def test_a_long_recording_in_order_has_a_run_an_episode_and_a_shuffled_one_hardly_more():
    episode, frame = np.repeat(np.arange(5), 20_000), np.tile(np.arange(0, 80_000, 4), 5)
    assert len(Timeline(episode, frame).first) == 5
    shuffled = np.random.default_rng(0).permutation(len(frame))
    assert len(Timeline(episode[shuffled], frame[shuffled]).first) == 5
    assert len(Timeline(np.tile(np.arange(8), 10_000), np.repeat(np.arange(10_000), 8)).first) == 8


@settings(deadline=None)
@given(st.sets(st.integers(0, 50)), st.sets(st.integers(0, 50)), st.integers(1, 9))
def test_ranges_are_the_rows_that_they_were_made_of(one, other, count):
    rows, others = (Ranges.of(np.array(sorted(each), np.int64)) for each in (one, other))
    assert rows.tolist() == sorted(one)
    assert (rows & others).tolist() == sorted(one & other)
    assert Ranges.joined([rows & others, Ranges.of(np.array(sorted(one - other), np.int64))]).tolist() == sorted(one)
    every = np.arange(51)
    assert [row for part in rows.chunks(count) for row in every[part]] == sorted(one)
    assert rows.where(lambda part: every[part] % 2 == 0).tolist() == [row for row in sorted(one) if row % 2 == 0]
    assert distinct(every // 4, rows).tolist() == sorted({row // 4 for row in one})
    if one:
        assert rows[np.arange(len(rows))[::-1]].tolist() == sorted(one, reverse=True)
        assert {*rows.drawn(3, np.random.default_rng(0)).tolist()} <= one
        assert len({*rows.drawn(3, np.random.default_rng(0)).tolist()}) == min(3, len(one))


@pytest.mark.parametrize("count", [1, 7, 100, 1000])
def test_rows_at_even_distances_begin_with_the_first_and_end_with_the_last(count):
    rows = Ranges.of(np.concatenate([np.arange(10, 60), np.arange(100, 150)])).evenly(count)
    assert len(rows) == min(count, 100)
    assert rows[0] == 10
    assert count == 1 or rows[-1] == 149
