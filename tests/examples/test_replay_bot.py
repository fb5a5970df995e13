"""The example bot, run as the README says against a real server, and its arithmetic without one."""

import re
import time
from functools import partial

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from replay_bot import send_at_rate, what_happened

from bundle.folders import locate
from bundle.manifest import read_manifest
from tests.support.replays import duel, game
from tests.support.scripts import run_example
from tests.support.serving import Server

bot = partial(run_example, "replay_bot.py")
NAMES = read_manifest(locate("default")).feature_schema.names


@pytest.fixture(scope="module")
def server():
    with Server() as server:
        yield server


@pytest.fixture
def two_games(tmp_path):
    """Games 7 and 9, of 40 and 100 frames; as in the game, the first frame is number -39."""
    rows = np.random.default_rng(0).random((140, len(NAMES))).astype(np.float32)
    columns = {name: rows[:, i] for i, name in enumerate(NAMES)}
    path = tmp_path / "games.parquet"
    frame = [*range(-39, 1), *range(-39, 61)]
    pq.write_table(pa.table({"episode": [7] * 40 + [9] * 100, "frame": frame, **columns}), path)
    return path


def test_without_a_file_it_plays_a_scripted_match_and_says_so(server):
    played = bot("--url", server.url, "--seconds", 2.5)
    assert played.returncode == 0, played.stderr
    assert "scripted match" in played.stdout
    assert "150 frames at 60 Hz: p50 " in played.stdout
    assert re.fullmatch(r"played 2 of 2 s, \d+ frames late\n", played.stderr)
    assert re.search(r"of which queue and model took p50 (?!0\.0+ )\d+\.\d+ ms", played.stdout)
    assert "frames late (over 16.67 ms" in played.stdout
    assert re.search(r"most surprising moments .*\n( +0:0\d\.\d\d  frame \d+  percentile [\d.]+ .*\n)+", played.stdout)


def test_a_file_that_is_not_there_is_said_to_be_missing_whatever_it_would_need(server):
    for name in ("nowhere.slp", "nowhere.parquet"):
        played = bot("--url", server.url, name)
        assert (played.returncode, played.stderr) == (1, f"there is no file {name}\n")


def test_a_file_is_played_one_game_at_a_time(server, two_games):
    first = bot("--url", server.url, two_games)
    assert "40 frames, 1 s" in first.stdout
    assert "no surprise to report" in first.stdout
    second = bot("--url", server.url, two_games, "--episode", 9, "--hz", 120)
    assert "100 frames at 120 Hz" in second.stdout
    assert re.search(r" -?0:00\.\d\d  frame -?\d+  percentile", second.stdout)


def test_a_replay_is_played_from_where_the_players_can_act(server, tmp_path):
    (tmp_path / "game.slp").write_bytes(game(duel(150, first=-123)))
    played = bot("--url", server.url, tmp_path / "game.slp", "--hz", 240)
    assert "66 frames at 240 Hz" in played.stdout, played.stderr
    assert re.search(r" -?0:00\.\d\d  frame -?\d+  percentile .* own idle; opp idle", played.stdout)


def test_a_broken_replay_is_named(server, tmp_path):
    (tmp_path / "game.slp").write_bytes(game(duel())[:500])
    played = bot("--url", server.url, tmp_path / "game.slp")
    assert played.returncode == 1
    assert f"cannot read {tmp_path / 'game.slp'}: it was never finished" in played.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--episode", 8], "has no episode 8; it has 2, such as 7"),
        (["--model", "pong"], "no model 'pong'; it has ['melee']"),
    ],
)
def test_what_is_not_there_is_named(server, two_games, arguments, message):
    played = bot("--url", server.url, two_games, *arguments)
    assert played.returncode == 1
    assert message in played.stderr


def test_a_file_of_other_columns_is_named(server, tmp_path):
    pq.write_table(pa.table({"ram_000": [1.0]}), tmp_path / "pong.parquet")
    played = bot("--url", server.url, tmp_path / "pong.parquet")
    assert played.returncode == 1
    assert "has no column 'own_percent'" in played.stderr


def test_a_file_that_is_no_parquet_is_named(server):
    played = bot("--url", server.url, __file__)
    assert played.returncode == 1
    assert f"cannot read {__file__}" in played.stderr


def test_rows_that_the_service_refuses_end_it_with_the_services_words(server, tmp_path):
    pq.write_table(pa.table({name: [float("nan")] * 3 for name in NAMES}), tmp_path / "holes.parquet")
    played = bot("--url", server.url, tmp_path / "holes.parquet")
    assert played.returncode == 1
    assert "refused with 422" in played.stderr
    assert "own_percent) is NaN" in played.stderr


def test_without_a_service_it_says_how_to_start_one():
    played = bot("--url", "http://127.0.0.1:9")
    assert played.returncode == 1
    assert "start it with: make serve" in played.stderr


def test_a_late_answer_makes_the_frames_behind_it_late_too():
    waits = iter([0.1, 0, 0])

    def answer(_):
        time.sleep(next(waits))
        return httpx.Response(200)

    with httpx.Client(transport=httpx.MockTransport(answer), base_url="http://bot") as client:
        latencies, _ = send_at_rate(client, np.zeros((3, 4), "<f4"), hz=100)
    assert latencies[0] >= 0.1
    assert latencies[1] >= 0.09
    assert latencies[2] >= 0.08


def test_a_frame_that_a_busy_service_refuses_never_arrived():
    statuses = iter([200, 429, 504])
    timing = {"Server-Timing": "queue;dur=0.5, infer;dur=1.25"}
    transport = httpx.MockTransport(lambda _: httpx.Response(next(statuses), headers=timing))
    with httpx.Client(transport=transport, base_url="http://bot") as client:
        latencies, computing = send_at_rate(client, np.zeros((3, 4), "<f4"), hz=1000)
    assert [*np.isinf(latencies)] == [False, True, True]
    np.testing.assert_allclose(computing, [0.00175, 0, 0])


def test_columns_are_told_in_words():
    names = ["own_percent", "own_stock", "own_act_idle", "own_act_damage"]
    names += [name.replace("own", "opp") for name in names]
    before = np.array([0.1, 1.0, 1, 0, 0.5, 0.75, 1, 0])
    after = np.array([0.22, 1.0, 0, 1, 0.0, 0.5, 1, 0])
    assert what_happened(names, before, after) == "own idle to damage, takes 12 %; opp idle, loses a stock"
    assert what_happened(["ram_000"], before, after) == ""
