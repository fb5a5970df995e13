from dataclasses import replace

import numpy as np
import pytest

from bundle.columns import MIN_STILL_ROWS, STATISTICS, column_statistics
from model.data.checks import check_trainable, leaked_labels, repeated_games, training_warnings, unlike_training
from model.data.ranges import Ranges
from tests.support.games import make_games

HORIZONS = (2, 5)


def checked(games, *, horizons=HORIZONS, batch_size=10):
    """What is said of all rows of the games, if they can be trained on."""
    rows, statistics = Ranges.all(len(games)), column_statistics(games.features)
    check_trainable(games, rows, statistics, horizons)
    return training_warnings(games, rows, statistics, horizons, batch_size)


def changed(games, **columns):
    features = games.features.copy()
    for name, values in columns.items():
        features[:, games.schema.names.index(name)] = values
    return replace(games, features=features)


@pytest.fixture
def games():
    """Healthy games: the label that is a copy of a column is gone."""
    return replace(make_games(), labels={})


@pytest.mark.parametrize("ordered", [True, False])
def test_of_healthy_games_there_is_nothing_to_say(ordered):
    assert checked(replace(make_games(ordered=ordered), labels={})) == []


def test_a_single_row_repeated_is_refused(games):
    with pytest.raises(ValueError, match="all 1,200 training rows are the same row, so there is nothing to learn"):
        checked(replace(games, features=np.tile(games.features[:1], (1200, 1))))


