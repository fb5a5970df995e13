"""`jepa data`, run as a user runs it; its output is read with the reader of `jepa train`."""

import json
import re
import signal
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

pytest.importorskip("peppi_py", reason="needs the extra: jepa-client[slippi]")

from cli.main import app
from jepa_client.games.melee import replay_rows
from jepa_client.games.slippi import read_replay
from model.data.frames import read_frames
from tests.support.replays import Frame, Moment, duel, game
from tests.support.serving import ROOT


def data(*arguments):
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


@pytest.fixture
def replays(tmp_path):
    folder = tmp_path / "replays"
    (folder / "more").mkdir(parents=True)
    (folder / "b.slp").write_bytes(game(duel(100, first=-123)))
    (folder / "more" / "c.slp").write_bytes(game(duel(9, first=-39)))
    return folder


def test_replays_become_episodes_in_the_order_of_their_names(replays, tmp_path):
    out = tmp_path / "frames.parquet"
    done = data("melee", replays, replays / "b.slp", "--out", out)
    assert done.exit_code == 0, done.output
    assert f"{out}: 25 frames of 2 games; learn from them: jepa train {out}" in done.output
    frames = read_frames(out)
    want = [replay_rows(read_replay(path)) for path in (replays / "b.slp", replays / "more" / "c.slp")]
    np.testing.assert_array_equal(frames.features, np.concatenate([rows for rows, _ in want]))
    np.testing.assert_array_equal(frames.frame, np.concatenate([frame for _, frame in want]))
    assert [*frames.episode] == [0] * 16 + [1] * 9
    assert json.loads(pq.read_metadata(out).metadata[b"replays"]) == ["b.slp", "c.slp"]
    assert {path.name for path in tmp_path.iterdir()} == {"replays", "frames.parquet"}


def test_training_knows_their_groups_and_how_else_they_look(replays, tmp_path):
    assert data("melee", f"{replays}/*.slp", "--out", tmp_path / "frames.parquet").exit_code == 0
    frames = read_frames(tmp_path / "frames.parquet")
    assert [group.name for group in frames.schema.groups][:2] == ["own_base", "own_speed"]
    assert len(frames.symmetries) == 2


def test_a_replay_that_cannot_be_read_is_named_and_skipped(replays, tmp_path):
    (replays / "a.slp").write_bytes((replays / "b.slp").read_bytes()[:-50])
    (replays / "d.slp").write_bytes(game([Moment([Frame(0, port) for port in range(4)])]))
    done = data("melee", replays, "--out", tmp_path / "frames.parquet")
    assert done.exit_code == 3
    assert f"skipped {replays / 'a.slp'}: it is cut off" in done.output
    assert f"skipped {replays / 'd.slp'}: it has 4 players" in done.output
    assert "2 of 4 replays were skipped" in done.output
    assert [*np.unique(read_frames(tmp_path / "frames.parquet").episode)] == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["melee", "nowhere", "--out", "x.parquet"], "nowhere: no such file, no replay (.slp) in it, and no match"),
        (["melee", "README.md", "--out", "x.parquet"], "none of the replays could be read; nothing was written"),
        (["melee", "README.md", "--out", "x.npy"], "--out is x.npy; frames are written as .parquet"),
        (["melee", "README.md", "--out", "no/x.parquet"], "--out is no/x.parquet; there is no folder no"),
        (["atari", "pang", "--out", "x.parquet"], "there is no game 'pang'; ale-py has pong, "),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("no replay")
    done = data(*arguments)
    assert done.exit_code == 1
    assert message in done.output
    assert {path.name for path in tmp_path.iterdir()} == {"README.md"}


def test_equal_seeds_play_equal_games_of_atari(tmp_path):
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        out = tmp_path / f"{name}.parquet"
        done = data("atari", "freeway", "--frames", 700, "--seed", seed, "--out", out)
        assert done.exit_code == 0, done.output
        assert f"{out}: 700 frames of 1 games; learn from them: jepa train {out} --features 'ram_*'" in done.output
    one, same, other = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("one", "same", "other"))
    assert one.equals(same)
    assert not one["ram_014"].equals(other["ram_014"])
    assert one.column_names == ["episode", "frame", "action", "reward", *(f"ram_{i:03d}" for i in range(128))]
    assert json.loads(one.schema.metadata[b"recorded"]) == {"game": "freeway", "policy": "sticky-random", "seed": 1}
    assert [*one["frame"].to_numpy()] == [*range(700)]
    assert read_frames(tmp_path / "one.parquet").features.shape == (700, 128)


@pytest.mark.parametrize(("policy", "low", "high"), [("random", 0.2, 0.5), ("sticky-random", 0.88, 0.98)])
def test_a_policy_goes_on_with_an_action_as_it_is_called(tmp_path, policy, low, high):
    done = data("atari", "freeway", "--frames", 400, "--policy", policy, "--out", tmp_path / "x.parquet")
    assert done.exit_code == 0, done.output
    action = pq.read_table(tmp_path / "x.parquet")["action"].to_numpy()
    assert low < (action[1:] == action[:-1]).mean() < high


def test_episodes_end_with_the_game_and_reward_is_of_the_row_whose_action_brought_it(tmp_path):
    done = data("atari", "pong", "--frames", 2500, "--policy", "random", "--out", tmp_path / "pong.parquet")
    assert done.exit_code == 0, done.output
    table = pq.read_table(tmp_path / "pong.parquet")
    episode, frame, reward = (table[name].to_numpy() for name in ("episode", "frame", "reward"))
    ends = np.flatnonzero(np.diff(episode))
    assert len(ends) > 0
    np.testing.assert_array_equal(frame[ends + 1], 0)
    assert reward[: ends[0] + 1].sum() <= -17
    before = table["ram_013"].to_numpy()  # the score of the computer's player
    lost = np.flatnonzero(reward[: ends[0]] < 0)
    np.testing.assert_array_equal(before[lost + 1].astype(int) - before[lost], 1)


def test_a_stopped_recording_leaves_the_file_that_was_there(tmp_path):
    out = tmp_path / "pong.parquet"
    out.write_bytes(b"of yesterday")
    command = [sys.executable, "-m", "cli", "data", "atari", "pong", "--frames", "10000000", "--out", str(out)]
    for number in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as recording:
            line = recording.stdout.readline()
            assert re.fullmatch(r"\d[\d,]* of 10,000,000 frames, about \d+ s left\n", line)
            recording.send_signal(number)
            _, said = recording.communicate(timeout=30)
        assert recording.returncode == 130
        assert "stopped; nothing was written" in said
    assert [path.name for path in tmp_path.iterdir()] == ["pong.parquet"]
    assert out.read_bytes() == b"of yesterday"


@pytest.mark.parametrize(
    ("command", "missing", "source"),
    [
        ("melee", "jepa_client", "'./client[slippi]'"),
        ("melee", "peppi_py", "'./client[slippi]'"),
        ("atari", "ale_py", "'./client[atari]'"),
    ],
)
def test_without_the_client_the_way_to_it_is_told(command, missing, source):
    program = f"import sys\nsys.modules['{missing}'] = None\nfrom cli.main import main\n"
    program += f"sys.argv = ['jepa', 'data', '{command}', 'x', '--out', 'x.parquet']\nmain()"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"jepa data {command} needs {missing}; install it with: pip install {source}" in done.stderr
