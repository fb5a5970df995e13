"""A recording as one table: read from files, or taken from what a program holds in memory."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeGuard

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from model.data.arrays import table_of
from model.data.columns import SPLITS
from model.data.descriptions import description, layout, unknown_keys
from model.data.files import folders_below, found_files
from model.data.lazy import Spool
from model.data.matrix import MAX_IN_MEMORY_BYTES
from model.data.remarks import remarks_of, sentences
from model.data.tables import are_large, check_names, episode_in_folders, finished, join, open_tables, plain, read_table

# The first word of a file's name.
WORD = re.compile("[a-z]+")


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


def recording(source: Source, in_memory_bytes: int = MAX_IN_MEMORY_BYTES, episode: str | None = None) -> Recording:
    """Reads files, or takes a DataFrame of pandas or polars, an Arrow table, a dict of arrays or one array [rows,
    columns]; ValueError for what is none of them. Of Parquet files of more than `in_memory_bytes`, columns are read
    when they are asked for. `episode` is the column that tells games apart, where that was said."""
    if are_files(source):
        return _of_files(source, in_memory_bytes, episode)
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


def _of_files(source: Files, in_memory_bytes: int, episode: str | None) -> Recording:
    found = found_files(source)
    told = description(found)
    paths, base, notes = found.paths, found.base, [*found.notes, *unknown_keys(told)]
    splits: Mapping[Path, str | None] = {path: _split_of(path, base) for path in paths}
    if by_name := _splits_by_name(paths):
        splits = by_name
        notes.append("files are named after splits, so rows are of the split that the name of their file says")

    def finish(table: pa.Table, path: Path) -> pa.Table:
        if None in splits.values() or "split" in table.column_names:
            return table
        return table.append_column("split", pa.array([splits[path]] * len(table)))

    called = _called(paths, base)
    if are_large(paths, in_memory_bytes):
        table: Any = open_tables(paths, lambda table, path: finish(finished(table, path, base), path), called)
        rows = table.rows
    else:
        spool, ids = Spool(in_memory_bytes), told.get("episode") if episode is None else episode
        tables = []
        remarks: dict[Path, dict[bytes, str]] = {}
        for path in paths:
            read = read_table(path, base, ids)
            remarks[path] = remarks_of(read)
            tables.append(spool.kept(finish(read, path)))
        notes += sentences(remarks)
        table, rows = join(tables, called), [len(one) for one in tables]
        del tables
    # Files in a folder that is named after an episode are of one.
    origins = [path.parent if episode_in_folders(path, base) else path for path in paths]
    number = {origin: i for i, origin in enumerate(dict.fromkeys(origins))}
    file = np.repeat([number[origin] for origin in origins], rows)
    known = layout(table.schema.metadata or {}, paths[0])
    return Recording(table, file, tuple(_called([*number], base)), told, told | known, known, tuple(notes))


def _called(paths: Sequence[Path], base: Path) -> list[str]:
    """A name for each of the paths."""
    names = [path.name for path in paths]
    return names if len({*names}) == len(names) else [os.path.relpath(path, base) for path in paths]


def _split_of(path: Path, base: Path) -> str | None:
    """The split that a folder below `base` is named after, as in train/part-0.parquet."""
    return next((SPLITS[part] for part in folders_below(path, base) if part in SPLITS), None)


def _splits_by_name(paths: Sequence[Path]) -> dict[Path, str]:
    """The split that the name of each file begins with, as in train-00000-of-00002.parquet; empty unless all do, and
    differ."""
    words = {path: WORD.match(path.name.casefold()) for path in paths}
    splits = {path: SPLITS[word[0]] for path, word in words.items() if word is not None and word[0] in SPLITS}
    return splits if len(splits) == len(paths) and len({*splits.values()}) > 1 else {}


def _in_memory(source: Any) -> pa.Table:
    if isinstance(source, Mapping):
        return plain(table_of(source, "the data"), "the data")
    if isinstance(source, np.ndarray):
        if source.ndim != 2 or source.dtype.kind not in "biuf":
            raise ValueError(f"the array is {source.dtype} {list(source.shape)}; it must be numbers [rows, columns]")
        return table_of({"features": source}, "the data")
    if isinstance(source, pa.Table | pa.RecordBatch) or hasattr(source, "__arrow_c_stream__"):
        try:
            table = pa.table(source)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise ValueError(f"the table cannot be taken over ({' '.join(str(error).split())})") from None
        check_names(table, "the data")
        return plain(table, "the data")
    raise ValueError(
        f"the data is a {type(source).__module__}.{type(source).__qualname__}; give a path, a DataFrame of pandas or "
        "polars, an Arrow table, a dict of arrays or an array [rows, columns]"
    )
