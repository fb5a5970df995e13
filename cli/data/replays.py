"""Melee replays as a table of frames: which replays there are, and what a process makes of some of them."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from cli.data.parts import apart, name_of
from jepa_client.games.melee import replay_labels, replay_rows
from jepa_client.games.melee_labels import COARSE_CLASSES, LABELS
from jepa_client.games.melee_layout import CHARACTERS, COLUMNS, GROUPS, LAYOUT, STAGES
from jepa_client.games.replay import ReplayError
from jepa_client.games.slippi import read_replay

# Replays are converted together until they are as large as this, some 20,000 frames.
BATCH_BYTES = 8 << 20
# Where the metadata of a table has what became of each replay.
OUTCOMES = b"outcomes"


class File(NamedTuple):
    """A replay somewhere, and what says whether it is still the same one."""

    path: str
    size: int
    written_ns: int


class Outcome(NamedTuple):
    """What became of a replay: how many of its frames were read, none if it was skipped, and the number of the last;
    and what there is to say of it, if anything."""

    frames: int
    last: int
    remark: str


def find(sources: Sequence[str]) -> list[Path]:
    """The replay files that files, folders and patterns name, each once and sorted by path."""
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


def file(path: Path) -> File:
    """A replay on this machine. One that is gone is said to be so when it is read."""
    with suppress(OSError):
        about = path.stat()
        return File(str(path.absolute()), about.st_size, about.st_mtime_ns)
    return File(str(path.absolute()), 0, 0)


def batches(files: Iterable[File]) -> Iterator[list[File]]:
    """The replays in their order, in batches to convert at once, which do not depend on the number of processes."""
    batch, size = list[File](), 0
    for each in files:
        batch.append(each)
        size += each.size
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def part_name(batch: Sequence[File], *, labels: bool) -> str:
    """A name for what is made of a batch, which changes with the files, the program and the options."""
    return name_of(version("jepa-serve"), LAYOUT, labels, batch)


@cache
def schema(*, labels: bool) -> pa.Schema:
    """The columns of frames, and what is said of them."""
    about = {
        "layout": LAYOUT,
        "groups": json.dumps([[name, columns.start, columns.stop] for name, columns in GROUPS.items()]),
    }
    if labels:
        about |= {"coarse_classes": json.dumps([*COARSE_CLASSES]), "chars": json.dumps(CHARACTERS)}
        about |= {"stages": json.dumps(STAGES)}
    columns = [("episode", pa.int32()), ("frame", pa.int32()), *((name, pa.float32()) for name in COLUMNS)]
    return pa.schema(columns + [(name, pa.int8()) for name in LABELS if labels], about)


def convert(batch: Sequence[Path], *, labels: bool) -> pa.Table:
    """The frames of replays as episodes 0, 1, …, without those that cannot be read; `outcomes` has all of them."""
    return _together([_converted(path, labels) for path in batch], labels)


def convert_apart(batch: Sequence[Path], *, labels: bool) -> pa.Table:
    """As `convert`, with a process for each replay; one whose process ends is skipped."""
    found = []
    for path in batch:
        lost = None, Outcome(0, 0, "the process that read it ended before its time, by a crash or for want of memory")
        found.append(apart(partial(_converted, path, labels)) or lost)
    return _together(found, labels)


def _converted(path: Path, labels: bool) -> tuple[pa.Table | None, Outcome]:
    """The frames of a replay as episode 0, if it can be read."""
    try:
        with _quiet():
            replay = read_replay(path)
        rows, frame = replay_rows(replay)
    except (ReplayError, OSError) as error:
        return None, Outcome(0, 0, str(error))
    more = replay_labels(replay).values() if labels else ()
    table = pa.table([np.zeros(len(rows), np.int32), frame, *rows.T, *more], schema=schema(labels=labels))
    return table, Outcome(len(rows), int(frame[-1]), replay.unfinished)


def _together(found: Sequence[tuple[pa.Table | None, Outcome]], labels: bool) -> pa.Table:
    kind = schema(labels=labels)
    read = [table for table, _ in found if table is not None]
    numbered = [
        table.set_column(0, kind.field("episode"), pa.array(np.full(len(table), number, np.int32)))
        for number, table in enumerate(read)
    ]
    whole = pa.concat_tables(numbered) if numbered else kind.empty_table()
    outcomes = json.dumps([outcome for _, outcome in found])
    return whole.combine_chunks().replace_schema_metadata({**(kind.metadata or {}), OUTCOMES: outcomes})


@contextmanager
def _quiet() -> Iterator[None]:
    """Within the block nothing comes out at standard error, where peppi's Rust tells what its exception tells too."""
    try:
        kept = os.dup(2)
    except OSError:
        # There is none.
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def outcomes(kind: pa.Schema) -> list[Outcome]:
    """What became of each replay of a batch, by the schema of the table that `convert` made of it."""
    return [Outcome(*each) for each in json.loads(kind.metadata[OUTCOMES])]


def sentence(replay: object, outcome: Outcome) -> str:
    """What there is to say of a replay, or nothing."""
    if outcome.frames == 0:
        return f"skipped {replay}: {outcome.remark}"
    return f"{replay}: {outcome.remark}; its frames up to {outcome.last} are read" if outcome.remark else ""
