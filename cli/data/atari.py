"""`jepa data atari`: the memory of an Atari game that is played at random, as frames for `jepa train`."""

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

from cli.data.recording import Meter, Recording, stopping
from jepa_client.games.atari import COLUMNS, make_atari

console = Console(highlight=False, soft_wrap=True)
ROWS_A_GROUP = 5_000
KEPT = 0.9  # how often a sticky-random policy presses what it pressed before
SCHEMA = pa.schema([
    ("episode", pa.int32()), ("frame", pa.int32()), ("action", pa.int8()), ("reward", pa.float32()),
    *((name, pa.uint8()) for name in COLUMNS),
])  # fmt: skip


def atari(
    game: Annotated[str, typer.Argument(help="Such as pong, breakout, ms_pacman")],
    out: Annotated[Path, typer.Option(help="The .parquet to write, one row a step")],
    frames: Annotated[int, typer.Option(min=1, help="Rows to record, each of four frames of the game")] = 100_000,
    policy: Annotated[
        Literal["random", "sticky-random"],
        typer.Option(help="sticky-random goes on with an action for ten steps or so"),
    ] = "sticky-random",
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal games")] = 0,
) -> None:
    """Record the 128 bytes of memory of an Atari game that is played at random."""
    try:
        about = {"recorded": json.dumps({"game": game, "policy": policy, "seed": seed})}
        with (
            stopping(),
            Recording(out, SCHEMA.with_metadata(about)) as recording,
            Meter(console, frames, "frames") as meter,
        ):
            played = play(game, policy, seed)
            while left := frames - recording.rows:
                *steps, memories = zip(*islice(played, min(left, ROWS_A_GROUP)), strict=True)
                recording.write(pa.table([*steps, *np.stack(memories, axis=1)], schema=SCHEMA))
                meter.at(recording.rows)
    except (ValueError, OSError) as error:
        console.print(f"error: {error}", style="red")
        raise typer.Exit(1) from None
    episodes = steps[0][-1] + 1
    console.print(f"{out}: {frames:,} frames of {episodes} games; learn from them: jepa train {out} --features 'ram_*'")


def play(game: str, policy: str, seed: int) -> Iterator[tuple[int, int, int, float, NDArray[np.uint8]]]:
    """(episode, frame, action, reward, memory [128]) without end: the memory is from before the action."""
    env, rng = make_atari(game), np.random.default_rng(seed)
    kept = KEPT if policy == "sticky-random" else 0.0
    actions = cast(Discrete, env.action_space)
    episode, frame, action = 0, 0, 0
    memory, _ = env.reset(seed=seed)
    while True:
        if rng.random() >= kept:
            action = int(rng.integers(actions.n))
        after, reward, ended, cut, _ = env.step(action)
        yield episode, frame, action, float(reward), memory.astype(np.uint8)
        memory, frame = after, frame + 1
        if ended or cut:
            memory, _ = env.reset()
            episode, frame = episode + 1, 0
