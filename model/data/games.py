"""Which game a row is from, and which of its frames it is."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from model.data import columns as of_column
from model.data.roles import BY_EXCLUDE, ENDS, STARTS, Column, plain_name


class Games(NamedTuple):
    episode: NDArray[np.int64]  # [rows]
    frame: NDArray[np.int64] | None  # [rows]
    # What the data calls episodes 0, 1, …; empty where it numbers them itself.
    names: tuple[str, ...] = ()
    note: str | None = None
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
        return Games(found.number, frame, found.names, note if found.going_on else None, found.going_on)
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
        return Games(episode, frame, (), note)
    if frame is None:
        return Games(np.arange(len(table)), None)
    if (starts := _begins_again(frame, file)) is not None:
        note = (
            f"no column tells games apart: one begins in each of the {starts.sum():,} rows in which '{keys['frame']}' "
            f"begins again with {frame[0]}; name a column with --episode if that is wrong"
        )
        return Games(np.cumsum(starts) - 1, frame, (), note)
    return Games(file, frame, tuple(files) if len(files) > 1 else ())


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
        flags = of_column.numbers(name, table[name])
        if not np.isin(flags[~np.isnan(flags)], (0, 1)).all():
            continue
        flag = flags == 1
        if flag.any():
            said.append(name)
            first |= flag if plain in STARTS else np.append(False, flag[:-1])
    if not said:
        return None
    return first, " or ".join(f"'{name}'" for name in said)
