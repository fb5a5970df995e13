import re

import numpy as np
import pytest

from model.evaluation import probes
from model.evaluation.probes import (
    Label,
    auc,
    boosted_trees,
    health,
    linear_probe,
    nearest_neighbours,
    principal_components,
    score,
    usable_label,
)
from model.training.recipe import Recipe
from tests.support.games import make_games

RNG = np.random.default_rng(0)
CLASSIFIERS = pytest.mark.parametrize("classifier", [linear_probe, nearest_neighbours, boosted_trees])


@pytest.fixture(scope="module")
def told():
    """Two linearly separable classes, in 400 rows of 4 games."""
    rows = RNG.normal(size=(400, 6)).astype(np.float32)
    return rows, (rows @ RNG.normal(size=6) > 0).astype(np.int64), np.repeat(np.arange(4), 100)


@CLASSIFIERS
def test_a_label_that_the_rows_tell_is_found_and_a_random_one_is_not(told, classifier):
    rows, classes, games = told
    found = score(classifier, rows, rows, Label(classes, classes), games)
    assert found.auc > 0.95
    assert min(found.accuracy, found.balanced_accuracy, found.f1, found.weighted_f1) > 0.85
    noise = RNG.integers(0, 2, 400)
    blind = score(classifier, rows, RNG.normal(size=(400, 6)), Label(classes, noise), games)
    assert blind.auc == pytest.approx(0.5, abs=0.1)


def test_rows_without_a_label_count_neither_way(told):
    rows, classes, games = told
    kept = np.arange(400) % 2 == 0
    unknown = np.where(kept, classes, -1)
    expected = score(linear_probe, rows[kept], rows[kept], Label(classes[kept], classes[kept]), games[kept])
    assert score(linear_probe, rows, rows, Label(unknown, unknown), games) == expected


@CLASSIFIERS
def test_classes_that_only_training_or_only_test_has_are_no_error_and_no_warning(told, classifier):
    rows, classes, games = told
    train, test = classes.copy(), classes.copy()
    train[:30], test[:30] = 7, 9
    found = score(classifier, rows, rows, Label(train, test), games)
    assert found.accuracy <= 370 / 400
    assert found.balanced_accuracy > 0.8
    only_nines = score(classifier, rows, rows, Label(train, np.where(games == 0, 9, -1)), games)
    assert only_nines.accuracy == 0
    assert np.isnan([only_nines.auc, only_nines.balanced_accuracy, only_nines.f1, only_nines.auc_spread]).all()


def test_each_measure_is_what_its_formula_says():
    classes = np.array([0] * 60 + [1] * 30 + [2] * 10)
    guess = np.array([0] * 50 + [1] * 10 + [1] * 30 + [0] * 10)

    class Oracle:
        classes_ = np.arange(3)

        def predict_proba(self, rows):
            return np.eye(3)[rows[:, 0].astype(int)]

    found = score(lambda *_: Oracle(), guess[:, None], guess[:, None], Label(classes, classes), np.zeros(100))
    precision, recall = np.array([50 / 60, 30 / 40, 0]), np.array([50 / 60, 1, 0])
    f1 = np.array([2 * p * r / (p + r) if p + r else 0 for p, r in zip(precision, recall, strict=True)])
    assert found.accuracy == pytest.approx(0.8)
    assert found.balanced_accuracy == pytest.approx(recall.mean())
    assert found.f1 == pytest.approx(f1.mean())
    assert found.weighted_f1 == pytest.approx(f1 @ [0.6, 0.3, 0.1])


def test_a_class_that_none_of_the_neighbours_rows_has_is_likely_nowhere(told, monkeypatch):
    rows, _, games = told
    monkeypatch.setattr(probes, "MAX_NEIGHBOUR_ROWS", 300)
    classes = np.where(np.arange(400) < 300, np.arange(400) % 2, 5)
    found = score(nearest_neighbours, rows, rows, Label(classes, classes), games)
    assert 0 < found.accuracy <= 0.75


def test_fewer_rows_than_neighbours_are_enough(told):
    rows, classes, games = told
    assert score(nearest_neighbours, rows[:9], rows, Label(classes[:9], classes), games).accuracy > 0.3


