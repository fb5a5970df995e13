"""`jepa data melee`: converts Melee replays to frames for `jepa train`, with the code that fills a live bot's rows."""

import json
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer
from rich.console import Console

from app.system.cores import available_cores
from cli.data import replays as of_replays
from cli.data.arguments import JobsOption
from cli.data.parts import Parts, Task
from cli.data.writer import Recording, stopping
from cli.progress import Meter

console = Console(highlight=False, soft_wrap=True, markup=False)
# Exit status if some replays could not be read.
SOME_SKIPPED = 3


def melee(
    replays: Annotated[list[str], typer.Argument(help="Replay files (.slp), or folders or globs of them")],
    out: Annotated[Path, typer.Option(help="The .parquet file to write, one row per frame")],
    labels: Annotated[bool, typer.Option("--labels", help="Add the labels y_* that `jepa eval` measures by")] = False,
    jobs: JobsOption = None,
) -> None:
    """Convert Melee replays to frames to train on; the exit status is 3 if broken replays were skipped."""
    paths = of_replays.find(replays)
    with stopping(out), Recording(out, of_replays.schema(labels=labels)) as recording:
        games = _convert(paths, recording, labels, jobs or available_cores())
        recording.describe({"replays": json.dumps(games)})
    if not games:
        raise ValueError("none of the replays could be read; nothing was written")
    console.print(f"{out}: {recording.rows:,} frames of {len(games)} games; learn from them: jepa train {out}")
    if labels:
        console.print(f"measure a model by their labels: jepa eval default {out}")
    if skipped := len(paths) - len(games):
        console.print(f"{skipped} of {len(paths)} replays were skipped")
        raise typer.Exit(SOME_SKIPPED)


def _convert(paths: list[Path], recording: Recording, labels: bool, jobs: int) -> list[str]:
    """Records the replays that can be read as episodes 0, 1, … and returns their names."""
    batches = [*of_replays.batches(map(of_replays.file, paths))]
    tasks = [_task(batch, labels) for batch in batches]
    parts = Parts(recording.folder, min(jobs, len(batches)))
    if kept := sum(len(batch) for batch, task in zip(batches, tasks, strict=True) if parts.has(task)):
        console.print(f"going on: {kept} of {len(paths)} replays are converted already")
    games: list[str] = []
    done = 0
    with Meter(console, len(paths), "replays") as meter, closing(parts.tables(tasks)) as tables:
        for batch, table in zip(batches, tables, strict=True):
            episode = pa.array(table["episode"].to_numpy() + np.int32(len(games)))
            recording.write(table.set_column(0, "episode", episode))
            for path, outcome in zip(paths[done : done + len(batch)], of_replays.outcomes(table.schema), strict=True):
                if outcome.frames:
                    games.append(path.name)
                if remark := of_replays.sentence(path, outcome):
                    console.print(remark, style="yellow")
            done += len(batch)
            meter.at(done)
    return games


def _task(batch: list[of_replays.File], labels: bool) -> Task:
    paths = [Path(file.path) for file in batch]
    return Task(
        of_replays.part_name(batch, labels=labels),
        partial(of_replays.convert, paths, labels=labels),
        partial(of_replays.convert_apart, paths, labels=labels),
    )
