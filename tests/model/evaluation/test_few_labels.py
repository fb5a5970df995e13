import numpy as np
import pytest

from model.evaluation import few_labels as few
from model.evaluation.few_labels import DRAWS, _draws, few_labels, tuned_trees
from model.evaluation.plan import Job
from model.evaluation.probes import Label, auc, boosted_trees, linear_probe

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
    return few_labels(jobs, {"y": label}, games, 0)["y"]


def test_more_labelled_games_tell_more_and_noise_nothing():
    lines = found()
    counts = [count for count in DRAWS if count < GAMES]
    assert [*lines["told"]] == [*counts, GAMES]
    assert 0.7 < lines["told"][1].auc < lines["told"][8].auc
    assert all(abs(cell.auc - 0.5) < 0.1 for cell in lines["noise"].values())
    assert {count: cell.draws for count, cell in lines["told"].items()} == {c: DRAWS[c] for c in counts} | {GAMES: 1}
    assert lines["told"][1].error > 0
    assert np.isnan(lines["told"][GAMES].error)


def test_only_numbers_of_games_that_there_are_are_asked_for():
    assert [*found(games=np.minimum(GAME, 3))["told"]] == [1, 2, 4]


def test_a_game_whose_label_never_changes_is_no_draw():
    label = Label(np.where(GAME == 0, TRUTH, 1), LABEL.test)
    cell = found(label)["told"][1]
    assert cell.draws < DRAWS[1]
    none = found(Label(np.ones_like(TRUTH), LABEL.test))["told"][1]
    assert np.isnan(none.auc)
    assert none.draws == 0


@pytest.mark.parametrize("count", [count for count in DRAWS if count < GAMES])
def test_draws_have_as_many_games_as_asked_and_share_none_while_there_are_others(count):
    drawn = [set(GAME[rows].tolist()) for rows in _draws(GAME, count, 0)]
    assert all(len(games) == count for games in drawn)
    if count * len(drawn) <= GAMES:
        assert len(set().union(*drawn)) == count * len(drawn)


def test_trees_are_tuned_to_games_held_out_and_to_no_more_than_some(monkeypatch):
    monkeypatch.setattr(few, "TREES", {"max_leaf_nodes": [2, 16], "max_iter": [5]})
    monkeypatch.setattr(few, "DRAWS", {1: 1, 2: 1})
    monkeypatch.setattr(few, "MAX_TUNED_GAMES", 2)
    job = Job("trees", boosted_trees, (ROWS_SEEN, TEST))
    cells = few_labels([job], {"y": LABEL}, GAME, 0)["y"]["trees"]
    assert [*cells] == [1, 2]
    assert all(cell.auc > 0.5 for cell in cells.values())
    # A rule of two columns, which trees of two leaves cannot learn.
    rows = np.random.default_rng(1).normal(size=(600, 3)).astype(np.float32)
    truth = (rows[:, 0] * rows[:, 1] > 0).astype(np.int64)
    found = tuned_trees(rows, truth, games=np.repeat([0, 1, 2], 200))
    assert found.best_params_["max_leaf_nodes"] == 16
    assert auc(found.predict_proba(rows), truth, found.classes_) > 0.9
