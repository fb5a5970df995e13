"""`jepa data atari`, run as a user runs it; its output is read with the reader of `jepa train`."""

import json
import re
import signal
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

pytest.importorskip("ale_py", reason="needs the extra: jepa-client[atari]")

from cli.main import app
from model.data.files import found_files
from model.data.frames import read_frames
from tests.support.serving import ROOT


def data(*arguments):
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def test_equal_seeds_play_equal_games_of_atari(tmp_path):
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        out = tmp_path / f"{name}.parquet"
        done = data("atari", "freeway", "--frames", 200, "--seed", seed, "--jobs", 1, "--out", out)
        assert done.exit_code == 0, done.output
        assert f"{out}: 200 frames of 1 games; learn from them: jepa train {out} --features 'ram_*'" in done.output
    one, same, other = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("one", "same", "other"))
    assert one.equals(same)
    assert not one["ram_014"].equals(other["ram_014"])
    assert one.column_names == ["episode", "frame", "action", "reward", *(f"ram_{i:03d}" for i in range(128))]
    assert json.loads(one.schema.metadata[b"recorded"]) == {"game": "freeway", "policy": "sticky-random", "seed": 1}
    assert [*one["frame"].to_numpy()] == [*range(200)]
    assert read_frames(tmp_path / "one.parquet").features[:].shape == (200, 128)


@pytest.mark.parametrize(("policy", "low", "high"), [("random", 0.2, 0.5), ("sticky-random", 0.88, 0.98)])
def test_a_policy_goes_on_with_an_action_as_it_is_called(tmp_path, policy, low, high):
    done = data("atari", "freeway", "--frames", 400, "--policy", policy, "--jobs", 1, "--out", tmp_path / "x.parquet")
    assert done.exit_code == 0, done.output
    action = pq.read_table(tmp_path / "x.parquet")["action"].to_numpy()
    assert low < (action[1:] == action[:-1]).mean() < high


def test_episodes_end_with_the_game_and_reward_is_of_the_row_whose_action_brought_it(tmp_path):
    for name, jobs in (("pong", 1), ("same", 2)):
        out = tmp_path / f"{name}.parquet"
        done = data("atari", "pong", "--frames", 1400, "--policy", "random", "--jobs", jobs, "--out", out)
        assert done.exit_code == 0, done.output
    assert (tmp_path / "pong.parquet").read_bytes() == (tmp_path / "same.parquet").read_bytes()
    table = pq.read_table(tmp_path / "pong.parquet")
    episode, frame, reward = (table[name].to_numpy() for name in ("episode", "frame", "reward"))
    ends = np.flatnonzero(np.diff(episode))
    assert len(ends) > 0
    np.testing.assert_array_equal(frame[ends + 1], 0)
    assert reward[: ends[0] + 1].sum() <= -17
    before = table["ram_013"].to_numpy()  # the score of the computer's player
    lost = np.flatnonzero(reward[: ends[0]] < 0)
    np.testing.assert_array_equal(before[lost + 1].astype(int) - before[lost], 1)


def test_a_stopped_recording_leaves_the_file_that_was_there_and_goes_on(tmp_path):
    out, work = tmp_path / "pong.parquet", tmp_path / ".pong.parquet.partial"
    out.write_bytes(b"of yesterday")
    command = [sys.executable, "-m", "cli", "data", "atari", "pong", "--frames", "10000000", "--out", str(out)]
    kept = set()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        with subprocess.Popen(
            [*command, "--jobs", "1"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as recording:
            line = recording.stdout.readline()
            assert re.fullmatch(r"\d[\d,]* of 10,000,000 frames, about \d+ s left\n", line)
            recording.send_signal(number)
            _, said = recording.communicate(timeout=30)
        if number != signal.SIGKILL:
            assert recording.returncode == 130
            assert f"stopped; the same command goes on from there: what is finished waits in {work}" in said
        assert {path.name for path in tmp_path.iterdir()} == {out.name, work.name}
        assert found_files(tmp_path).paths == found_files(f"{tmp_path}/*").paths == [out]
        assert not [*tmp_path.rglob("*.parquet")][1:]
        assert kept < (kept := {(path.name, path.stat().st_mtime_ns) for path in work.glob("*.part")})
    assert out.read_bytes() == b"of yesterday"
