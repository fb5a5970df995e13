"""Reads HDF5 files of games: one group an episode, as Minari and robomimic write them, or columns of one length, as
D4RL does."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from model.data.roles import OBSERVATION_NAMES

# Names of groups that hold a game each.
EPISODE = re.compile(r"(?:episode|demo|traj|trajectory)_?(\d+)")
# What is told beside the frames, of whatever shape.
ASIDE = ("infos", "info", "metadata")
MAX_DEPTH = 8
# Deflate packs a thousand bytes into one at best; a file that promises more is damaged.
MAX_PACKED = 1100


def read(path: Path) -> pa.Table:
    """The frames of all games in the file, with `episode` and `frame` where a group is a game; ValueError if there are
    none, OSError if the file is damaged."""
    try:
        import h5py
    except ModuleNotFoundError:
        raise ValueError(f"{path}: to read HDF5 takes h5py; install it with: pip install h5py") from None
    try:
        with h5py.File(path) as file:
            games = _games(h5py, file, MAX_PACKED * path.stat().st_size)
    except Exception as error:
        # What h5py raises for a damaged file depends on the place of the damage: OSError, RuntimeError, KeyError,
        # ValueError, TypeError, MemoryError and others.
        raise OSError(str(error) or type(error).__name__) from None
    tables = []
    for number, columns in games:
        rows = _rows(columns, path)
        if number is not None:
            columns = {name: _filled(each, rows) for name, each in columns.items() if len(each) in (rows, rows - 1)}
            columns |= {"episode": np.full(rows, number), "frame": np.arange(rows)}
        tables.append(_table(columns, path))
    return pa.concat_tables(tables, promote_options="permissive")


def _games(h5py: Any, file: Any, limit: int) -> list[tuple[int | None, dict[str, Any]]]:
    """The number of each game and its arrays, or the arrays of all games together."""
    root = file["data"] if [*file] == ["data"] and isinstance(file["data"], h5py.Group) else file
    numbered = sorted((int(found[1]), name) for name in root if (found := EPISODE.fullmatch(name)))
    return [(number, _columns(h5py, root[name], limit)) for number, name in numbered] or [
        (None, _columns(h5py, root, limit))
    ]


def _columns(h5py: Any, group: Any, limit: int, prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """The arrays in a group by their path, such as observations.goal."""
    found: dict[str, Any] = {}
    if depth > MAX_DEPTH:
        raise OSError(f"its groups lie more than {MAX_DEPTH} deep, or in each other")
    for name in group:
        # A link may lead to any other file.
        if name in ASIDE or not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        each = group[name]
        if isinstance(each, h5py.Group):
            found |= _columns(h5py, each, limit, f"{prefix}{name}.", depth + 1)
        elif isinstance(each, h5py.Dataset) and each.shape and not (each.external or each.is_virtual):
            if each.nbytes > limit:
                raise OSError(f"{name} is said to have {each.nbytes:,} bytes, more than the file can hold")
            array = each.asstr()[()] if h5py.check_string_dtype(each.dtype) else each[()]
            # As the machine stores numbers, which is what Arrow reads.
            found[prefix + name] = array.astype(array.dtype.newbyteorder("="), copy=False)
    return found


def _rows(columns: dict[str, Any], path: Path) -> int:
    """How many frames there are."""
    told = [
        len(column) for name, column in columns.items() if name.partition(".")[0] in (*OBSERVATION_NAMES, "features")
    ]
    counts = Counter(map(len, columns.values()))
    if not counts:
        raise ValueError(f"{path} has no arrays; record the games as Parquet or CSV")
    return told[0] if told else counts.most_common(1)[0][0]


def _filled(column: Any, rows: int) -> Any:
    """The column with nothing in the last frame, where no action followed."""
    if len(column) == rows:
        return column
    if column.dtype.kind == "O":
        return np.array([*column, None], object)
    return np.concatenate([column.astype(np.float64), np.full((1, *column.shape[1:]), np.nan)])


def _table(columns: dict[str, Any], path: Path) -> pa.Table:
    rows = _rows(columns, path)
    arrays: dict[str, pa.Array] = {}
    for name, column in columns.items():
        # An archive may hold other things than frames.
        if len(column) != rows or column.dtype.kind not in "biufO":
            continue
        if column.ndim == 1:
            arrays[name] = pa.array(column)
        else:
            width = int(np.prod(column.shape[1:]))
            arrays[name] = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(column).ravel()), width)
    return pa.table(arrays)
