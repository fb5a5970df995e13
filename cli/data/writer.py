"""Writes recorded frames to a Parquet file that appears only once it is complete."""

import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from cli.files import check_output

# Tables are gathered into row groups of this size: each column of a group is written and read on its own, which takes
# longer than a thousand of its numbers.
MIN_GROUP_ROWS = 20_000


class Recording:
    """Writes tables with one schema to the Parquet file `out`, as a context manager.

    The file is replaced when the block ends. Until then all is in `folder`, whose name no reader takes for data; after
    an error or Ctrl-C the previous file is as it was, and the parts that are in the folder stay for the next run.
    """

    def __init__(self, out: Path, schema: pa.Schema) -> None:
        if out.suffix != ".parquet":
            raise ValueError(f"--out is {out}; frames are written as .parquet")
        if not out.parent.is_dir():
            raise FileNotFoundError(f"--out is {out}; there is no folder {out.parent}")
        check_output(out)
        self.rows = 0
        self.folder = work_folder(out)
        self.folder.mkdir(exist_ok=True)
        self._out, self._partial = out, self.folder / f"frames.{os.getpid()}"
        # Fractions rarely repeat, and a dictionary of them is only written to be given up.
        repeating = [field.name for field in schema if not pa.types.is_floating(field.type)]
        self._writer = pq.ParquetWriter(self._partial, schema, compression="zstd", use_dictionary=repeating)
        self._group: list[pa.Table] = []

    def __enter__(self) -> "Recording":
        return self

    def write(self, table: pa.Table) -> None:
        """Appends the rows of a table."""
        self.rows += len(table)
        self._group.append(table)
        if sum(map(len, self._group)) >= MIN_GROUP_ROWS:
            self._write_group()

    def describe(self, about: Mapping[str, str]) -> None:
        """Adds entries to the metadata of the file."""
        self._writer.add_key_value_metadata(about)

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        try:
            if kind is None:
                self._write_group()
            self._writer.close()
            if kind is None and self.rows:
                self._partial.replace(self._out)
        finally:
            self._partial.unlink(missing_ok=True)
            # Parts are kept where the run did not come to its end.
            with suppress(OSError):
                self.folder.rmdir()
        if kind is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _write_group(self) -> None:
        if self._group:
            # In one piece, since the bytes would else depend on the pieces that the tables came in.
            table = pa.concat_tables(self._group).combine_chunks()
            self._writer.write_table(table, row_group_size=max(1, len(table)))
            self._group = []


def work_folder(out: Path) -> Path:
    """Where a recording is until it is complete."""
    return out.with_name(f".{out.name}.partial")


@contextmanager
def stopping(out: Path) -> Iterator[None]:
    """Within the block, Ctrl-C and SIGTERM end the command with status 130, and what is finished is kept."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        kept = work_folder(out)
        if kept.is_dir():
            typer.echo(f"stopped; the same command goes on from there: what is finished waits in {kept}", err=True)
        else:
            typer.echo("stopped; nothing was written", err=True)
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)
