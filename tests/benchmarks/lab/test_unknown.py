import numpy as np

from benchmarks.lab.unknown import games_with
from bundle.schema import Schema
from model.data.frames import Frames


def test_a_game_is_left_out_whole_if_any_of_its_rows_has_the_class():
    labels = {"stage": np.array([1, 1, 2, -1, 2, 1])}
    frames = Frames(np.zeros((6, 1), np.float32), Schema.of(("x",), {}), np.array([0, 0, 1, 1, 2, 2]), labels=labels)
    assert games_with(frames, "stage", 2).tolist() == [False, False, True, True, True, True]
