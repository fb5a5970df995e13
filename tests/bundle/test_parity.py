import numpy as np
import pytest

from bundle.parity import MAX_SHARE, distance, spread


def answers(size: float, mean: float = 0.0, rows: int = 16) -> np.ndarray:
    return np.random.default_rng(0).normal(mean, size, (rows, 32)).astype(np.float32)


@pytest.mark.parametrize(("size", "difference"), [(0.1, 5e-5), (1, 5e-5), (1000, 5e-2)])
def test_rounding_may_grow_with_the_size_of_an_embedding(size: float, difference: float) -> None:
    assert distance(answers(size) + np.float32(difference), answers(size)) < MAX_SHARE


@pytest.mark.parametrize(("size", "difference"), [(0.01, 5e-4), (1, 5e-3), (1000, 5)])
def test_what_is_more_than_rounding_does_not_hold(size: float, difference: float) -> None:
    assert distance(answers(size) + np.float32(difference), answers(size)) > MAX_SHARE


def test_an_error_counts_beside_the_spread_and_not_beside_the_mean() -> None:
    right = answers(1, mean=20)
    assert spread(right) == pytest.approx(1, rel=0.1)
    assert distance(right + 0.5, right) == pytest.approx(0.5 / spread(right))


def test_the_row_that_is_furthest_off_counts() -> None:
    right = answers(1, rows=1000)
    found = right.copy()
    found[700] += 1
    assert distance(found, right) == pytest.approx(1 / spread(right))


@pytest.mark.parametrize("right", [np.full((16, 4), 3, np.float32), np.full((1, 4), 3, np.float32)])
def test_answers_that_are_all_alike_may_round(right: np.ndarray) -> None:
    assert distance(right * np.float32(1 + 5e-7), right) < MAX_SHARE
    assert distance(right * np.float32(1.01), right) > MAX_SHARE


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_not_finite_is_not_near(wrong: float) -> None:
    found = answers(1)
    found[3, 3] = wrong
    assert not distance(found, answers(1)) <= 1e30


def test_zeros_are_near_zeros_and_to_nothing_else() -> None:
    zeros = np.zeros((4, 3), np.float32)
    assert distance(zeros, zeros) == 0
    assert distance(zeros + np.float32(1e-6), zeros) > 1
