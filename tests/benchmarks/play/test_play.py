"""What a policy that plays through a delay learns from, and how its points are counted; without the game."""

import numpy as np
import pytest

from benchmarks.play.clones import combination, imitate, lagged, number
from benchmarks.play.distraction import NOISE_COLUMNS, Distraction
from benchmarks.play.forecast import Forecast
from benchmarks.play.games import BuiltIn, Random, Recording, Task, play, record
from benchmarks.play.hands import SLIP_FRAMES, Hand
from benchmarks.play.learning import RECIPE, learn
from benchmarks.play.points import AGAINST, table
from benchmarks.play.policies import policies
from benchmarks.play.views import Embeddings, state, state_and_inputs

RNG = np.random.default_rng(0)


INPUTS = combination(np.arange(4), 2)


class Pushed:
    """A number that drifts, and that each of two inputs pushes up or down; points are lost by the distance from 0."""

    players = 2

    def __init__(self, seed: int) -> None:
        self._draw = np.random.default_rng(seed)
        self._at, self._last, self._frames = 0.0, INPUTS[0], 0
        self.points = 0.0
        self.is_over = False

    def state(self, player: int) -> np.ndarray:
        return np.array([self._at if player == 0 else -self._at, self._frames % 7, *self._last], np.float32)

    def step(self, *inputs: np.ndarray) -> None:
        self._at += float(inputs[0][0] - inputs[0][1]) / 2 + self._draw.normal()
        self._last = inputs[0]
        self._frames += 1
        self.points -= abs(self._at)
        self.is_over = self._frames == 300 or abs(self._at) > 30


def towards_zero(state: np.ndarray) -> np.ndarray:
    return np.array([state[0] < 0, state[0] > 0], np.float32)


TASK = Task(start=Pushed, built_in=lambda: towards_zero, inputs=INPUTS)


def games(count: int = 4, slips: float = 0.0) -> list[Recording]:
    """As our player saw them."""
    return [next(record(TASK, seed, slips)) for seed in range(count)]


def test_the_inputs_in_flight_are_those_between_a_state_and_the_input_that_answers_it():
    states, inputs = np.arange(10, dtype=np.float32)[:, None], np.arange(100, 110, dtype=np.float32)[:, None]
    recording = Recording(0, states, inputs, wanted=inputs + 100)
    seen, in_flight, landing = lagged(recording, 3)
    assert seen[:, 0].tolist() == [*range(7)]
    assert in_flight[:, :, 0].tolist() == [[100 + t, 101 + t, 102 + t] for t in range(7)]
    assert landing[:, 0].tolist() == [203 + t for t in range(7)]
    assert lagged(recording, 0)[1].shape == (10, 0, 1)


def test_each_combination_of_buttons_has_a_number_of_its_own():
    every = combination(np.arange(8), 3)
    assert len(np.unique(every, axis=0)) == 8
    assert number(every).tolist() == [*range(8)]


@pytest.mark.parametrize("learner", ["linear", "trees"])
def test_a_clone_presses_what_the_player_pressed(learner):
    clone = imitate(games(), learner, state, delay=0)
    pressed = clone([0, 1], np.array([[-2, 0, 0, 0], [2, 0, 0, 0]], np.float32), np.empty((2, 0, 2), np.float32))
    assert pressed.tolist() == [[1, 0], [0, 1]]


def test_a_clone_with_a_delay_is_told_what_is_in_flight():
    view = imitate(games(), "linear", state_and_inputs, delay=2).view
    assert view(np.zeros((5, 4), np.float32), np.ones((5, 2, 2), np.float32)).tolist() == [[0] * 4 + [1] * 4] * 5


def test_games_played_at_once_end_as_those_played_one_by_one():
    seeds, policy = range(100, 106), imitate(games(), "linear", state_and_inputs, delay=3)
    at_once = play(TASK, policy, 3, seeds)
    assert len({*at_once}) == len(seeds)
    assert at_once.tolist() == [play(TASK, policy, 3, [seed])[0] for seed in seeds]


def test_an_input_lands_as_many_frames_later_as_the_delay_says():
    pressed = []

    class Heard(Pushed):
        def step(self, *inputs: np.ndarray) -> None:
            pressed.append(inputs[0].tolist())
            super().step(*inputs)

    answers = iter(combination(RNG.integers(0, 4, 300), 2))
    given = []

    def policy(_games: list[int], states: np.ndarray, _in_flight: np.ndarray) -> np.ndarray:
        given.append(next(answers))
        return np.repeat(given[-1][None], len(states), axis=0)

    play(Task(Heard, TASK.built_in, INPUTS), policy, 4, [0])
    assert pressed[:4] == [[0, 0]] * 4
    assert pressed[4:] == [each.tolist() for each in given[: len(pressed) - 4]]


