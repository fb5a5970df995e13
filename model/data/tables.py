"""What is in a file of a recording, as a table; ValueError that names the file for damaged and odd ones."""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.feather as feather
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from model.data import arrays, hdf5, minari, text
from model.data.damage import POINTER, reading, words_of
from model.data.files import KINDS, folders_below, kind_of
from model.data.lazy import LazyTable
from model.data.roles import ENDS, EPISODE_NAMES, FRAME_NAMES, LABEL_NAMES, STARTS, matching, plain_name

# What a folder is called whose value nobody knows, in Hive and whatever follows it.
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
# What Arrow makes of a name of pandas' MultiIndex.
LEVELS = re.compile(r"\('.*', .*\)", re.DOTALL)
# Columns that say which game and frame a row is from.
SINGLE = frozenset((*EPISODE_NAMES, *FRAME_NAMES, *ENDS, *STARTS, "split"))


def read_table(path: Path, base: Path, episode: str | None = None) -> pa.Table:
    """The columns of a file, and those that the names of its folders below `base` hold (`episode=3/part.parquet`);
    `episode` is the column that tells games apart, where that was said. ValueError if the file is damaged or none."""
    kind = kind_of(path) or "Parquet"
    with reading(path, kind):
        table = text.read(path, episode) if kind == "CSV" else READERS[kind](path)
    check_names(table, path)
    return finished(table, path, base)


def finished(table: pa.Table, path: Path, base: Path) -> pa.Table:
    """What was read of a file, with the columns that the names of its folders hold, as plain columns."""
    for name, value in (_in_folders(path, base) | minari.of_folder(path)).items():
        if name not in table.column_names:
            table = table.append_column(name, pa.array([value] * len(table)))
    return minari.completed(plain(table, path), path)


def read_metadata(path: Path) -> dict[bytes, bytes]:
    """What a Parquet file says besides its columns."""
    if kind_of(path) not in (None, "Parquet"):
        return {}
    with reading(path, "Parquet"):
        return dict(pq.read_schema(path).metadata or {})


def are_large(paths: Sequence[Path], in_memory_bytes: int) -> bool:
    """Whether these are Parquet files whose columns take more than so many bytes."""
    if any((kind_of(path) or "Parquet") != "Parquet" or minari.is_game(path) for path in paths):
        return False
    total = 0
    for path in paths:
        with reading(path, "Parquet"):
            metadata = _parquet(path).metadata
        # The sizes that the file gives are of numbers that are packed more tightly than in memory.
        groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
        total += sum(4 * group.column(i).num_values for group in groups for i in range(group.num_columns))
    return total > in_memory_bytes


def open_tables(paths: Sequence[Path], finish: Callable[[pa.Table, Path], pa.Table], names: list[str]) -> LazyTable:
    """Parquet files as one table of which only parts are in memory; ValueError as by `join`."""
    heads = []
    for path in paths:
        with reading(path, "Parquet"):
            file = _parquet(path)
            check_names(file.schema_arrow, path)
            head = pa.Table.from_batches(itertools.islice(file.iter_batches(1), 1), file.schema_arrow)
        heads.append(finish(head, path))
    return LazyTable(paths, join(heads, names).schema, finish)


def join(tables: list[pa.Table], names: list[str]) -> pa.Table:
    """One table of the rows of all, which are called `names`; columns are alike by name and of the widest type;
    ValueError if they are not."""
    for name, table in zip(names, tables, strict=True):
        if odd := {*table.column_names} ^ {*tables[0].column_names}:
            raise ValueError(
                f"{name} has other columns than {names[0]} ({', '.join(sorted(odd)[:5])}); files read together must be "
                "alike"
            )
        if not len(table):
            raise ValueError(f"{name} has no rows; record some, or leave the file out")
    metadata = tables[0].schema.metadata
    truths = {name for name in tables[0].column_names if any(_is_truth(table, name) for table in tables)}
    mixed = {name for name in truths if not all(_is_truth(table, name) for table in tables)}
    tables = [_with_numbers(table, mixed) for table in tables]
    try:
        return pa.concat_tables(tables, promote_options="permissive").replace_schema_metadata(metadata)
    except pa.ArrowException as error:
        for name, table in zip(names, tables, strict=True):
            for field in tables[0].schema:
                if not _go_together(other := table.schema.field(field.name), field):
                    reason = f"column '{field.name}' is {other.type} in {name} and {field.type} in {names[0]}"
                    raise ValueError(f"{reason}; files read together must be alike") from None
        raise ValueError(f"the files cannot be read together ({words_of(error)}); read them one by one") from None


def _is_truth(table: pa.Table, name: str) -> bool:
    return bool(pa.types.is_boolean(table.schema.field(name).type))


def _with_numbers(table: pa.Table, names: set[str]) -> pa.Table:
    """The table with 0 and 1 for the truth values of the columns `names`."""
    for i, name in enumerate(table.column_names):
        if name in names and _is_truth(table, name):
            table = table.set_column(i, name, pc.cast(table.column(i), pa.int8()))
    return table