def test_mostly_a_single_row_is_named(games):
    features = games.features.copy()
    features[: 1200 * 3 // 4] = features[0]
    (said,) = checked(replace(games, features=features))
    assert said.startswith("75% of the 1,200 training rows are one and the same row; check whether")


def test_a_frame_that_comes_twice_is_refused(games):
    frame = games.frame.copy()
    frame[300] = frame[299]
    with pytest.raises(ValueError, match="1 rows repeat a frame of their episode, first frame 60 of episode 1; give"):
        checked(replace(games, frame=frame))


def test_horizons_that_no_two_frames_are_apart_are_refused(games):
    every_fourth = replace(games, frame=games.frame * 4)
    with pytest.raises(
        ValueError, match="rise by 4 from row to row, and no row is 6 frames after another; choose mult"
    ):
        checked(every_fourth, horizons=(4, 6))
    assert checked(every_fourth, horizons=(4, 32)) == []


def test_missing_frames_are_counted_and_the_first_is_named(games):
    kept = games.take(np.delete(np.arange(1200), [250, 251, 700]))
    (said,) = checked(kept)
    assert said.startswith("frame numbers jump 2 times within 2 training episodes, first from 10 to 13 in episode 1;")


def test_rows_need_not_be_in_order(games):
    assert checked(games.take(np.random.default_rng(0).permutation(1200))) == []


def test_episodes_no_longer_than_the_longest_horizon_are_counted(games):
    short = games.take(np.flatnonzero((games.episode > 1) | (games.frame < -34)))
    (said,) = checked(short)
    assert said.startswith(
        "2 of 6 training episodes are no longer than the longest horizon, 5 frames, and teach nothing (0, 1)"
    )


def test_fewer_rows_than_a_batch_are_told(games):
    (said,) = checked(games, batch_size=4096)
    assert said.startswith("1,200 training rows are fewer than a batch of 4,096: every step sees them all")


def test_columns_that_never_change_are_named(games):
    (said,) = checked(changed(games, time=1.0, own_y=0.0))
    assert said.startswith("2 of 8 columns (own_y, time) never changed in the training rows and are silenced")
    constant = {name: 3.0 for name in games.schema.names if name != "time"}
    said = checked(changed(games, **constant))[0]
    assert said.startswith("7 of 8 columns (own_x, own_y, own_action_id, opp_x, opp_y, …) never changed")


def test_a_label_among_the_features_is_named(games):
    labels = {"y_action": games.features[:, 2].astype(np.int64), "y_up": (games.features[:, 1] > 0).astype(np.int64)}
    (said,) = leaked_labels(replace(games, labels=labels))
    assert said.startswith("the label 'y_action' is among the features too, as 1 of 8 columns (own_action_id): a probe")
    assert checked(replace(games, labels=labels)) == [said]


def test_a_label_is_compared_where_it_is_known_and_changes(games):
    unknown = np.where(np.arange(1200) % 2, games.features[:, 2], -1).astype(np.int64)
    assert len(leaked_labels(replace(games, labels={"y_action": unknown}))) == 1
    assert leaked_labels(replace(changed(games, stage=1.0), labels={"y_won": np.ones(1200, np.int64)})) == []


@pytest.fixture
def statistics(games):
    return {name: values.tolist() for name, values in column_statistics(changed(games, time=0.5).features).items()}


def test_rows_like_those_of_training_are_not_spoken_of(games, statistics):
    names = games.schema.names
    assert unlike_training(changed(games, time=0.5).features, names, statistics) == []
    assert unlike_training(games.features, names, {}) == []
    assert unlike_training(games.features[:0], names, statistics) == []


def test_a_column_that_stopped_changing_is_named_unless_there_are_but_a_few_rows(games, statistics):
    still = changed(games, time=0.5, opp_x=0.0).features
    (said,) = unlike_training(still, games.schema.names, statistics)
    assert said.startswith(
        "1 of 8 columns (opp_x) never changed in these 1,200 rows but did in training; a single game"
    )
    assert unlike_training(still[:50], games.schema.names, statistics) == []
    assert len(unlike_training(still[:MIN_STILL_ROWS], games.schema.names, statistics)) == 1
    assert unlike_training(still[: MIN_STILL_ROWS - 1], games.schema.names, statistics) == []


def test_a_column_that_was_dead_in_training_is_named_when_it_changes(games, statistics):
    (said,) = unlike_training(games.features, games.schema.names, statistics)
    assert said.startswith(
        "1 of 8 columns (time) never changed in training, so the model takes no notice of them, but do"
    )


def test_a_column_that_was_dead_in_training_is_named_when_it_stands_elsewhere(games, statistics):
    assert unlike_training(changed(games, time=0.5).features, games.schema.names, statistics) == []
    (said,) = unlike_training(changed(games, time=0.75).features, games.schema.names, statistics)
    assert said.startswith("1 of 8 columns (time) never changed in training")


def test_a_column_outside_the_range_of_training_is_named_where_the_range_is_known(games, statistics):
    far = changed(games, time=0.5, own_x=np.where(np.arange(1200) < 300, 100.0, games.features[:, 0])).features
    (said,) = unlike_training(far, games.schema.names, statistics)
    assert said.startswith(
        "1 of 8 columns (own_x) lie outside the range of training in over 1% of the rows, own_x in 25% (here -"
    )
    assert "… 100, in training -" in said
    assert unlike_training(far, games.schema.names, {"std": statistics["std"]}) == []
    for lost in STATISTICS:
        known = {name: values for name, values in statistics.items() if name != lost}
        assert unlike_training(far, games.schema.names, known) == []


def test_a_few_rows_beyond_the_range_are_no_news(games, statistics):
    own_x = games.features[:, 0].copy()
    own_x[:5] = 100.0
    own_x[5:] *= 1.02
    assert unlike_training(changed(games, time=0.5, own_x=own_x).features, games.schema.names, statistics) == []


def test_games_that_are_copies_of_others_are_named(games):
    assert repeated_games(games) == []
    assert repeated_games(replace(games, frame=None)) == []
    rows = np.arange(len(games))
    again = np.concatenate([rows, rows[games.episode == 1], rows[games.episode == 0]])
    twice = games.take(again)
    twice.episode[len(rows) :] = np.repeat([101, 102], [(games.episode == 1).sum(), (games.episode == 0).sum()])
    count = len(np.unique(twice.episode))
    (said,) = repeated_games(twice)
    assert said.startswith(f"2 of {count} games are the same as others, first 101 as 1: ")
    assert repeated_games(twice.take(np.random.default_rng(0).permutation(len(twice)))) == [said]
    # Games that begin alike, and those of one row, are no copies.
    assert repeated_games(twice.take(np.arange(len(twice) - 1))) == [said.replace("2 of", "1 of")]
    assert repeated_games(twice.take(np.flatnonzero(twice.frame == twice.frame.min()))) == []
