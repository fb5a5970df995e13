"""Writes recorded frames to a Parquet file that appears only once it is complete."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from cli.files import check_output


class Recording:
    """Writes tables with one schema to the Parquet file `out`, as a context manager.

    The file is replaced when the block ends; after an error or Ctrl-C, its previous content is left as it was.
    """

    def __init__(self, out: Path, schema: pa.Schema) -> None:
        if out.suffix != ".parquet":
            raise ValueError(f"--out is {out}; frames are written as .parquet")
        if not out.parent.is_dir():
            raise FileNotFoundError(f"--out is {out}; there is no folder {out.parent}")
        check_output(out)
        self._out, self._partial = out, out.with_suffix(".partial.parquet")
        self._writer = pq.ParquetWriter(self._partial, schema, compression="zstd")
        self.rows = 0

    def __enter__(self) -> "Recording":
        return self

    def write(self, table: pa.Table) -> None:
        """Appends the rows of a table."""
        self._writer.write_table(table)
        self.rows += len(table)

    def describe(self, about: Mapping[str, str]) -> None:
        """Adds entries to the metadata of the file."""
        self._writer.add_key_value_metadata(about)

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        try:
            self._writer.close()
            if kind is None and self.rows:
                self._partial.replace(self._out)
        finally:
            self._partial.unlink(missing_ok=True)


@contextmanager
def stopping() -> Iterator[None]:
    """Within the block, Ctrl-C and SIGTERM clean up and end the command with status 130."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("stopped; nothing was written", err=True)
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)
