"""Plays Melee at a delay: a linear policy on the embedding of the frame on which its next input will act.

    jepa data melee replays/*.slp --out games.parquet
    python examples/melee_bot.py learn games.parquet --delay 18 --out policy.npz
    python examples/melee_bot.py play policy.npz --dolphin ~/slippi --iso melee.iso --port 1

`learn` imitates the player whose columns are `own`, from what the service predicts of recorded frames given the inputs
that followed. `play` steers libmelee (./client[melee]) and keeps the inputs in flight. The service needs a model
that takes actions, and for `learn` memory for all frames.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jepa_client import DeadlineExpired, Delay, JepaClient, JepaError, QueueFull
from jepa_client.games.melee import LiveRows
from jepa_client.games.melee_layout import COLUMNS, GROUPS, HANDS

PREV = GROUPS["prev_action"]
NEUTRAL = np.zeros(len(HANDS), np.float32)
BUTTONS = [name for name in HANDS if name.startswith("btn_")]
# Rows in one request, each with the inputs of `delay` frames.
ROWS_A_REQUEST = 256
# Added to the diagonal of the normal equations, as a share of its mean.
RIDGE = 1e-3
# The service may take this long for a frame, of which there are 60 a second.
FRAME_S = 0.016


class Policy(NamedTuple):
    """From embeddings [E] to an input [13]: `weights` [E + 1, 13], a constant last."""

    weights: np.ndarray
    delay: int

    def __call__(self, embedding: np.ndarray) -> np.ndarray:
        """[E] → [13]; buttons are 0 or 1, sticks from −1 to 1."""
        chosen = np.append(embedding, 1) @ self.weights
        pressed = chosen[: len(BUTTONS)] > 0.5
        return np.concatenate([pressed, chosen[len(BUTTONS) :].clip(-1, 1)]).astype(np.float32)

    def save(self, path: Path) -> None:
        np.savez(path, weights=self.weights, delay=self.delay)

    @classmethod
    def load(cls, path: Path) -> "Policy":
        with np.load(path) as stored:
            return cls(stored["weights"], int(stored["delay"]))


def examples(client: JepaClient, rows: np.ndarray, delay: int) -> tuple[np.ndarray, np.ndarray]:
    """Consecutive rows [n, 287] of a game → predicted embeddings of frames `delay` ahead [m, E], and the inputs that
    the player then chose [m, 13]."""
    # The row after a frame has the input that led to that frame.
    led = rows[1:, PREV]  # [n − 1]: led[i] led to frame i
    last = len(led) - delay - 1
    if last <= 0:
        return np.empty((0, 0), np.float32), np.empty((0, len(HANDS)), np.float32)
    between = np.lib.stride_tricks.sliding_window_view(led[1:], delay, axis=0).transpose(0, 2, 1)  # [n − …, delay, 13]
    ahead = [
        client.predict(rows[start:stop], horizon=delay, actions=between[start:stop])
        for start in range(0, last, ROWS_A_REQUEST)
        if (stop := min(start + ROWS_A_REQUEST, last))
    ]
    # The input that acts on frame i + delay leads to the next.
    return np.concatenate(ahead), led[delay + 1 :][:last]


def learn(client: JepaClient, games: list[np.ndarray], delay: int) -> Policy:
    """A ridge regression on all games, [n, 287] each."""
    squares, products, count = np.zeros(()), np.zeros(()), 0
    for rows in games:
        ahead, chosen = examples(client, rows, delay)
        if len(ahead):
            known = np.hstack([ahead, np.ones((len(ahead), 1))])
            squares, products = squares + known.T @ known, products + known.T @ chosen
            count += len(ahead)
    if not count:
        raise ValueError(f"no game is longer than {delay + 2} frames; record longer ones")
    print(f"learned from {count:,} frames of {len(games)} games, {delay} frames ahead")
    return Policy(
        np.linalg.solve(squares + RIDGE * squares.trace() / len(squares) * np.eye(len(squares)), products), delay
    )


def read_games(path: Path) -> list[np.ndarray]:
    """The games in a Parquet file that `jepa data melee` made, [n, 287] each."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    if missing := {*COLUMNS} - {*table.column_names}:
        raise ValueError(f"{path} lacks {len(missing)} of the 287 columns, such as {min(missing)}; see jepa data melee")
    rows = np.stack([table[name].to_numpy().astype(np.float32) for name in COLUMNS], axis=1)
    episode = table["episode"].to_numpy()
    return np.split(rows, np.flatnonzero(np.diff(episode)) + 1)


