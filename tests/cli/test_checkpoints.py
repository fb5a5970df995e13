"""`jepa train` where its checkpoint is damaged, or where none can be written."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from model.training import runs
from model.training.run import prepare
from tests.support.files import limited_files
from tests.support.games import make_games
from tests.support.small_run import SMALL


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """That of a run under OUT/model that was stopped."""
    path = tmp_path / "model" / ".training" / "1" / "checkpoint.safetensors"
    path.parent.mkdir(parents=True)
    prepare(make_games(episodes=3, length=30), SMALL).checkpoint.save(path)
    return path


def train(out: Path, data: str, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["train", data, "--out", str(out), "--preset", "quick", "--steps", "1", *options])
    assert isinstance(done.exception, SystemExit)
    return done.exit_code, done.output


def test_a_whole_checkpoint_of_a_stopped_run_is_not_replaced(checkpoint: Path, tmp_path: Path) -> None:
    code, said = train(tmp_path, "missing.npy")
    assert code == 1
    assert "a run stopped here at step 0" in said
    assert f"or delete {checkpoint.parent}" in said
    assert "missing.npy" not in said


def test_of_a_run_that_goes_on_in_another_process_it_is_not_said_that_it_stopped(
    checkpoint: Path, tmp_path: Path
) -> None:
    with runs.held(checkpoint.parent):
        code, said = train(tmp_path, "missing.npy")
    assert code == 1
    assert f"the run in {checkpoint.parent} goes on in another process; wait until it ends, or choose another" in said
    assert "delete" not in said


def test_a_damaged_checkpoint_does_not_keep_a_new_run_from_starting(checkpoint: Path, tmp_path: Path) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    code, said = train(tmp_path, "missing.npy")
    assert code == 1
    warning, _, error = said.splitlines()
    assert warning.startswith(f"warning: {checkpoint} is damaged or no checkpoint of `jepa train` (")
    assert warning.endswith("; a new run begins beside it")
    assert error.startswith("error: missing.npy: no such file")


def test_a_damaged_checkpoint_cannot_be_resumed(checkpoint: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", make_games(episodes=2, length=60).features)
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    code, said = train(tmp_path, str(tmp_path / "rows.npy"), "--resume")
    assert (code, said.count("error: ")) == (1, 1)
    assert f"error: {checkpoint} is damaged" in said


def test_a_run_whose_checkpoint_finds_no_room_ends_in_a_line(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", make_games(episodes=2, length=60).features)
    with limited_files(500_000):
        code, said = train(tmp_path, str(tmp_path / "rows.npy"))
    assert code == 1
    folder = tmp_path / "model" / ".training"
    assert said.splitlines()[-1] == (
        f"error: File too large: '{folder / '1' / 'checkpoint.safetensors'}'; name a place without that limit"
    )
    # What was read of the data is kept.
    assert {path.name for path in folder.iterdir()} <= {"frames"}
