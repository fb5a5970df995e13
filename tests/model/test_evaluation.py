import numpy as np
import pytest

from model import evaluation
from model.evaluation import auc, boosted_trees, linear_probe, nearest_neighbours, principal_components, score
from model.recipe import Recipe
from tests.support.games import make_games

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def told():
    """Two classes that a line tells apart, in 400 rows of 4 games."""
    rows = RNG.normal(size=(400, 6)).astype(np.float32)
    return rows, (rows @ RNG.normal(size=6) > 0).astype(np.int64), np.repeat(np.arange(4), 100)


@pytest.mark.parametrize("classifier", [linear_probe, nearest_neighbours, boosted_trees])
def test_a_label_that_the_rows_tell_is_found_and_a_random_one_is_not(told, classifier):
    rows, labels, games = told
    found = score(classifier, rows, labels, rows, labels, games)
    assert found.auc > 0.95
    assert found.accuracy > 0.85
    noise = RNG.integers(0, 2, 400)
    assert score(classifier, rows, labels, RNG.normal(size=(400, 6)), noise, games).auc == pytest.approx(0.5, abs=0.1)


def test_rows_without_a_label_count_neither_way(told):
    rows, labels, games = told
    unknown = np.where(np.arange(400) % 2, -1, labels)
    kept = np.arange(400) % 2 == 0
    expected = score(linear_probe, rows[kept], labels[kept], rows[kept], labels[kept], games[kept])
    assert score(linear_probe, rows, unknown, rows, unknown, games) == expected


def test_auc_over_classes_is_the_mean_against_the_rest_of_those_seen_often_enough():
    truth = np.repeat([0, 1, 2], [50, 50, 3])
    probabilities = np.eye(3)[truth]
    assert auc(probabilities, truth, np.arange(3)) == 1
    probabilities[truth == 0] = probabilities[truth == 1] = [0.5, 0.5, 0]
    # A tie counts half; the three rows of class 2 are only ever the others.
    assert auc(probabilities, truth, np.arange(3)) == pytest.approx((0.5 * 50 + 3) / 53)
    assert np.isnan(auc(probabilities[:50], truth[:50], np.arange(3)))


def test_the_spread_is_over_games(told):
    rows, labels, games = told
    flipped = np.where(games == 0, 1 - labels, labels)
    assert score(linear_probe, rows, labels, rows, flipped, games).auc_spread > 0.3


def test_principal_components_are_as_many_as_asked_or_as_there_are(told):
    rows, _, _ = told
    assert principal_components(rows, rows[:9], 3)[1].shape == (9, 3)
    assert principal_components(rows, rows[:9], 256)[1].shape == (9, 6)


def test_the_untrained_encoder_is_the_recipes_network_and_the_same_each_time():
    games = make_games(episodes=2)
    recipe = Recipe(embed_dim=16, predictor_embed_dim=8, num_heads=4)
    first, second = (evaluation.untrained_encoder(games, recipe)(games.features) for _ in range(2))
    assert first.shape == (400, 16)
    np.testing.assert_array_equal(first, second)
