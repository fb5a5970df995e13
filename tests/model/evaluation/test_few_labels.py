import numpy as np
import pytest

from model.evaluation.few_labels import DRAWS, _draws, few_labels
from model.evaluation.plan import Job
from model.evaluation.probes import Label, linear_probe

RNG = np.random.default_rng(0)
GAMES, ROWS = 12, 60
GAME = np.repeat(np.arange(GAMES), ROWS)
TRUTH = RNG.integers(0, 2, GAMES * ROWS)
# Each game has a habit of its own, which one game alone teaches as if it were the rule.
HABIT = RNG.normal(size=(GAMES, 10))[GAME] * (TRUTH[:, None] - 0.5)
ROWS_SEEN = (HABIT + RNG.normal(size=HABIT.shape) + TRUTH[:, None]).astype(np.float32)
TEST = (RNG.normal(size=(400, 10)) + np.arange(400)[:, None] % 2).astype(np.float32)
LABEL = Label(TRUTH, np.arange(400) % 2)


def found(label=LABEL, games=GAME):
    noise = RNG.normal(size=ROWS_SEEN.shape).astype(np.float32), RNG.normal(size=TEST.shape).astype(np.float32)
    jobs = [Job("told", linear_probe, (ROWS_SEEN, TEST)), Job("noise", linear_probe, noise)]
    return few_labels(jobs, {"y": label}, games, np.zeros(400, np.int64), 0)["y"]


def test_more_labelled_games_tell_more_and_noise_nothing():
    lines = found()
    assert [*lines["told"]] == [*DRAWS]
    assert 0.7 < lines["told"][1].auc < lines["told"][8].auc
    assert all(abs(cell.auc - 0.5) < 0.1 for cell in lines["noise"].values())
    assert {count: cell.draws for count, cell in lines["told"].items()} == DRAWS


def test_only_numbers_of_games_that_there_are_are_asked_for():
    assert [*found(games=np.minimum(GAME, 3))["told"]] == [1, 2]


def test_a_game_whose_label_never_changes_is_no_draw():
    label = Label(np.where(GAME == 0, TRUTH, 1), LABEL.test)
    cell = found(label)["told"][1]
    assert cell.draws < DRAWS[1]
    none = found(Label(np.ones_like(TRUTH), LABEL.test))["told"][1]
    assert np.isnan(none.auc)
    assert none.draws == 0


@pytest.mark.parametrize("count", DRAWS)
def test_draws_have_as_many_games_as_asked_and_share_none_while_there_are_others(count):
    drawn = [set(GAME[rows].tolist()) for rows in _draws(GAME, count, 0)]
    assert all(len(games) == count for games in drawn)
    if count * len(drawn) <= GAMES:
        assert len(set().union(*drawn)) == count * len(drawn)
