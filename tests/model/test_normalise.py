import numpy as np
import torch

from model.normalise import Normalise


def test_rows_are_standardised_and_clipped():
    normalise = Normalise(np.array([1.0, 10.0]), np.array([2.0, 0.5]))
    torch.testing.assert_close(
        normalise(torch.tensor([[3.0, 10.25], [1.0, 99.0]])), torch.tensor([[1.0, 0.5], [0.0, 5.0]])
    )


def test_a_column_dead_in_training_is_silent():
    normalise = Normalise(np.array([4.0]), np.array([0.0]))
    assert normalise(torch.tensor([[4.0], [-1e9]])).tolist() == [[0.0], [0.0]]
