import numpy as np
import pytest

from app.inference.losses import percentiles, smooth_l1


def test_smooth_l1_is_square_near_and_linear_far() -> None:
    zeros = np.zeros((1, 2), np.float32)
    assert smooth_l1(zeros, np.array([[0.5, 0.5]], np.float32)) == pytest.approx(0.125)
    assert smooth_l1(zeros, np.array([[3, -3]], np.float32)) == pytest.approx(2.5)
    assert np.isfinite(smooth_l1(np.array([[-3.4e38]], np.float32), np.array([[3.4e38]], np.float32))).all()


def test_a_percentile_is_the_place_of_a_loss_among_those_held_out() -> None:
    quantiles = [i / 50 for i in range(101)]
    losses = np.array([0, 0.99, 1, 2, 3e38], np.float32)
    found = percentiles(losses, quantiles)
    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [0, 49.5, 50, 100, 100], rtol=1e-6)
    assert percentiles(losses, None) is None
