"""`jepa data melee`: converts Melee replays to frames for `jepa train`, with the code that fills a live bot's rows."""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer
from rich.console import Console

from cli.data.writer import Recording, stopping
from cli.progress import Meter
from jepa_client.games.melee import replay_rows
from jepa_client.games.melee_layout import COLUMNS, GROUPS, LAYOUT
from jepa_client.games.replay import ReplayError
from jepa_client.games.slippi import read_replay

console = Console(highlight=False, soft_wrap=True)
# Exit status if some replays could not be read.
SOME_SKIPPED = 3
SCHEMA = pa.schema(
    [("episode", pa.int32()), ("frame", pa.int32()), *((name, pa.float32()) for name in COLUMNS)],
    {
        "layout": LAYOUT,
        "groups": json.dumps([[name, columns.start, columns.stop] for name, columns in GROUPS.items()]),
    },
)


def melee(
    replays: Annotated[list[str], typer.Argument(help="Replay files (.slp), or folders or globs of them")],
    out: Annotated[Path, typer.Option(help="The .parquet file to write, one row per frame")],
) -> None:
    """Convert Melee replays to frames to train on; the exit status is 3 if broken replays were skipped."""
    paths = _find(replays)
    with stopping(), Recording(out, SCHEMA) as recording:
        games = _convert(paths, recording)
        recording.describe({"replays": json.dumps(games)})
        if not games:
            raise ValueError("none of the replays could be read; nothing was written")
    console.print(f"{out}: {recording.rows:,} frames of {len(games)} games; learn from them: jepa train {out}")
    if skipped := len(paths) - len(games):
        console.print(f"{skipped} of {len(paths)} replays were skipped")
        raise typer.Exit(SOME_SKIPPED)


def _find(sources: list[str]) -> list[Path]:
    """The replay files that the sources name, each once and sorted by path."""
    found: set[Path] = set()
    for source in sources:
        path = Path(source)
        if path.is_dir():
            matches = [*path.rglob("*.slp")]
        else:
            matches = [path] if path.is_file() else [*Path(path.anchor or ".").glob(str(path.relative_to(path.anchor)))]
        # A pipe may never end.
        matches = [match for match in matches if match.is_file()]
        if not matches:
            raise FileNotFoundError(f"{source}: no such file, no replay (.slp) in it, and no match for it as a pattern")
        found.update(matches)
    return sorted(found)


def _convert(paths: list[Path], recording: Recording) -> list[str]:
    """Records the replays that can be read as episodes 0, 1, … and returns their names."""
    games: list[str] = []
    with Meter(console, len(paths), "replays") as meter:
        for done, path in enumerate(paths, 1):
            try:
                rows, frame = replay_rows(read_replay(path))
            except (ReplayError, OSError) as error:
                console.print(f"skipped {path}: {error}", style="yellow")
            else:
                episode = np.full(len(rows), len(games), np.int32)
                recording.write(pa.table([episode, frame, *rows.T], schema=SCHEMA))
                games.append(path.name)
            meter.at(done)
    return games
