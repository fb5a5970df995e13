"""The first hour's example records games as its page says, and says what it lacks.

That all of it runs, from the recording to the bot, is tested with the page in `tests/docs`.
"""

import csv
from functools import partial
from itertools import pairwise

import pytest
from cartpole import COLUMNS, FALLS_WITHIN_FRAMES, record

from tests.support.bundles import TinyModel
from tests.support.scripts import run_example
from tests.support.serving import Server

example = partial(run_example, "cartpole.py")


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    file = tmp_path_factory.mktemp("games") / "cartpole.csv"
    record(file, games=3)
    return file


@pytest.fixture(scope="module")
def games(recording):
    with recording.open(newline="") as text:
        rows = list(csv.DictReader(text))
    return [[row for row in rows if row["episode"] == str(episode)] for episode in range(3)]


def test_each_game_is_whole_and_counted(games):
    for game in games:
        assert [int(row["frame"]) for row in game] == list(range(len(game)))
        assert [row["terminated"] for row in game[:-1]] == ["False"] * (len(game) - 1)
        assert {row["action"] for row in game} == {"0", "1"}


def test_a_row_is_what_the_player_saw_before_it_acted(games):
    """The cart is pushed by 10 N in each of 50 frames a second, so its speed rises with a push to the right."""
    for game in games:
        for now, later in pairwise(game):
            faster = float(later["cart_speed"]) > float(now["cart_speed"])
            assert faster == (now["action"] == "1")


def test_the_label_says_whether_the_pole_falls_soon(games):
    for game in games:
        falls = game[-1]["terminated"] == "True"
        expected = [falls and len(game) - frame <= FALLS_WITHIN_FRAMES for frame in range(len(game))]
        assert [row["y_falls"] == "1" for row in game] == expected


def test_the_same_games_are_recorded_each_time(recording, tmp_path):
    record(tmp_path / "again.csv", games=3)
    assert (tmp_path / "again.csv").read_bytes() == recording.read_bytes()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    TinyModel().write(models)
    with Server("--models", str(models)) as server:
        yield server


def test_what_it_lacks_is_said(server, recording, tmp_path):
    for arguments, message in [
        (["--recording", recording, "--url", "http://127.0.0.1:9"], "http://127.0.0.1:9"),
        (["--recording", recording, "--url", server.url], "loaded: 'tiny'"),
        (["--recording", tmp_path / "none.csv", "--url", server.url], "none.csv"),
    ]:
        played = example("play", *arguments)
        assert played.returncode == 1
        assert played.stderr.startswith("error: ")
        assert message in played.stderr.splitlines()[0]


def test_a_recording_has_the_columns_that_the_bot_sends(games):
    assert list(games[0][0]) == ["episode", "frame", *COLUMNS, "action", "terminated", "y_falls"]