def _go_together(one: pa.Field, other: pa.Field) -> bool:
    try:
        pa.unify_schemas([pa.schema([one]), pa.schema([other])], promote_options="permissive")
    except pa.ArrowException:
        return False
    return True


def plain(table: pa.Table, source: Path | str) -> pa.Table:
    """The table with what its columns mean in place of how they are stored: text for dictionaries and for views of it,
    numbers for decimals, a column for each part of a struct, such as observation.position, and one value for lists of
    one that tell games apart."""
    while any(pa.types.is_struct(kind) for kind in table.schema.types):
        table = table.flatten()
        check_names(table, source)
    for i, name in enumerate(table.column_names):
        column = _plain_column(table.column(i))
        # Arrays [rows, 1] of what tells games apart hold no more than arrays [rows].
        if _is_list_of_one(column) and _is_single(name):
            column = pa.chunked_array([pc.list_flatten(chunk) for chunk in column.chunks], column.type.value_type)
        if column.type != table.schema.field(i).type:
            table = table.set_column(i, name, column)
    return table


def _is_list_of_one(column: pa.ChunkedArray) -> bool:
    kind = column.type
    return bool(pa.types.is_fixed_size_list(kind) and kind.list_size == 1 and not column.null_count)


def _is_single(name: str) -> bool:
    """Whether a column of the name has one value a row, whatever its form."""
    return plain_name(name) in SINGLE or bool(matching([name], LABEL_NAMES))


def _plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _plain_column(pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type))
    if pa.types.is_run_end_encoded(kind):
        return _plain_column(pa.chunked_array([pc.run_end_decode(chunk) for chunk in column.chunks], kind.value_type))
    if pa.types.is_dictionary(kind):
        return _plain_column(pc.cast(column, kind.value_type))
    if pa.types.is_decimal(kind):
        return pc.cast(column, pa.float64())
    if pa.types.is_string_view(kind):
        return pc.cast(column, pa.string())
    if pa.types.is_binary_view(kind):
        return pc.cast(column, pa.binary())
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        return pa.chunked_array([_list_of(chunk) for chunk in column.chunks], pa.large_list(kind.value_type))
    return column


def _list_of(views: pa.Array) -> pa.Array:
    """The lists that an array has views of, one after another; Arrow's own cast of them reads past the last one."""
    lengths = np.asarray(views.value_lengths().fill_null(0), np.int64)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]))
    return pa.LargeListArray.from_arrays(offsets, views.flatten(), mask=views.is_null())


def check_names(columns: pa.Table | pa.Schema, source: Path | str) -> None:
    """ValueError if two columns have one name, or all have the names of several levels of pandas."""
    names = columns.names if isinstance(columns, pa.Schema) else columns.column_names
    if names and all(LEVELS.fullmatch(name) for name in names if not name.startswith("__index_level_")):
        raise ValueError(
            f"{source} has columns of several levels, such as {names[0]}; give each one name, as with df.columns = "
            "['_'.join(name) for name in df.columns]"
        )
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{source} has the column '{twice[0]}' more than once; every column needs a name of its own")


def _parquet(path: Path) -> pq.ParquetFile:
    """ValueError if the name of a file says nothing and it is no Parquet either."""
    with path.open("rb") as file:
        start = file.read(len(POINTER))
    if kind_of(path) is None and not POINTER.startswith(start) and not start.startswith(b"PAR1"):
        raise ValueError(
            f"{path} cannot be read as Parquet, and its name ends in nothing else that is known "
            f"({', '.join(itertools.chain(*KINDS.values()))}); save it as one of these, or rename it"
        )
    return pq.ParquetFile(path)


def _read_parquet(path: Path) -> pa.Table:
    file = _parquet(path)
    # Arrow reads no table of two columns of one name.
    check_names(file.schema_arrow, path)
    return file.read()


def _read_arrow(path: Path) -> pa.Table:
    with path.open("rb") as file:
        magic = file.read(6)
    if magic == b"ARROW1":
        table = ds.dataset(path, format="ipc").to_table()
    elif magic.startswith(b"FEA1"):
        table = feather.read_table(path)
    else:
        # As a stream, which is how the datasets of Hugging Face are stored.
        with pa.input_stream(path) as stream:
            table = ipc.open_stream(stream).read_all()
    # Numbers of a damaged file would lead Arrow to other places in memory.
    table.validate(full=True)
    return table


READERS = {"Parquet": _read_parquet, "Arrow": _read_arrow, "HDF5": hdf5.read, "NumPy": arrays.read}


def episode_in_folders(path: Path, base: Path) -> bool:
    """Whether the name of a folder says which game the frames of the file are of."""
    return any(plain_name(name) in EPISODE_NAMES for name in _in_folders(path, base))


def _in_folders(path: Path, base: Path) -> dict[str, Any]:
    folders = folders_below(path, base)
    parts = [part.partition("=") for part in folders if "=" in part]
    return {
        name: int(value) if value.lstrip("-").isdecimal() else None if value == NO_VALUE else unquote(value)
        for name, _, value in parts
    }
