import numpy as np

from benchmarks.lab.novelty import known_games, means, told_apart
from bundle.schema import Schema
from model.data.frames import Frames

GAMES, LENGTH = 12, 700


def test_means_are_of_full_stretches_within_a_game():
    games = np.repeat([4, 7], [5, 4])
    np.testing.assert_array_equal(means(np.arange(9, dtype=np.float32), games, 2), [0.5, 2.5, 5.5, 7.5])


def test_a_class_that_lies_elsewhere_is_told_apart_and_one_that_does_not_is_not():
    rng = np.random.default_rng(0)
    games = np.repeat(np.arange(GAMES), LENGTH)
    classes = np.select([games < 2, games < 4], [1, 2], 0)
    embeddings = rng.normal(size=(len(games), 6)).astype(np.float32)
    embeddings[classes == 1, 2] += 5
    found = dict(told_apart(embeddings, classes, games, games < 8))
    assert found[1] > 0.99
    assert 0.1 < found[2] < 0.9


def test_games_with_a_class_that_training_lacks_are_none_of_the_known():
    labels = {"char": np.array([1, 1, 2, 2, 1, 3]), "stage": np.array([0, 0, 0, 0, 5, 0])}
    episode = np.array([0, 0, 1, 1, 2, 3])
    frames = Frames(np.zeros((6, 1), np.float32), Schema.of(("x",), {}), episode, labels=labels)
    np.testing.assert_array_equal(known_games(frames, np.array([0, 2]), np.array([1, 3, 4, 5])), [1, 3])
