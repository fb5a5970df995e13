"""The example bot, run as the README says, against a real server."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.bundle import locate, read_manifest
from app.settings import DEFAULT_MODEL
from tests.support.serving import Server

BOT = Path(__file__).parents[2] / "examples" / "replay_bot.py"
NAMES = read_manifest(locate("default", DEFAULT_MODEL)).feature_schema.names


@pytest.fixture(scope="module")
def server():
    with Server() as server:
        yield server


def bot(*arguments):
    command = [sys.executable, str(BOT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_without_a_file_it_plays_a_scripted_match_and_says_so(server):
    played = bot("--url", server.url, "--frames", 150)
    assert played.returncode == 0, played.stderr
    assert "scripted match" in played.stdout
    assert "150 frames at 60 Hz: p50 " in played.stdout
    assert "frames late (over 16.67 ms" in played.stdout
    assert "most surprising moments" in played.stdout


def test_a_file_is_played_one_game_at_a_time(server, tmp_path):
    rows = np.random.default_rng(0).random((120, len(NAMES))).astype(np.float32)
    columns = {name: rows[:, i] for i, name in enumerate(NAMES)}
    pq.write_table(pa.table({"episode": [7] * 40 + [9] * 80, **columns}), tmp_path / "games.parquet")
    assert "40 frames, 1 s" in bot("--url", server.url, tmp_path / "games.parquet").stdout
    second = bot("--url", server.url, tmp_path / "games.parquet", "--episode", 9, "--hz", 120)
    assert "80 frames at 120 Hz" in second.stdout


def test_a_file_of_other_columns_is_named(server, tmp_path):
    pq.write_table(pa.table({"ram_000": [1.0]}), tmp_path / "pong.parquet")
    played = bot("--url", server.url, tmp_path / "pong.parquet")
    assert played.returncode == 1
    assert "has no column 'own_percent'" in played.stderr


def test_without_a_service_it_says_how_to_start_one():
    played = bot("--url", "http://127.0.0.1:9")
    assert played.returncode == 1
    assert "start it with: make serve" in played.stderr


def test_the_scripted_match_is_a_match():
    sys.path.insert(0, str(BOT.parent))
    try:
        from scripted_match import play
    finally:
        sys.path.remove(str(BOT.parent))
    rows = play(NAMES, 3600)
    assert rows.shape == (3600, 287)
    assert np.isfinite(rows).all()
    assert np.abs(rows).max() <= 10
    percent = rows[:, NAMES.index("opp_percent")]
    assert percent.max() > 0.3
    assert (np.diff(rows[:, NAMES.index("opp_stock")]) < 0).any()
    actions = [i for i, name in enumerate(NAMES) if name.startswith("own_act_")]
    np.testing.assert_array_equal(rows[:, actions].sum(1), 1)