def test_auc_over_classes_is_the_mean_against_the_rest_of_those_seen_often_enough():
    truth = np.repeat([0, 1, 2], [50, 50, 3])
    probabilities = np.eye(3)[truth]
    assert auc(probabilities, truth, np.arange(3)) == 1
    probabilities[truth == 0] = probabilities[truth == 1] = [0.5, 0.5, 0]
    # A tie counts half. Class 2 has only three rows, so it is never the one class, only part of the rest.
    assert auc(probabilities, truth, np.arange(3)) == pytest.approx((0.5 * 50 + 3) / 53)
    assert np.isnan(auc(probabilities[:50], truth[:50], np.arange(3)))


def test_the_spread_is_over_games_and_needs_two(told):
    rows, classes, games = told
    flipped = Label(classes, np.where(games == 0, 1 - classes, classes))
    found = score(linear_probe, rows, rows, flipped, games)
    assert min(found.auc_spread, found.accuracy_spread, found.balanced_accuracy_spread) > 0.3
    assert np.isnan(score(linear_probe, rows, rows, flipped, np.zeros(400)).accuracy_spread)
    assert np.isnan(score(linear_probe, rows, rows, flipped, np.arange(400)).accuracy_spread)


@pytest.mark.parametrize(
    ("train", "test", "entropy", "reason"),
    [
        ([-1, -1, -1, -1], [0, 1], 0, "−1 (none) in every training row"),
        ([0, 0, 1, 1], [-1, -1], 0, "−1 (none) in every test row"),
        ([3, 3, 3, -1], [3, 1], 0, "one class only in the training rows"),
        ([0, 0, 0, 1], [0, 1], 0, "fewer than two classes with 2 training rows"),
        ([0, 0, 1, 1], [2, 3], 0, "no test row of a class that the training rows have"),
        ([0, 0, 1, 1], [0, 1], 0.7, "entropy below 0.7 nats"),
    ],
)
def test_why_a_label_tells_nothing_is_said(train, test, entropy, reason):
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        usable_label(np.array(train), np.array(test), entropy)


def test_a_label_of_two_equal_classes_has_the_entropy_of_a_coin():
    classes = np.array([0, 0, 1, 1])
    assert usable_label(classes, classes, 0.69).left_out == ""


def test_of_very_many_classes_the_most_common_are_kept_and_that_is_said():
    train = np.concatenate([np.repeat(np.arange(100), 2), np.repeat(np.arange(64), 3)])
    label = usable_label(train, np.arange(-1, 110))
    assert set(label.train) == {-1, *range(64)}
    # A class that training lacks is kept in the test rows.
    assert set(label.test) == {-1, *range(64), *range(100, 110)}
    assert label.left_out == "the 64 most common of 100 classes; rows of the others (18 %) are left out"


def test_a_class_of_one_training_row_is_left_out():
    label = usable_label(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 2]))
    assert label.train.tolist() == [0, 0, 1, 1, -1]
    assert label.test.tolist() == [0, 1, -1]


def test_the_health_of_embeddings_tells_live_dims_from_dead_ones():
    rows = RNG.normal(size=(500, 4)).astype(np.float32) * [1, 2, 1e-5, 0] + 7
    found = health(rows)
    assert found.dead_dims == 2
    assert found.dims == 4
    assert found.least_std == 0
    assert found.largest_std == pytest.approx(2, rel=0.1)
    assert found.std == pytest.approx(0.75, rel=0.1)
    assert found.effective_rank == 2
    assert health(np.ones((9, 3))).dead_dims == 3


def test_principal_components_are_as_many_as_asked_or_as_hold_any_variance(told):
    rows, _, _ = told
    assert principal_components(rows, rows[:9], 3)[1].shape == (9, 3)
    assert principal_components(rows, rows[:9], 256)[1].shape == (9, 6)
    twice = np.concatenate([rows, rows, np.ones((400, 2))], axis=1)
    assert principal_components(twice, twice[:9], 256)[0].shape == (400, 6)


def test_the_untrained_encoder_is_the_recipes_network_and_the_same_each_time():
    games = make_games(episodes=2)
    recipe = Recipe(embed_dim=16, predictor_embed_dim=8, num_heads=4)
    first, second = (probes.untrained_encoder(games, recipe)(games.features) for _ in range(2))
    assert first.shape == (400, 16)
    np.testing.assert_array_equal(first, second)
