import numpy as np
import pytest

from bundle import columns
from bundle.columns import (
    DEAD_STD,
    MAX_SHARE_OUTSIDE,
    MIN_STILL_ROWS,
    STATISTICS,
    TrainingColumns,
    column_statistics,
    findings,
    statistics_of_parts,
)

# Of six columns: kinds of number that differ, one that never changed, and one that never changed from a tenth.
MEAN = np.array([0, 100, 5, -3e4, 7, 0.1])
STD = np.array([1, 10, 0.1, 500, 0, 0])


def rows(count=4000, seed=0):
    drawn = np.random.default_rng(seed).normal(MEAN, STD, (count, 6))
    return np.clip(drawn, MEAN - 3 * STD, MEAN + 3 * STD).astype(np.float32)


@pytest.fixture
def training():
    return TrainingColumns(column_statistics(rows()))


def found(training, came):
    return [(one.column, one.kind) for one in findings(training, training.summarise(came))]


def test_statistics_leave_out_numbers_that_are_not_there():
    parts = [np.random.default_rng(i).normal(i, 1 + i, (40, 3)).astype(np.float32) for i in range(3)]
    parts[1][::2, 0] = np.nan
    parts[2][:, 1] = np.nan
    whole = np.concatenate(parts)
    found = statistics_of_parts(parts)
    for name, of in (("mean", np.nanmean), ("std", np.nanstd), ("min", np.nanmin), ("max", np.nanmax)):
        np.testing.assert_allclose(found[name], of(whole.astype(np.float64), 0), rtol=1e-6)
    nothing = statistics_of_parts([np.full((2, 1), np.nan, np.float32)])
    assert all(values.tolist() == [0] for values in nothing.values())


def test_statistics_are_those_of_each_column():
    statistics = column_statistics(np.array([[1, 5], [3, 5]], np.float32))
    assert tuple(statistics) == STATISTICS
    assert {name: values.tolist() for name, values in statistics.items()} == {
        "mean": [2, 5],
        "std": [1, 0],
        "min": [1, 5],
        "max": [3, 5],
    }
    assert all(values.dtype == np.float32 for values in statistics.values())


def test_a_summary_is_what_numpy_says_of_all_rows_at_once(training, monkeypatch):
    monkeypatch.setattr(columns, "ROWS_AT_ONCE", 700)
    came = rows(seed=1) * np.float32(1.5)
    summary = training.summarise(came)
    assert summary.rows == 4000
    np.testing.assert_allclose(summary.mean, came.mean(0, dtype=np.float64), rtol=1e-9)
    np.testing.assert_allclose(summary.std, came.std(0, dtype=np.float64), rtol=1e-6, atol=1e-6)
    known = column_statistics(rows())
    margin = 0.05 * (known["max"] - known["min"])
    beyond = (came < known["min"] - margin) | (came > known["max"] + margin)
    np.testing.assert_allclose(summary.share_outside[:4], beyond.mean(0)[:4])
    assert 0 < summary.share_outside[0] < 1


def test_counts_of_batches_add_up(training):
    came = rows(seed=1)
    added = training.count(came[:1000]) + training.count(came[1000:])
    np.testing.assert_allclose(added, training.count(came), rtol=1e-12)


def test_other_rows_of_the_same_games_are_like_training(training):
    assert found(training, rows(seed=1)) == []


def test_no_rows_are_not_odd(training):
    assert found(training, rows()[:0]) == []


def test_a_column_is_outside_when_more_than_one_row_in_a_hundred_is(training):
    came = rows(seed=1)
    few = int(MAX_SHARE_OUTSIDE * len(came))
    came[:few, 0] = 50
    assert found(training, came) == []
    came[: few + 1, 0] = 50
    assert found(training, came) == [(0, "outside")]


def test_a_column_is_still_only_over_enough_rows_and_whatever_its_size(training):
    came = rows(seed=1)
    came[:, 0], came[:, 3] = 0.7, -30123.457
    assert found(training, came[:MIN_STILL_ROWS]) == [(0, "still"), (3, "still")]
    assert found(training, came[: MIN_STILL_ROWS - 1]) == []
    came[0, 0] = 0.8
    assert found(training, came) == [(3, "still")]


def test_a_column_that_was_dead_wakes_when_it_changes_or_stands_elsewhere(training):
    came = rows(seed=1)
    came[::2, 4] = 8
    assert found(training, came) == [(4, "woken")]
    came[:, 4] = 8
    assert found(training, came) == [(4, "woken")]
    came[:, 4] = 7 + DEAD_STD / 2
    assert found(training, came) == []


@pytest.mark.parametrize("value", [0.1, -0.3, 123456.789, 1 / 3])
def test_a_dead_column_is_not_woken_by_the_seven_digits_of_bundle_json(value):
    came = np.full((2000, 1), value, np.float32)
    written = {name: [float(f"{v:.7g}") for v in values] for name, values in column_statistics(came).items()}
    assert found(TrainingColumns(written), came) == []


def test_columns_that_changed_places_name_each_other_and_a_dead_one_is_never_named(training):
    came = rows(seed=1)
    came[:, [1, 2]] = came[:, [2, 1]]
    came[:, 0] = 7 + rows(seed=2)[:, 0] / 100
    assert [(one.column, one.kind, one.looks_like) for one in findings(training, training.summarise(came))] == [
        (0, "outside", None),
        (1, "outside", 2),
        (2, "outside", 1),
    ]


def test_a_single_number_out_of_all_proportion_changes_nothing(training):
    came = rows(seed=1)
    came[7] = 3e38
    assert found(training, came) == []
    assert np.isfinite(training.summarise(came).std).all()


@pytest.mark.parametrize("lost", STATISTICS)
def test_statistics_that_are_not_whole_are_not_compared(lost):
    whole = {name: values.tolist() for name, values in column_statistics(rows()).items()}
    assert TrainingColumns.of(whole, 6) is not None
    assert TrainingColumns.of(whole, 5) is None
    assert TrainingColumns.of(whole | {lost: whole[lost][:-1]}, 6) is None
    del whole[lost]
    assert TrainingColumns.of(whole, 6) is None
    assert TrainingColumns.of({}, 6) is None
