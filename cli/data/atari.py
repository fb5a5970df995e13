"""`jepa data atari`: records the memory of Atari games played at random as frames for `jepa train`."""

import json
from collections.abc import Iterator
from contextlib import closing
from functools import cache, partial
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import gymnasium
import numpy as np
import pyarrow as pa
import typer
from gymnasium.spaces import Discrete
from numpy.typing import NDArray
from rich.console import Console

from app.system.cores import available_cores
from cli.data.arguments import JobsOption
from cli.data.parts import Parts, Task, name_of
from cli.data.writer import Recording, stopping
from cli.progress import Meter
from jepa_client.games.atari import COLUMNS, make_atari
from jepa_client.rows import Rows

console = Console(highlight=False, soft_wrap=True)
# The probability with which the sticky-random policy repeats its last action.
REPEAT_PROBABILITY = 0.9
SCHEMA = pa.schema([
    ("episode", pa.int32()), ("frame", pa.int32()), ("action", pa.int8()), ("reward", pa.float32()),
    *((name, pa.uint8()) for name in COLUMNS),
])  # fmt: skip


def atari(
    game: Annotated[str, typer.Argument(help="Name of the game, such as pong, breakout or ms_pacman")],
    out: Annotated[Path, typer.Option(help="The .parquet file to write, one row per step")],
    frames: Annotated[int, typer.Option(min=1, help="Rows to record, one every four frames of the game")] = 100_000,
    policy: Annotated[
        Literal["random", "sticky-random"],
        typer.Option(help="sticky-random repeats each action for about ten steps"),
    ] = "sticky-random",
    seed: Annotated[int, typer.Option(min=0, help="Random seed; the same seed gives the same games")] = 0,
    jobs: JobsOption = None,
) -> None:
    """Record the 128 bytes of memory of Atari games played at random."""
    about = {"recorded": json.dumps({"game": game, "policy": policy, "seed": seed})}
    # Refuses a game that there is not, before anything is written.
    _environment(game)
    with (
        stopping(out),
        Recording(out, SCHEMA.with_metadata(about)) as recording,
        closing(Parts(recording.folder, jobs or available_cores()).tables(_tasks(game, policy, seed, frames))) as games,
        Meter(console, frames, "frames") as meter,
    ):
        played = 0
        for table in games:
            played += 1
            recording.write(table.slice(0, frames - recording.rows))
            meter.at(recording.rows)
            if recording.rows == frames:
                break
    console.print(f"{out}: {frames:,} frames of {played} games; learn from them: jepa train {out} --features 'ram_*'")


def _tasks(game: str, policy: str, seed: int, frames: int) -> Iterator[Task]:
    about = version("jepa-serve"), version("ale-py"), game, policy, seed, frames
    for episode in count():
        yield Task(name_of(*about, episode), partial(play, game, policy, seed, episode, frames))


@cache
def _environment(game: str) -> gymnasium.Env[Rows, Any]:
    return make_atari(game)


def play(game: str, policy: str, seed: int, episode: int, max_frames: int) -> pa.Table:
    """The rows of one game, with the memory as it was before each action; a game depends on its seed and number alone,
    so that any process may play it."""
    env, rng = _environment(game), np.random.default_rng([seed, episode])
    repeat_probability = REPEAT_PROBABILITY if policy == "sticky-random" else 0.0
    actions = cast(Discrete, env.action_space)
    memory, _ = env.reset(seed=seed + episode)
    memories, taken, rewards = list[NDArray[np.uint8]](), list[int](), list[float]()
    action, over = 0, False
    while not over and len(memories) < max_frames:
        if rng.random() >= repeat_probability:
            action = int(rng.integers(actions.n))
        memories.append(memory.astype(np.uint8))
        memory, reward, ended, cut, _ = env.step(action)
        taken.append(action)
        rewards.append(float(reward))
        over = ended or cut
    frame = np.arange(len(memories), dtype=np.int32)
    return pa.table([np.full_like(frame, episode), frame, taken, rewards, *np.stack(memories, axis=1)], schema=SCHEMA)
