"""`jepa data atari`: records the memory of an Atari game played at random as frames for `jepa train`."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal, cast

import numpy as np
import pyarrow as pa
import typer
from gymnasium.spaces import Discrete
from numpy.typing import NDArray
from rich.console import Console

from cli.data.writer import Recording, stopping
from cli.progress import Meter
from jepa_client.games.atari import COLUMNS, make_atari

console = Console(highlight=False, soft_wrap=True)
# Rows written to the Parquet file at a time.
ROWS_PER_GROUP = 5_000
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
) -> None:
    """Record the 128 bytes of memory of an Atari game played at random."""
    about = {"recorded": json.dumps({"game": game, "policy": policy, "seed": seed})}
    with (
        stopping(),
        Recording(out, SCHEMA.with_metadata(about)) as recording,
        Meter(console, frames, "frames") as meter,
    ):
        played = play(game, policy, seed)
        while left := frames - recording.rows:
            *steps, memories = zip(*islice(played, min(left, ROWS_PER_GROUP)), strict=True)
            recording.write(pa.table([*steps, *np.stack(memories, axis=1)], schema=SCHEMA))
            meter.at(recording.rows)
    episodes = steps[0][-1] + 1
    console.print(f"{out}: {frames:,} frames of {episodes} games; learn from them: jepa train {out} --features 'ram_*'")


def play(game: str, policy: str, seed: int) -> Iterator[tuple[int, int, int, float, NDArray[np.uint8]]]:
    """Yields (episode, frame, action, reward, memory [128]) endlessly, with the memory as it was before the action."""
    env, rng = make_atari(game), np.random.default_rng(seed)
    repeat_probability = REPEAT_PROBABILITY if policy == "sticky-random" else 0.0
    actions = cast(Discrete, env.action_space)
    episode, frame, action = 0, 0, 0
    memory, _ = env.reset(seed=seed)
    while True:
        if rng.random() >= repeat_probability:
            action = int(rng.integers(actions.n))
        after, reward, ended, cut, _ = env.step(action)
        yield episode, frame, action, float(reward), memory.astype(np.uint8)
        memory, frame = after, frame + 1
        if ended or cut:
            memory, _ = env.reset()
            episode, frame = episode + 1, 0
