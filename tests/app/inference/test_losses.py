import numpy as np
import pytest

from app.inference.losses import smooth_l1


def test_smooth_l1_is_square_near_and_linear_far() -> None:
    zeros = np.zeros((1, 2), np.float32)
    assert smooth_l1(zeros, np.array([[0.5, 0.5]], np.float32)) == pytest.approx(0.125)
    assert smooth_l1(zeros, np.array([[3, -3]], np.float32)) == pytest.approx(2.5)
    assert np.isfinite(smooth_l1(np.array([[-3.4e38]], np.float32), np.array([[3.4e38]], np.float32))).all()
