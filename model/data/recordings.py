"""A recording as one table: read from files, or taken from what a program holds in memory."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeGuard

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from model.data.columns import SPLITS
from model.data.descriptions import description, layout
from model.data.files import found_files
from model.data.lazy import Spool
from model.data.matrix import MAX_IN_MEMORY_BYTES
from model.data.tables import are_large, finished, join, open_tables, plain, read_table, table_of


class ArrowTable(Protocol):
    """A DataFrame of pandas or polars, or any other table that Arrow's libraries can take over."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...


Files = str | Path | Sequence[str | Path]
Source = Files | ArrowTable | Mapping[str, Any] | NDArray[Any]


class Recording(NamedTuple):
    """Rows of games with whatever columns they have."""

    # A pyarrow.Table, or what can be asked for its columns like one.
    table: Any
    # [rows] which of `files` a row is from.
    file: NDArray[np.int64]
    files: tuple[str, ...]
    # What a schema.json says of the columns.
    told: Mapping[str, Any]
    # That, and what the metadata of the table does.
    about: Mapping[str, Any]
    # What the metadata alone does.
    layout: Mapping[str, Any]
    notes: tuple[str, ...]


def recording(source: Source, in_memory_bytes: int = MAX_IN_MEMORY_BYTES) -> Recording:
    """Reads files, or takes a DataFrame of pandas or polars, an Arrow table, a dict of arrays or one array [rows,
    columns]; ValueError for what is none of them. Of Parquet files of more than `in_memory_bytes`, columns are read
    when they are asked for."""
    if are_files(source):
        return _of_files(source, in_memory_bytes)
    table = _in_memory(source)
    if not len(table):
        raise ValueError("the data has no rows; record some")
    about = layout(table.schema.metadata or {}, "the table")
    return Recording(table, np.zeros(len(table), np.int64), ("the data",), {}, about, about, ())


def are_files(source: Source) -> TypeGuard[Files]:
    """Whether the source names files."""
    if isinstance(source, str | Path):
        return True
    return isinstance(source, Sequence) and len(source) > 0 and all(isinstance(each, str | Path) for each in source)


def _of_files(source: Files, in_memory_bytes: int) -> Recording:
    paths, notes = found_files(source)
    base = Path(source) if isinstance(source, str | Path) and Path(source).is_dir() else None
    splits = {path: _split_of(path, base) for path in paths}

    def finish(table: pa.Table, path: Path) -> pa.Table:
        if None in splits.values() or "split" in table.column_names:
            return table
        return table.append_column("split", pa.array([splits[path]] * len(table)))

    names = [path.name for path in paths]
    called = names if len({*names}) == len(names) else [str(path) for path in paths]
    if are_large(paths, in_memory_bytes):
        table: Any = open_tables(paths, lambda table, path: finish(finished(table, path, base), path), called)
        rows = table.rows
    else:
        spool = Spool(in_memory_bytes)
        tables = [spool.kept(finish(read_table(path, base), path)) for path in paths]
        table, rows = join(tables, called), [len(one) for one in tables]
        del tables
    file = np.repeat(np.arange(len(rows)), rows)
    told = description(paths[0].parent)
    known = layout(table.schema.metadata or {}, paths[0])
    return Recording(table, file, tuple(names), told, told | known, known, tuple(notes))


def _split_of(path: Path, base: Path | None) -> str | None:
    """The split that a folder below `base` is named after, as in train/part-0.parquet."""
    if base is None or not path.is_relative_to(base):
        return None
    return next((SPLITS[part] for part in path.relative_to(base).parts[:-1] if part in SPLITS), None)


def _in_memory(source: Any) -> pa.Table:
    if isinstance(source, Mapping):
        return plain(table_of(source, "the data"))
    if isinstance(source, np.ndarray):
        if source.ndim != 2 or source.dtype.kind not in "biuf":
            raise ValueError(f"the array is {source.dtype} {list(source.shape)}; it must be numbers [rows, columns]")
        return table_of({"features": source}, "the data")
    if isinstance(source, pa.Table | pa.RecordBatch) or hasattr(source, "__arrow_c_stream__"):
        try:
            table = pa.table(source)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise ValueError(f"the table cannot be taken over ({' '.join(str(error).split())})") from None
        if len({*table.column_names}) < len(table.column_names):
            twice = next(name for name in table.column_names if table.column_names.count(name) > 1)
            raise ValueError(f"the data has the column '{twice}' more than once; every column needs a name of its own")
        return plain(table)
    raise ValueError(
        f"the data is a {type(source).__module__}.{type(source).__qualname__}; give a path, a DataFrame of pandas or "
        "polars, an Arrow table, a dict of arrays or an array [rows, columns]"
    )
