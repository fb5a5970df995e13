"""Atari environments of ale-py itself."""

from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

pytest.importorskip("ale_py", reason="needs the extra: jepa-client[atari]")

from cli.main import app
from jepa_client.games.atari import COLUMNS, games, make_atari


def test_an_observation_is_the_memory_of_the_console() -> None:
    env = make_atari("pong")
    console: Any = env.unwrapped
    seen, _ = env.reset(seed=1)
    assert seen.dtype == np.float32
    assert seen.shape == (len(COLUMNS),) == (128,)
    assert seen in env.observation_space
    after, *_ = env.step(2)
    np.testing.assert_array_equal(after, console.ale.getRAM())
    assert (after != seen).any()


def test_games_are_named_as_their_files_are() -> None:
    assert {"pong", "ms_pacman", "tic_tac_toe_3d"} <= games().keys()
    spec = make_atari("ms_pacman").spec
    assert spec is not None
    assert spec.id == "ALE/MsPacman-v5"


def test_a_game_that_is_not_there_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"there is no game 'mspacman'; ale-py has ms_pacman, .* in all"):
        make_atari("mspacman")


def test_a_bot_sees_what_was_recorded(tmp_path) -> None:
    out = tmp_path / "pong.parquet"
    options = ["--frames", "200", "--seed", "5", "--jobs", "1", "--out", str(out)]
    done = CliRunner().invoke(app, ["data", "atari", "pong", *options])
    assert done.exit_code == 0, done.output
    table = pq.read_table(out)
    env = make_atari("pong")
    seen = [env.reset(seed=5)[0], *(env.step(action)[0] for action in table["action"].to_pylist()[:-1])]
    np.testing.assert_array_equal(np.stack([table[name].to_numpy() for name in COLUMNS], axis=1), seen)
