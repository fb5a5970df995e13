"""The first hour (docs/first-hour.md) on CartPole: a recording, a model of it, and a bot that asks the model.

    python examples/cartpole.py record    # plays CartPole and writes cartpole.csv
    python examples/cartpole.py play      # plays against the running service, with a policy learned from cartpole.csv
    python examples/cartpole.py all       # both, and the commands of `jepa` in between

Needs ./client[gymnasium]; `all` needs .[train] as well. For a game of your own, replace COLUMNS, GAME and
`careful`, which is how the recorded player acts when it does not act at random.
"""

import argparse
import csv
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from jepa_client import JepaClient, JepaError
from jepa_client.games.gymnasium import EmbedObservation

GAME, MODEL = "CartPole-v1", "cartpole"
COLUMNS = ["cart_x", "cart_speed", "pole_angle", "pole_speed"]
# A row says with `y_falls` whether the game is lost within so many frames.
FALLS_WITHIN_FRAMES = 30
# How far the bot looks ahead; one of the horizons that the model is trained for.
AHEAD_FRAMES = 5
# Games with seeds below this are recorded, those above are played.
FIRST_TEST_SEED = 10_000
ROWS_A_REQUEST = 256
COMMANDS = [
    "inspect cartpole.csv",
    "train cartpole.csv --out models --name cartpole --preset quick --horizon 1 --horizon 5 --horizon 15",
    "eval models/cartpole cartpole.csv --no-trees",
    "report models/cartpole cartpole.csv",
    "heads models/cartpole cartpole.csv --label 'danger = abs(pole_angle) > 0.1'",
]


def careful(state: np.ndarray) -> int:
    """The push, left (0) or right (1), that keeps the pole up."""
    return int(state[2] + state[3] > 0)


def record(file: Path, games: int) -> int:
    """Writes one row a frame of games in which a player errs now and then, and returns how many rows these are."""
    env, luck, rows = gymnasium.make(GAME), np.random.default_rng(0), 0
    with file.open("w", newline="") as text:
        table = csv.writer(text)
        table.writerow(["episode", "frame", *COLUMNS, "action", "terminated", "y_falls"])
        for episode in range(games):
            state, _ = env.reset(seed=episode)
            game: list[list[Any]] = []
            terminated = over = False
            while not (terminated or over):
                action = careful(state) if luck.random() < 0.7 else int(luck.integers(2))
                seen = state.tolist()
                state, _, terminated, over, _ = env.step(action)
                game.append([episode, len(game), *seen, action, terminated])
            for row in game:
                falls = terminated and len(game) - row[1] <= FALLS_WITHIN_FRAMES
                table.writerow([*row, int(falls)])
            rows += len(game)
    return rows


def learned(client: JepaClient, file: Path) -> Callable[[np.ndarray], int]:
    """A linear policy on the embedding that does as the recorded player did: embedding [E] → action."""
    with file.open(newline="") as text:
        rows = list(csv.DictReader(text))
    states = np.array([[row[name] for name in COLUMNS] for row in rows], np.float32)
    pushes = np.array([2 * int(row["action"]) - 1 for row in rows])
    parts = [client.embed(states[i : i + ROWS_A_REQUEST], model=MODEL) for i in range(0, len(states), ROWS_A_REQUEST)]
    embeddings = np.concatenate(parts)
    mean = embeddings.mean(0)
    centred = embeddings - mean
    # Ridge regression.
    weights = np.linalg.solve(centred.T @ centred + np.eye(centred.shape[1]), centred.T @ (pushes - pushes.mean()))
    return lambda embedding: int((embedding - mean) @ weights + pushes.mean() > 0)


def frames_played(env: gymnasium.Env[Any, Any], act: Callable[[np.ndarray], int], games: int) -> float:
    """For how many frames a player keeps the pole up, on average; CartPole ends a game after 500."""
    count = 0
    for game in range(games):
        observation, _ = env.reset(seed=FIRST_TEST_SEED + game)
        over = False
        while not over:
            observation, _, terminated, truncated, _ = env.step(act(observation))
            over = terminated or truncated
            count += 1
    return count / games


def play(client: JepaClient, file: Path, games: int) -> None:
    policy, luck, calls = learned(client, file), np.random.default_rng(1), []

    def careless(_: np.ndarray) -> int:
        return int(luck.integers(2))

    def warned(state: np.ndarray) -> int:
        """Plays at random until the model expects danger, and then as the policy says."""
        danger = client.forecast(state, heads=["danger"], horizon=AHEAD_FRAMES, model=MODEL).values[0]
        calls.append(danger > 0.5)
        return policy(client.embed(state, model=MODEL)) if danger > 0.5 else careless(state)

    env = gymnasium.make(GAME)
    embedded = EmbedObservation(env, client, model=MODEL)
    print(f"frames until the pole falls (at most 500), mean of {games} games")
    print(f"at random                              {frames_played(env, careless, games):6.1f}")
    print(f"at random, warned by /forecast         {frames_played(env, warned, games):6.1f}")
    print(f"a linear policy on the embedding       {frames_played(embedded, policy, games):6.1f}")
    print(f"warned in {np.mean(calls):.0%} of its frames")


def everything(options: argparse.Namespace) -> None:
    """The whole page, command by command, in the folder that the program is run in."""
    # Here and not above, as `play` needs the client alone; in one process, as each would import PyTorch anew.
    from cli.main import app as jepa

    started = time.monotonic()

    def step(what: str) -> None:
        print(f"\n[{time.monotonic() - started:.0f} s] {what}", flush=True)

    step(f"record {options.recording}")
    print(f"{record(options.recording, options.games):,} frames of {options.games} games")
    for command in COMMANDS:
        step(f"jepa {command}")
        more = ["--steps", str(options.steps)] if command.startswith("train") and options.steps else []
        if status := jepa([*shlex.split(command), *more], standalone_mode=False):
            sys.exit(status)
    step("jepa serve --models models")
    port = options.url.rpartition(":")[2]
    with subprocess.Popen([sys.executable, "-m", "cli", "serve", "--models", "models", "--port", port]) as service:
        try:
            with JepaClient(options.url) as client:
                while not client.ready():
                    if service.poll() is not None:
                        sys.exit(f"the service ended with status {service.returncode}")
                    time.sleep(0.1)
                step("play")
                play(client, options.recording, options.tests)
        finally:
            service.terminate()
    step("done")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["record", "play", "all"])
    parser.add_argument("--recording", type=Path, default=Path("cartpole.csv"), help="(default: %(default)s)")
    parser.add_argument("--games", type=int, default=100, help="that are recorded (default: %(default)s)")
    parser.add_argument("--tests", type=int, default=10, help="games that are played (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="of training (default: those of the preset)")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="where the service is (default: %(default)s)")
    options = parser.parse_args()
    try:
        if options.what == "record":
            rows = record(options.recording, options.games)
            print(f"{options.recording}: {rows:,} frames of {options.games} games")
        elif options.what == "play":
            with JepaClient(options.url) as client:
                play(client, options.recording, options.tests)
        else:
            everything(options)
    except (JepaError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