def test_a_player_that_answers_at_once_is_better_than_one_at_a_delay_and_than_any_buttons():
    seeds = range(200, 210)
    at_once, late = (play(TASK, BuiltIn(TASK), delay, seeds).mean() for delay in (0, 9))
    assert at_once > late
    assert at_once > play(TASK, Random(TASK), 0, seeds).mean()


def test_each_player_of_a_game_is_recorded_as_it_saw_it():
    ours, theirs = record(TASK, 5)
    np.testing.assert_array_equal(ours.states[:, 0], -theirs.states[:, 0])
    np.testing.assert_array_equal(ours.inputs, [towards_zero(state) for state in ours.states])
    np.testing.assert_array_equal(ours.inputs, ours.wanted)
    np.testing.assert_array_equal(ours.states[1:, 2:], ours.inputs[:-1])


def test_a_hand_slips_in_some_frames_and_what_it_wanted_is_kept():
    (slipped,) = games(1, slips=0.05)
    np.testing.assert_array_equal(slipped.wanted, [towards_zero(state) for state in slipped.states])
    np.testing.assert_array_equal(slipped.states[1:, 2:], slipped.inputs[:-1])
    wrong = (slipped.inputs != slipped.wanted).any(1).mean()
    assert 0.05 < wrong < 0.5


def test_a_slip_holds_an_input_for_some_frames():
    hand, wanted = Hand(INPUTS, 1.0, np.random.default_rng(0)), np.full(2, 7, np.float32)
    pressed = number(np.array([hand(wanted) for _ in range(200)]))
    held = np.diff(np.flatnonzero(np.diff(pressed)))
    assert held.min() >= SLIP_FRAMES[0]
    steady = Hand(INPUTS, 0.0, np.random.default_rng(0))
    assert all(steady(wanted) is wanted for _ in range(50))


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
    (models / "pushed" / ".training").mkdir(parents=True)  # as a run that was stopped leaves it
    folder = learn(games(), models, "pushed", steps=20)
    assert learn([], models, "pushed", steps=20) == folder  # is not made again
    return Embeddings(folder)


def test_the_embedding_ahead_depends_on_the_inputs_in_flight(embeddings):
    states = RNG.normal(size=(5, 4)).astype(np.float32)
    none, pressed = np.zeros((5, 6, 2), np.float32), np.ones((5, 6, 2), np.float32)
    ahead = embeddings.ahead(states, none)
    assert ahead.shape == (5, RECIPE["embed_dim"])
    assert np.abs(ahead - embeddings.ahead(states, pressed)).max() > 1e-4
    np.testing.assert_array_equal(embeddings.now(states, none), embeddings.now(states, pressed))
    assert embeddings.now_and_inputs(states, pressed).shape == (5, RECIPE["embed_dim"] + 12)


def test_without_a_delay_the_embedding_ahead_is_that_of_the_state(embeddings):
    states, none = RNG.normal(size=(5, 4)).astype(np.float32), np.empty((5, 0, 2), np.float32)
    np.testing.assert_array_equal(embeddings.ahead(states, none), embeddings.now(states, none))


def test_a_linear_game_is_foretold_from_its_inputs():
    class Steady(Pushed):
        """Drifts by the same in each frame."""

        def __init__(self, seed: int) -> None:
            super().__init__(seed)
            self._at = float(self._draw.normal())

        def step(self, *inputs: np.ndarray) -> None:
            self._draw = np.random.default_rng(0)
            super().step(*inputs)

    recordings = [next(record(Task(Steady, TASK.built_in, INPUTS), seed, slips=0.1)) for seed in range(4)]
    states, in_flight, _ = lagged(recordings[0], 6)
    later = Forecast(recordings, 6)(states, in_flight)
    # All but the second column, a clock.
    np.testing.assert_allclose(np.delete(later, 1, 1), np.delete(recordings[0].states[6:], 1, 1), atol=1e-3)


def test_each_policy_plays_and_has_the_rivals_that_a_delay_gives_it(embeddings):
    at_once, late = (policies(TASK, games(), embeddings, delay) for delay in (0, 6))
    assert at_once.keys() < late.keys()
    assert AGAINST in at_once
    for name in ("linear, ahead", "linear of no delay, ahead", "linear of no delay, forecast state"):
        assert play(TASK, late[name](), 6, [0, 1]).shape == (2,)


def test_points_are_compared_in_pairs():
    one = {AGAINST: [-5.0, 0.0, 5.0], "better": [-4.0, 1.0, 6.0]}
    assert "| better | +1.00 ± 2.89 | +1.00 ± 0.00 |" in table([one])
    other = {AGAINST: [-5.0, -5.0, -5.0], "better": [-2.0, -2.0, -2.0]}
    assert "| better | -0.50 ± 1.45 (1.50 over seeds) | +2.00 ± 0.45 (1.00 over seeds) |" in table([one, other])
