"""Minari's data sets of Arrow and Parquet files: a folder named by its number for each game, described beside it."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# The last frame of a game, after which nothing was done, is filled up with zeros in these columns.
AFTER = ("actions", "rewards", "terminations", "truncations")


def is_game(path: Path) -> bool:
    """Whether the file holds one game of such a data set."""
    folder = path.parent
    return folder.name.isdecimal() and all((at / "metadata.json").is_file() for at in (folder, folder.parent))


def of_folder(path: Path) -> dict[str, Any]:
    """The columns that stand in the name of the game's folder."""
    return {"episode_id": int(path.parent.name)} if is_game(path) else {}


def completed(table: pa.Table, path: Path) -> pa.Table:
    """The table of a game with the frames counted, and without what was not done after the last."""
    if not is_game(path) or not len(table):
        return table
    for i, name in enumerate(table.column_names):
        if name.partition(".")[0] in AFTER:
            table = table.set_column(i, name, _without_last(table.column(i).combine_chunks()))
    return table if "frame" in table.column_names else table.append_column("frame", pa.array(np.arange(len(table))))


def _without_last(column: pa.Array) -> pa.Array:
    """The column with nothing in its last row, or with a list of nothing."""
    if pa.types.is_fixed_size_list(column.type):
        width = column.type.list_size
        return pa.FixedSizeListArray.from_arrays(_cut(column.flatten(), width), width)
    return _cut(column, 1)


def _cut(column: pa.Array, count: int) -> pa.Array:
    last = pa.array(np.arange(len(column)) >= len(column) - count)
    return pc.if_else(last, pa.scalar(None, column.type), column)
