"""What a policy that plays through a delay learns from, and how its points are counted; without the game."""

import numpy as np
import pytest

from benchmarks.play.clones import combination, imitate, lagged, number
from benchmarks.play.distraction import NOISE_COLUMNS, Distraction
from benchmarks.play.learning import RECIPE, learn
from benchmarks.play.points import AGAINST, table
from benchmarks.play.views import Embeddings, state, state_and_inputs

RNG = np.random.default_rng(0)


def games(count: int = 4, rows: int = 300) -> list[tuple[np.ndarray, np.ndarray]]:
    """A number that each input pushes up or down, and by which the player decides: it pushes towards 0."""
    made = []
    for seed in range(count):
        draw = np.random.default_rng(seed)
        states, inputs = np.zeros((rows, 3), np.float32), np.zeros((rows, 2), np.float32)
        at = 0.0
        for row in range(rows):
            states[row] = at, *draw.normal(size=2)
            inputs[row] = at < 0, at > 0
            at += 0.5 * (inputs[row, 0] - inputs[row, 1]) + draw.normal()
        made.append((states, inputs))
    return made


def test_the_inputs_in_flight_are_those_between_a_state_and_the_input_that_answers_it():
    states, inputs = np.arange(10, dtype=np.float32)[:, None], np.arange(100, 110, dtype=np.float32)[:, None]
    seen, in_flight, landing = lagged(states, inputs, 3)
    assert seen[:, 0].tolist() == [*range(7)]
    assert in_flight[:, :, 0].tolist() == [[100 + t, 101 + t, 102 + t] for t in range(7)]
    assert landing[:, 0].tolist() == [103 + t for t in range(7)]
    assert lagged(states, inputs, 0)[1].shape == (10, 0, 1)


def test_each_combination_of_buttons_has_a_number_of_its_own():
    every = combination(np.arange(8), 3)
    assert len(np.unique(every, axis=0)) == 8
    assert number(every).tolist() == [*range(8)]


@pytest.mark.parametrize("learner", ["linear", "trees"])
def test_a_clone_presses_what_the_player_pressed(learner):
    clone = imitate(games(), learner, state, delay=0)
    pressed = clone([0, 1], np.array([[-2, 0, 0], [2, 0, 0]], np.float32), np.empty((2, 0, 2), np.float32))
    assert pressed.tolist() == [[1, 0], [0, 1]]


def test_a_clone_with_a_delay_is_told_what_is_in_flight():
    view = imitate(games(), "linear", state_and_inputs, delay=2).view
    assert view(np.zeros((5, 3), np.float32), np.ones((5, 2, 2), np.float32)).tolist() == [[0] * 3 + [1] * 4] * 5


def test_noise_is_mixed_in_and_can_be_taken_out_again():
    states = RNG.normal(size=(50, 3)).astype(np.float32)
    look = Distraction(states)
    mixed = look.of_game(states, seed=7)
    assert mixed.shape == (50, 3 + NOISE_COLUMNS)
    # A rotation: lengths and all that is linear are kept.
    standardised = (states - states.mean(0)) / states.std(0)
    fitted = np.linalg.lstsq(mixed, standardised, rcond=None)[0]
    np.testing.assert_allclose(mixed @ fitted, standardised, atol=1e-3)
    # As it is seen frame by frame, among other games.
    np.testing.assert_allclose(look(states[[9, 9]], [3, 7], 9)[1], mixed[9], atol=1e-5)
    assert np.abs(look(states[[9, 9]], [3, 7], 9)[0] - mixed[9]).max() > 0.1


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    folder = learn(games(), models, "pushed", steps=20)
    assert learn([], models, "pushed", steps=20) == folder  # is not made again
    return Embeddings(folder)


def test_the_embedding_ahead_depends_on_the_inputs_in_flight(embeddings):
    states = RNG.normal(size=(5, 3)).astype(np.float32)
    none, pressed = np.zeros((5, 6, 2), np.float32), np.ones((5, 6, 2), np.float32)
    ahead = embeddings.ahead(states, none)
    assert ahead.shape == (5, RECIPE["embed_dim"])
    assert np.abs(ahead - embeddings.ahead(states, pressed)).max() > 1e-4
    np.testing.assert_array_equal(embeddings.now(states, none), embeddings.now(states, pressed))
    assert embeddings.now_and_inputs(states, pressed).shape == (5, RECIPE["embed_dim"] + 12)


def test_without_a_delay_the_embedding_ahead_is_that_of_the_state(embeddings):
    states, none = RNG.normal(size=(5, 3)).astype(np.float32), np.empty((5, 0, 2), np.float32)
    np.testing.assert_array_equal(embeddings.ahead(states, none), embeddings.now(states, none))


def test_points_are_compared_in_pairs():
    one = {AGAINST: [-5.0, 0.0, 5.0], "better": [-4.0, 1.0, 6.0]}
    assert "| better | +1.00 ± 2.89 | +1.00 ± 0.00 |" in table([one])
    other = {AGAINST: [-5.0, -5.0, -5.0], "better": [-2.0, -2.0, -2.0]}
    assert "| better | -0.50 ± 1.50 | +2.00 ± 1.00 |" in table([one, other])
