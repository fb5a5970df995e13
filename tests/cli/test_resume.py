"""`jepa train --resume`: only the same run goes on, and a run that is over says so."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cli.main import app
from model.training import runs
from model.training.checkpoint import load_checkpoint
from model.training.run import prepare
from tests.support.games import make_games
from tests.support.small_run import SMALL


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    games = make_games(episodes=3, length=30)
    path = tmp_path_factory.mktemp("data") / "games.parquet"
    columns = dict(zip(games.schema.names, games.features.T, strict=True))
    pq.write_table(pa.table({"episode": games.episode, "frame": games.frame, **columns}), path)
    return path


@pytest.fixture
def stopped(tmp_path):
    """A run of the preset `quick` that reads the columns `own_*` and `opp_*` alone, stopped before its first step."""
    games = make_games(episodes=3, length=30)
    checkpoint = prepare(games, SMALL).checkpoint
    checkpoint.made = {"preset": "quick", "choices": {"exclude": ["time"], "missing": "hide"}}
    path = runs.home(tmp_path, "model") / "1" / runs.CHECKPOINT
    path.parent.mkdir(parents=True)
    checkpoint.save(path)
    return path


def train(out, *arguments):
    done = CliRunner().invoke(app, ["train", *map(str, arguments), "--out", str(out), "--resume"])
    assert isinstance(done.exception, SystemExit), done.exc_info
    assert done.exit_code == 1
    return done.output.splitlines()[-1]


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--preset", "default"], "--preset is default, but the run was begun with quick; leave it out"),
        (["--exclude", "stage"], "--exclude is ['stage'], but the run was begun with ['time']; leave it out"),
        (["--missing", "drop"], "--missing is drop, but the run was begun with hide; leave it out"),
        (["--episode", "game"], "--episode is game, but the run was begun without it; leave it out"),
        (["--frame", "t"], "--frame is t, but the run was begun without it"),
        (["--features", "own_*"], "--features is ['own_*'], but the run was begun without it"),
        (["--labels", "own_*"], "--labels is ['own_*'], but the run was begun without it"),
        (["--actions", "own_*"], "--actions is ['own_*'], but the run was begun without it"),
        (["--unordered"], "--unordered is True, but the run was begun without it"),
        (["--horizon", "9"], "horizons is (9,), but the run was begun with (2, 5); leave it out"),
        (["--tokens", "groups"], "tokens is groups, but the run was begun with row; leave it out"),
        (["--seed", "3"], "seed is 3, but the run was begun with 0; leave it out"),
        (["--set", "anchor=2"], "anchor is 2.0, but the run was begun with 1.0; leave it out"),
        (["--steps", "4"], "steps is 4, but the run was begun with 6; it can be made longer, not shorter"),
    ],
)
def test_an_option_that_differs_is_refused_by_name_with_both_values(data, tmp_path, option, message):
    assert message in train(tmp_path, data, *option)


@pytest.mark.usefixtures("stopped")
def test_a_file_that_differs_is_refused_too(data, tmp_path):
    (tmp_path / "recipe.toml").write_text("batch_size = 64")
    assert "batch_size is 64, but the run was begun with 32" in train(
        tmp_path, data, "--config", tmp_path / "recipe.toml"
    )


@pytest.mark.usefixtures("stopped")
def test_other_columns_are_refused_in_a_line(data, tmp_path):
    table = pq.read_table(data)
    table = table.rename_columns(["weather" if name == "stage" else name for name in table.column_names])
    pq.write_table(table, tmp_path / "other.parquet")
    said = train(tmp_path, tmp_path / "other.parquet")
    # The run's own --exclude is used again.
    assert said.startswith(
        "error: the run was trained on other columns than this data has: it lacks 2 of its 8 columns"
    )


def test_a_finished_run_says_so_and_what_to_do(stopped, data, tmp_path):
    checkpoint = load_checkpoint(stopped)
    checkpoint.step = 6
    checkpoint.save(stopped)
    finished = "error: the run is finished: it has done 6 of 6 steps; to go on give it more steps, such as 12"
    assert train(tmp_path, data).startswith(finished)
    assert train(tmp_path, data, "--steps", 6).startswith(finished)
    assert "steps is 5, but the run was begun with 6" in train(tmp_path, data, "--steps", 5)


def test_a_run_of_another_version_is_not_resumed(stopped, data, tmp_path):
    checkpoint = load_checkpoint(stopped)
    replace(checkpoint, recipe={"steps": 6}).save(stopped)
    assert "begun by another version, which trained otherwise" in train(tmp_path, data)


def test_a_run_that_goes_on_in_another_process_is_not_resumed(stopped, data, tmp_path):
    before = stopped.read_bytes()
    with runs.held(stopped.parent):
        said = train(tmp_path, data)
    assert said == f"error: the run in {stopped.parent} goes on in another process; wait until it ends, or choose " + (
        "another --name"
    )
    assert stopped.read_bytes() == before
