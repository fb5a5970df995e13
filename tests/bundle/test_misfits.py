import numpy as np
import pytest

from bundle.column_novelty import ColumnNovelty
from bundle.misfits import MAX_NAMED, Misfits, misfits


def frames(count: int, seed: int) -> np.ndarray:
    """Places and speeds of two players, how far they are apart, a wall's distance from each, a flag, a column that
    never changes, noise."""
    rng = np.random.default_rng(seed)
    own, opponent, speed, other_speed, noise = rng.normal(size=(5, count))
    rows = [
        5 * own,
        2 * speed,
        5 * opponent,
        other_speed,
        5 * own - 5 * opponent,
        10 * own + 2 * speed,
        5 * opponent - 3 * other_speed,
        own > 0,
        np.full(count, 7),
        noise,
    ]
    return (np.stack(rows, axis=1) + 0.001 * rng.normal(size=(count, 10)) * (np.arange(10) < 7)).astype(np.float32)


@pytest.fixture(scope="module")
def measure() -> ColumnNovelty:
    found = ColumnNovelty.fit(frames(6000, 0), frames(3000, 1), 101)
    assert found is not None
    return found


def odd(measure: ColumnNovelty, rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = rows[measure.oddity(rows) > measure.quantiles[99]]
    return found[:16]


@pytest.mark.parametrize("pair", [(0, 1), (0, 2), (1, 3), (2, 4), (3, 7), (4, 6), (5, 6), (0, 9)])
def test_two_columns_that_changed_places_are_told(measure: ColumnNovelty, pair: tuple[int, int]) -> None:
    rows = frames(200, 2)
    rows[:, pair] = rows[:, pair[::-1]]
    assert misfits(measure, odd(measure, rows)).swap == pair


@pytest.mark.parametrize("column", [0, 2, 4, 5, 6])
def test_a_column_in_other_units_is_named_before_those_that_it_spoils(measure: ColumnNovelty, column: int) -> None:
    rows = frames(200, 3)
    rows[:, column] *= 100
    found = misfits(measure, odd(measure, rows))
    assert found.columns[0] == column
    assert found.swap is None


def test_columns_that_are_all_shuffled_are_named_up_to_the_most(measure: ColumnNovelty) -> None:
    rows = np.random.default_rng(4).permuted(frames(200, 4), axis=0)
    assert len(misfits(measure, odd(measure, rows)).columns) == MAX_NAMED


def test_numbers_of_any_size_and_columns_that_never_changed_are_judged(measure: ColumnNovelty) -> None:
    rows = np.full((3, 10), 3e38, np.float32)
    assert misfits(measure, rows).swap is None
    still = ColumnNovelty.fit(np.ones((30, 3), np.float32), np.ones((30, 3), np.float32), 101)
    assert still is not None
    assert misfits(still, np.full((2, 3), 9, np.float32)) == Misfits((), (0, 1))
