"""Which game a row is from, and which of its frames it is."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from model.data import columns as of_column
from model.data.ranges import CHUNK_ROWS
from model.data.roles import BY_EXCLUDE, ENDS, STARTS, Column, plain_name

# Of the steps from row to row of a game, frame numbers that count down fall in more than this share.
MIN_SHARE_FALLING = 0.9


class Games(NamedTuple):
    episode: NDArray[np.int64]  # [rows]
    frame: NDArray[np.int64] | None  # [rows]
    # What the data calls episodes 0, 1, …; empty where it numbers them itself.
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    # How many go on from one file to another.
    going_on: int = 0


def games(
    table: pa.Table, keys: Mapping[str, str], roles: Sequence[Column], file: NDArray[np.int64], files: Sequence[str]
) -> Games:
    """By the columns `keys` of the roles episode and frame; without them by what says that a game ends, else a file is
    a game if frames are numbered, and every row is one if they are not."""
    frame = of_column.whole(keys["frame"], table[keys["frame"]]) if "frame" in keys else None
    if column := keys.get("episode"):
        found = of_column.episodes(column, table[column], file, files, frame)
        note = (
            f"{found.going_on:,} times an episode goes on in another file where the frame numbers of the last one end, "
            f"and is read as one game: {column} {found.first}; give each an '{column}' of its own if they are two"
        )
        notes = [note] if found.going_on else []
        if frame is not None and _counts_down(found.number, frame):
            notes.append(
                f"'{keys['frame']}' falls from row to row, and rows are put in the order in which it rises: time runs "
                "backwards if it counts what is left of a game; record how many frames have passed instead"
            )
        return Games(found.number, frame, found.names, tuple(notes), found.going_on)
    flags = [column.name for column in roles if column.role == "left out" and column.why != BY_EXCLUDE]
    if (begins := _beginnings(table, flags, file)) is not None:
        first, by = begins
        episode = np.cumsum(first) - 1
        if frame is None:
            frame = np.arange(len(table)) - np.flatnonzero(first)[episode]
        note = (
            f"no column tells games apart: one ends where {by} says so, and its rows are taken in their order; name a "
            "column with --episode if that is wrong"
        )
        return Games(episode, frame, (), (note,))
    if frame is None:
        notes = [*_of_no_use(table, flags)]
        if len(files) > 1 and not notes:
            notes.append(
                "no column tells games apart or counts their frames, so every row is taken for a game of its own; if a "
                f"file is a game, as {files[0]} may be, add a column 'frame' that counts its rows"
            )
        return Games(np.arange(len(table)), None, (), tuple(notes))
    if (starts := _begins_again(frame, file)) is not None:
        note = (
            f"no column tells games apart: one begins in each of the {starts.sum():,} rows in which '{keys['frame']}' "
            f"begins again with {frame[0]}; name a column with --episode if that is wrong"
        )
        return Games(np.cumsum(starts) - 1, frame, (), (note,))
    return Games(file, frame, tuple(files) if len(files) > 1 else ())


def _counts_down(episode: NDArray[np.int64], frame: NDArray[np.int64]) -> bool:
    """Whether frame numbers fall from row to row of a game, as the first rows show, and hardly ever rise."""
    steps = np.diff(frame[:CHUNK_ROWS])[np.diff(episode[:CHUNK_ROWS]) == 0]
    return len(steps) > 1 and bool((steps < 0).mean() > MIN_SHARE_FALLING)


def _of_no_use(table: pa.Table, flags: Sequence[str]) -> Iterator[str]:
    """Why columns that are named after the ends of games do not tell them apart."""
    for name in (name for name in flags if plain_name(name) in (*ENDS, *STARTS)):
        kind = table.schema.field(name).type
        if not of_column.is_number(kind):
            what = f"is {kind}, and not 0 and 1"
        elif _flags(table, name) is None:
            what = "holds other numbers than 0 and 1"
        else:
            what = "is 0 in every row"
        yield (
            f"'{name}' {what}, so it tells no games apart, and every row is taken for one; name a column with --episode"
        )


def _flags(table: pa.Table, name: str) -> NDArray[np.bool_] | None:
    """[rows] where the column is 1; None if it holds other numbers than 0 and 1."""
    flags = of_column.numbers(name, table[name])
    return flags == 1 if np.isin(flags[~np.isnan(flags)], (0, 1)).all() else None


def _begins_again(frame: NDArray[np.int64], file: NDArray[np.int64]) -> NDArray[np.bool_] | None:
    """[rows] whether a game begins with the row, where frame numbers rise from the same first one again and again;
    None where they do anything else."""
    first = np.concatenate([[True], frame[1:] <= frame[:-1]])
    again = first & np.concatenate([[False], file[1:] == file[:-1]])
    first |= np.diff(file, prepend=-1) != 0
    return first if again.any() and (frame[first] == frame[0]).all() else None


def _beginnings(table: pa.Table, names: Sequence[str], file: NDArray[np.int64]) -> tuple[NDArray[np.bool_], str] | None:
    """[rows] whether a game begins with the row, and the columns that say so; None if none of `names` does."""
    first = np.diff(file, prepend=-1) != 0
    said = []
    for name in names:
        plain = plain_name(name)
        if not (plain in ENDS or plain in STARTS) or not of_column.is_number(table[name].type):
            continue
        if (flag := _flags(table, name)) is not None and flag.any():
            said.append(name)
            first |= flag if plain in STARTS else np.append(False, flag[:-1])
    if not said:
        return None
    return first, " or ".join(f"'{name}'" for name in said)
