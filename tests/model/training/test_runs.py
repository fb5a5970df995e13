"""Folders of runs, the best of a run's weights, and when a run is over."""

import errno
import os
from dataclasses import replace

import pytest
import torch

from model.training import runs
from model.training.checkpoint import load_checkpoint
from model.training.held_out import Report
from model.training.loop import best_of, train
from model.training.run import changed_recipe, check_unfinished, prepare, resume
from tests.support.games import make_games
from tests.support.small_run import SMALL, trained, weights


@pytest.fixture(scope="module")
def games():
    return make_games(episodes=3, length=60)


def test_each_run_has_a_folder_of_its_own_and_the_latest_with_a_checkpoint_is_resumed(games, tmp_path):
    home = runs.home(tmp_path, "toy")
    assert runs.newest(home) is None
    folders = [runs.make_folder(home) for _ in range(11)]
    assert [folder.name for folder in folders] == [str(number) for number in range(1, 12)]
    run = prepare(games, SMALL)
    for folder in (folders[1], folders[9]):
        run.checkpoint.save(folder / runs.CHECKPOINT)
    assert runs.newest(home) == folders[9]
    with pytest.raises(ValueError, match=rf"a run stopped here at step 0 of 6; go on with .* delete {folders[9]}"):
        runs.check_none_stopped(home)
    run.checkpoint.step = 6
    run.checkpoint.save(folders[9] / runs.CHECKPOINT)
    assert runs.check_none_stopped(home) is None


@pytest.mark.parametrize("steps", [3, 6, 14])
def test_a_run_makes_at_least_so_many_reports_or_one_a_step(games, tmp_path, monkeypatch, steps):
    monkeypatch.setattr("model.training.loop.MIN_REPORTS", 5)
    reports, _ = trained(prepare(games, replace(SMALL, steps=steps)), tmp_path / "c.safetensors", every=None)
    assert len(reports) >= min(steps, 5)
    assert [report.step for report in reports][-1] == steps
    history = load_checkpoint(tmp_path / "c.safetensors").summary.history
    assert history["step"] == [report.step for report in reports]


def spoiled_after(run, step):
    """Weights that get worse once that step is done."""

    def go_on(done):
        if done > step:
            with torch.no_grad():
                for head in run.jepa.column_heads.heads:
                    head.bias += 10.0
        return True

    return go_on


def test_the_best_weights_are_kept_with_the_whole_history_and_quantiles_of_their_own(games, tmp_path):
    path = tmp_path / "c.safetensors"
    run = prepare(games, replace(SMALL, learning_rate=1e-9))
    assert train(run, path, lambda _: None, spoiled_after(run, 3), every=1)
    best, last = load_checkpoint(best_of(path)), load_checkpoint(path)
    assert best.step <= 3
    assert last.step == 6
    assert last.summary.best == best.summary.best
    objectives = best.summary.history["objective"]
    assert len(objectives) == 6
    assert min(objectives[3:]) > max(objectives[:3])
    assert best.summary.metrics["objective"] == best.summary.best["objective"] < last.summary.metrics["objective"]
    assert best.optimiser == {}
    assert [len(values) for values in best.summary.loss_quantiles.values()] == [101, 101]


def test_patience_ends_a_run_that_gets_worse_which_can_go_on_with_more(games, tmp_path):
    path = tmp_path / "c.safetensors"
    run = prepare(games, replace(SMALL, learning_rate=1e-9, steps=30, patience=2))
    assert train(run, path, lambda _: None, spoiled_after(run, 3), every=1)
    stopped = load_checkpoint(path)
    assert stopped.finished()
    assert stopped.step == stopped.summary.best["step"] + 2 < 30
    with pytest.raises(ValueError, match=r"the run is finished: it has done \d of 30 steps, where its patience of 2 "):
        check_unfinished(stopped, changed_recipe(stopped, {"steps": 30}))
    check_unfinished(stopped, changed_recipe(stopped, {"patience": 9}))


def test_a_finished_run_says_so_and_more_steps_make_it_longer(games, tmp_path):
    path = tmp_path / "c.safetensors"
    trained(prepare(games, SMALL), path)
    done = load_checkpoint(path)
    with pytest.raises(ValueError, match="the run is finished: it has done 6 of 6 steps; to go on give it more steps"):
        check_unfinished(done, changed_recipe(done, {}))
    with pytest.raises(ValueError, match="steps is 5, but the run was begun with 6; it can be made longer, not"):
        changed_recipe(done, {"steps": 5})
    with pytest.raises(ValueError, match=r"learning_rate is 0\.5, but the run was begun with 0\.002; leave it out"):
        changed_recipe(done, {"learning_rate": 0.5, "steps": 8})
    reports, steps = trained(resume(games, path, changes={"steps": 8}), path, every=1)
    assert steps == [7, 8]
    assert isinstance(reports[-1], Report)
    assert load_checkpoint(path).recipe["steps"] == 8


def test_a_resumed_run_keeps_the_best_of_before(games, tmp_path):
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    trained(prepare(games, SMALL), whole, every=1)
    train(prepare(games, SMALL), broken, lambda _: None, lambda step: step < 4, every=1)
    trained(resume(games, broken), broken, every=1)
    one, other = (load_checkpoint(best_of(path)) for path in (whole, broken))
    assert one.summary.best == other.summary.best
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(other)[name], value, atol=0, rtol=0, msg=name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda games: games.take(games.episode < 2), "the run learns from .* rows, and this data gives it"),
        (lambda games: replace(games, frame=None), "the run looks ahead, and the rows of this data have no order"),
        (lambda games: renamed(games, "stage", "field"), "it lacks 1 of its 8 columns, first 'stage'"),
        (lambda games: reordered(games), "it has its columns in another order"),
        (lambda games: regrouped(games), "it has its columns in other groups"),
    ],
)
def test_a_run_does_not_go_on_with_other_data(games, tmp_path, change, message):
    path = tmp_path / "c.safetensors"
    prepare(games, SMALL).checkpoint.save(path)
    with pytest.raises(ValueError, match=message):
        resume(change(games), path)


def renamed(games, name, other):
    names = tuple(other if each == name else each for each in games.schema.names)
    return replace(games, schema=replace(games.schema, names=names))


def reordered(games):
    first, second, *rest = games.schema.names
    return replace(games, schema=replace(games.schema, names=(second, first, *rest)))


def regrouped(games):
    own, *rest = games.schema.groups
    return replace(games, schema=replace(games.schema, groups=(own._replace(name="mine"), *rest)))


def test_a_run_without_order_does_not_go_on_with_rows_that_have_one(games, tmp_path):
    path = tmp_path / "c.safetensors"
    prepare(replace(games, frame=None), SMALL).checkpoint.save(path)
    with pytest.raises(ValueError, match="the run learned from rows without order, and this data has one; add --uno"):
        resume(games, path)


def test_a_run_on_a_file_system_without_locks_is_held_by_whoever_asks(tmp_path, monkeypatch):
    with runs.held(tmp_path), pytest.raises(ValueError, match="goes on in another process"), runs.held(tmp_path):
        pass

    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with runs.held(tmp_path), runs.held(tmp_path):
        pass