class Bot:
    """Chooses an input for each frame; `answered` and `late` count those that the service answered in time or not."""

    def __init__(self, client: JepaClient, policy: Policy, port: int) -> None:
        self._policy, self._rows = policy, LiveRows(port)
        self._delay = Delay(client, policy.delay, idle=NEUTRAL)
        self._frame, self._chosen = -(10**6), NEUTRAL
        self.answered = self.late = 0

    def choose(self, state: Any) -> np.ndarray:
        """The input [13] for a GameState in which a game is played."""
        if state.frame < self._frame:
            self._delay.reset()
        self._frame = state.frame
        try:
            self._chosen = self._policy(self._delay.embed(self._rows.row(state)))
            self.answered += 1
        except (DeadlineExpired, QueueFull):
            # The last input goes on.
            self.late += 1
        self._delay.press(self._chosen)
        return self._chosen


class Hands:
    """Sends inputs to a libmelee Controller, `delay` frames after they were chosen if the console itself has none."""

    def __init__(self, controller: Any, buttons: Any, delay: int) -> None:
        """`buttons` is melee.Button."""
        self._controller, self._buttons = controller, buttons
        self._waiting = [NEUTRAL] * delay

    def send(self, chosen: np.ndarray) -> None:
        self._waiting.append(chosen)
        acting = dict(zip(HANDS, self._waiting.pop(0).tolist(), strict=True))
        for name in BUTTONS:
            button = self._buttons[f"BUTTON_{name.removeprefix('btn_').upper()}"]
            (self._controller.press_button if acting[name] else self._controller.release_button)(button)
        # libmelee takes axes from 0 to 1.
        for stick, button in (("main", self._buttons.BUTTON_MAIN), ("c", self._buttons.BUTTON_C)):
            x, y = ((acting[f"{stick}_{axis}"] + 1) / 2 for axis in "xy")
            self._controller.tilt_analog(button, x, y)
        self._controller.press_shoulder(self._buttons.BUTTON_L, max(0.0, acting["shoulder"]))
        self._controller.flush()

    def rest(self) -> None:
        """Nothing is played."""
        self._waiting = [NEUTRAL] * len(self._waiting)


def play(console: Any, bot: Bot, hands: Hands, in_menu: Callable[[Any], None]) -> None:
    """Plays whatever the console shows, while it is connected; `in_menu` goes on from a state in which no game runs."""
    while console.connected:
        if (state := console.step()) is None:
            continue
        if state.menu_state.name in ("IN_GAME", "SUDDEN_DEATH"):
            hands.send(bot.choose(state))
        else:
            hands.rest()
            in_menu(state)


def play_live(options: argparse.Namespace, client: JepaClient) -> None:
    # ./client[melee], which tests have no need of.
    import melee  # type: ignore[import-not-found, unused-ignore]

    policy = Policy.load(options.policy)
    console = melee.Console(path=str(options.dolphin))
    controller = melee.Controller(console=console, port=options.port)
    console.run(iso_path=str(options.iso))
    if not (console.connect() and controller.connect()):
        raise ValueError(f"no Dolphin answers at {options.dolphin}; is Slippi's Dolphin there?")
    menus, bot = melee.MenuHelper(), Bot(client, policy, options.port)

    def in_menu(state: Any) -> None:
        menus.menu_helper_simple(
            state, controller, melee.Character[options.character], melee.Stage.FINAL_DESTINATION, autostart=True
        )

    try:
        play(console, bot, Hands(controller, melee.Button, policy.delay), in_menu)
    finally:
        print(f"{bot.answered} frames answered in time, {bot.late} not")
        console.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="where the service is (default: %(default)s)")
    tasks = parser.add_subparsers(dest="task", required=True)
    learning = tasks.add_parser("learn", help="imitates recorded games")
    learning.add_argument("games", type=Path, help="a Parquet file of jepa data melee")
    learning.add_argument("--delay", type=int, default=18, help="frames (default: %(default)s)")
    learning.add_argument("--out", type=Path, default=Path("policy.npz"), help="(default: %(default)s)")
    playing = tasks.add_parser("play", help="plays with libmelee")
    playing.add_argument("policy", type=Path, help="what learn wrote")
    playing.add_argument("--dolphin", type=Path, required=True, help="the folder of Slippi's Dolphin")
    playing.add_argument("--iso", type=Path, required=True, help="the game, version 1.02")
    playing.add_argument("--port", type=int, default=1, help="of the bot (default: %(default)s)")
    playing.add_argument("--character", default="FOX", help="(default: %(default)s)")
    options = parser.parse_args()
    try:
        with JepaClient(options.url, timeout=FRAME_S if options.task == "play" else 60) as client:
            if options.task == "learn":
                learn(client, read_games(options.games), options.delay).save(options.out)
            else:
                play_live(options, client)
    except (JepaError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
