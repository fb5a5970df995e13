"""Tables of files that are read when their columns are asked for, some rows at a time."""

import itertools
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from model.data.damage import reading

# Rows that show what a column of lists is like.
HEAD_ROWS = 1024


class LazyTable:
    """Several Parquet files as one table, of which only what is asked for is in memory."""

    def __init__(self, paths: Sequence[Path], schema: pa.Schema, finish: Callable[[pa.Table, Path], pa.Table]) -> None:
        """`schema` is that of all files together; `finish` makes of a file's columns those of the table."""
        self.schema = schema
        self._paths, self._finish = paths, finish
        self.rows = [pq.ParquetFile(path).metadata.num_rows for path in paths]  # of each file

    @property
    def column_names(self) -> list[str]:
        return list(self.schema.names)

    def __len__(self) -> int:
        return sum(self.rows)

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        """The column of that name."""
        parts = []
        for path in self._paths:
            with reading(path, "Parquet"):
                table = pq.ParquetFile(path).read([name])
            parts.append(self._alike(self._finish(table, path).select([name])))
        return pa.concat_tables(parts)[name]

    def in_parts(self, rows: int, columns: Collection[str] | None = None) -> Iterator[pa.Table]:
        """At most so many rows at once, of the columns (None: all) and perhaps of some more."""
        for path in self._paths:
            with reading(path, "Parquet"):
                file = pq.ParquetFile(path)
                # What stands in the names of folders is in no file, and of no column there would be no rows.
                stored = None if columns is None else [*(_names_in(file) & {*columns})] or None
                for batch in file.iter_batches(rows, columns=stored):
                    yield self._alike(self._finish(pa.Table.from_batches([batch]), path))

    def _alike(self, table: pa.Table) -> pa.Table:
        whole = pa.schema([self.schema.field(name) for name in table.column_names])
        return pa.concat_tables([whole.empty_table(), table], promote_options="permissive")


def _names_in(file: pq.ParquetFile) -> set[str]:
    """The columns of the file and their parts, such as observation.position."""
    paths = (file.schema.column(i).path.split(".") for i in range(len(file.schema)))
    return {name for path in paths for name in itertools.accumulate(path, "{}.{}".format)}


class Spool:
    """Keeps tables in memory up to so many bytes; those that come then lie in files that are gone when they are."""

    def __init__(self, in_memory_bytes: int) -> None:
        self._left = in_memory_bytes

    def kept(self, table: pa.Table) -> pa.Table:
        self._left -= table.nbytes
        if self._left >= 0:
            return table
        with tempfile.NamedTemporaryFile(prefix="jepa-table-", suffix=".arrow", delete=False) as file:
            path = Path(file.name)
        try:
            with ipc.new_file(path, table.schema) as writer:
                writer.write_table(table)
            return ipc.open_file(pa.memory_map(str(path))).read_all()
        finally:
            # Windows keeps files that are mapped.
            with suppress(PermissionError):
                path.unlink()


def head(table: Any) -> pa.Table:
    """The first rows of the table, or all."""
    return next(table.in_parts(HEAD_ROWS)) if isinstance(table, LazyTable) else table


def in_parts(table: Any, rows: int, columns: Collection[str] | None = None) -> Iterator[pa.Table]:
    """The rows of the table, at most so many at once; of columns that are not named, nothing need be read."""
    if isinstance(table, LazyTable):
        yield from table.in_parts(rows, columns)
        return
    for start in range(0, len(table), max(rows, 1)):
        yield table.slice(start, rows)
