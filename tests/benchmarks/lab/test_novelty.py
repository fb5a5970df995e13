import numpy as np

from benchmarks.lab.novelty import known_games, means, summary, swaps_found, told_apart
from bundle.reader import read_bundle
from bundle.schema import Schema
from model.data.frames import Frames
from tests.support.bundles import TinyModel

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


def test_swaps_of_columns_that_hang_together_are_found_and_named_by_the_quantiles_of_other_games(tmp_path):
    tiny = TinyModel(heads=True)
    rows = tiny.rows(9600) * np.float32(0.1)
    # Each column hangs together with a column of the other half; two never differ.
    rows[:, 5:] = rows[:, :5] * np.arange(3, 8, dtype=np.float32) + 1
    rows[:, [0, 5]] = 0
    frames = Frames(rows, Schema.of(tuple(map(str, range(10))), {}), np.repeat(np.arange(8), 1200))
    bundle = read_bundle(tiny.write(tmp_path))
    halves = list(swaps_found(bundle, frames, np.arange(4800), np.arange(4800, 9600), 40))
    assert [len(half.changed) for half in halves] == [20, 20]
    assert [len(half.usual_columns) for half in halves] == [40, 40]
    for half in halves:
        assert (half.columns[half.changed] >= 99).all()
        assert all(named is not None and named.columns for named in half.named)
        assert (half.usual_columns < 99).all()
    lines = list(summary(halves))
    assert lines[0] == "40 swaps, of which 40 change a frame"
    assert "columns of 99 or more: 40 of these, and 0.00% of usual stretches" in lines
    assert lines[-1].endswith("one of the two is named: 40")
