"""The bot for libmelee: it learns from frames, and plays on a console without a game, against a real service."""

import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import melee_bot
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from melee_bot import Bot, Hands, Policy

from jepa_client import JepaClient
from jepa_client.games.melee_layout import COLUMNS, GROUPS, HANDS
from jepa_client.games.umi import game_rows
from tests.support.bundles import TinyModel
from tests.support.console import Button, FakeConsole, FakeController, excerpts, states
from tests.support.scripts import run_example
from tests.support.serving import Server

DELAY = 4
MODEL = TinyModel(
    "melee",
    groups=tuple((name, columns.stop - columns.start) for name, columns in GROUPS.items()),
    names=COLUMNS,
    patches=(tuple(GROUPS),),
    horizons=(0, DELAY),
    actions=tuple(f"prev_{name}" for name in HANDS),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    MODEL.write(models)
    with Server("--models", str(models)) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[JepaClient]:
    with JepaClient(server.url) as client:
        yield client


def ahead(row: np.ndarray, between: np.ndarray) -> np.ndarray:
    """[287] and [DELAY, 13] → [E]"""
    context, one = MODEL.encode(row[None], "context"), np.ones((1, 1), np.float32)
    predicted: np.ndarray = MODEL.predict(context, one, np.array([DELAY], np.float32), between[None])[0]
    return predicted


def test_examples_are_frames_with_the_inputs_between_and_the_one_that_acts_there(client: JepaClient) -> None:
    rows = np.zeros((12, 287), np.float32)
    # The number of the frame that it led to, which is the one before.
    rows[:, GROUPS["prev_action"]] = np.arange(-1, 11)[:, None] / 20
    found, chosen = melee_bot.examples(client, rows, DELAY)
    assert len(found) == len(chosen) == 6
    for i, (embedding, number) in enumerate(zip(found, chosen[:, 0] * 20, strict=True)):
        assert round(float(number)) == i + DELAY + 1
        between = np.repeat(np.arange(i + 1, i + 1 + DELAY)[:, None] / 20, 13, axis=1).astype(np.float32)
        np.testing.assert_allclose(embedding, ahead(rows[i], between), atol=1e-5)
    assert not len(melee_bot.examples(client, rows[: DELAY + 2], DELAY)[0])


def menu() -> Any:
    return SimpleNamespace(menu_state=SimpleNamespace(name="CHARACTER_SELECT"))


def test_it_plays_with_the_inputs_in_flight_and_sends_each_when_it_acts(client: JepaClient) -> None:
    weights = np.random.default_rng(0).normal(size=(MODEL.embed_dim + 1, 13))
    policy = Policy(weights, DELAY)
    games = excerpts()[0], excerpts()[2]
    shown = [menu(), *states(games[0]), None, menu(), menu(), *states(games[1])]
    controller, bot = FakeController(), Bot(client, policy, port=1)
    menus: list[Any] = []
    melee_bot.play(FakeConsole(shown), bot, Hands(controller, Button, DELAY), menus.append)
    assert (bot.answered, bot.late, len(menus)) == (40, 0, 3)
    for game, sent in zip(games, (controller.sent[:20], controller.sent[20:]), strict=True):
        acting = [np.zeros(13, np.float32)] * DELAY
        for frame, row in enumerate(game_rows(game)):
            acting.append(policy(ahead(row, np.stack(acting[frame:]))))
            given = dict(zip(HANDS, acting[frame].tolist(), strict=True))
            told = sent[frame]
            assert {name: told[f"BUTTON_{name[4:].upper()}"] for name in HANDS[:8]} == {
                name: bool(given[name]) for name in HANDS[:8]
            }
            sticks = [*told["BUTTON_MAIN"], *told["BUTTON_C"], told["BUTTON_L trigger"]]
            right = [*((given[name] + 1) / 2 for name in HANDS[8:12]), max(0, given["shoulder"])]
            np.testing.assert_allclose(sticks, right, atol=1e-3)


def test_a_service_that_is_late_leaves_the_last_input() -> None:
    policy = Policy(np.ones((MODEL.embed_dim + 1, 13)), DELAY)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        JepaClient(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.05) as client,
    ):
        bot = Bot(client, policy, port=1)
        chosen = [bot.choose(state) for state in [*states(excerpts()[0])][:2]]
    assert (bot.answered, bot.late) == (0, 2)
    np.testing.assert_array_equal(chosen, np.zeros((2, 13)))


def test_it_learns_from_a_recording_and_says_of_how_much(server: Server, tmp_path: Path) -> None:
    rows = np.concatenate([game_rows(frames) for frames in excerpts()])
    columns = {name: rows[:, i] for i, name in enumerate(COLUMNS)}
    pq.write_table(pa.table({"episode": np.repeat(np.arange(4), 20), **columns}), tmp_path / "games.parquet")
    out = tmp_path / "policy.npz"
    command = ["--url", server.url, "learn", tmp_path / "games.parquet", "--delay", DELAY, "--out", out]
    done = run_example("melee_bot.py", *command)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "learned from 56 frames of 4 games, 4 frames ahead\n"
    policy = Policy.load(out)
    assert policy.delay == DELAY
    # No other weights are nearer to what was played, but for the ridge.
    with JepaClient(server.url) as client:
        pairs = [melee_bot.examples(client, game, DELAY) for game in np.split(rows, 4)]
    known = np.hstack([np.concatenate([each for each, _ in pairs]), np.ones((56, 1))])
    wrong = known @ policy.weights - np.concatenate([each for _, each in pairs])
    np.testing.assert_allclose(known.T @ wrong / 56, np.zeros_like(policy.weights), atol=5e-3)


def test_what_does_not_fit_is_said(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "games.parquet"
    pq.write_table(pa.table({"episode": [0], "own_x": [0.0]}), path)
    done = run_example("melee_bot.py", "--url", server.url, "learn", path)
    assert done.returncode == 1
    assert "lacks 286 of the 287 columns" in done.stderr
