"""Where the arrays of frames are put while a recording is read: into memory, or into a folder of mapped files."""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from bundle.columns import RowSource
from model.data.lazy import in_parts
from model.data.matrix import CHUNK_BYTES, MatrixFile, Values, mapped, rows_at_once, write_head
from model.data.selection import Part, values_of

Array = TypeVar("Array", bound=NDArray[Any])


class Shelf:
    """Keeps arrays in memory where `folder` is None."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    @classmethod
    def of(cls, numbers: int, folder: Path | None, in_memory_bytes: int) -> "Shelf":
        """For features of so many numbers; `folder` None is a temporary one, see `forget`."""
        if 4 * numbers <= in_memory_bytes:
            return cls(None)
        return cls(Path(tempfile.mkdtemp(prefix="jepa-frames-")) if folder is None else folder)

    def values(self, table: Any, parts: Sequence[Part], look: Callable[[Any], None] | None = None) -> Iterator[Values]:
        """The parts of the table's rows [n, C], as many at once as may be in memory, at which `look` looks as they are
        stored; ValueError where they differ."""
        step, first = len(table) if self.folder is None else rows_at_once(len(parts)), 0
        for some in in_parts(table, step, {part.column for part in parts}):
            try:
                values = values_of(some, parts)
                if look is not None:
                    look(some)
            except ValueError as error:
                raise ValueError(f"{error} (rows are counted from row {first:,})" if first else str(error)) from None
            yield values
            first += len(values)

    def put(self, name: str, array: Array) -> Array:
        """The array [rows, …], in a file of that name."""
        if self.folder is None:
            return array
        np.save(self.folder / f"{name}.npy", array)
        return cast(Array, mapped(self.folder / f"{name}.npy"))

    def blank(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """An array to write to, in a file of that name."""
        if self.folder is None:
            return np.zeros(shape, dtype)
        path = self.folder / f"{name}.npy"
        # On a full disk a write fails; a mapped file that the disk has no room for would end the process instead.
        with path.open("wb") as file:
            write_head(file, shape, dtype)
            left = int(np.prod(shape)) * np.dtype(dtype).itemsize
            for start in range(0, left, CHUNK_BYTES):
                file.write(bytes(min(CHUNK_BYTES, left - start)))
        written: NDArray[Any] = np.load(path, mmap_mode="r+", allow_pickle=False)
        return written

    def put_rows(self, name: str, columns: int, parts: Iterable[Values]) -> RowSource:
        """The rows of all parts [n, C]."""
        if self.folder is None:
            all_parts = [*parts]
            return all_parts[0] if len(all_parts) == 1 else np.concatenate(all_parts)
        file = MatrixFile(self.folder / f"{name}.npy", columns)
        try:
            for part in parts:
                file.add(part)
            return file.finish()
        finally:
            file.close()

    def rewritten(self, name: str, rows: RowSource, columns: int, change: Callable[[Values], None]) -> RowSource:
        """The rows that were put under that name, after `change` was done to each part of them."""

        if self.folder is None:
            change(rows[:])
            return rows

        def changed() -> Iterator[Values]:
            for start in range(0, len(rows), rows_at_once(columns)):
                part = np.array(rows[start : start + rows_at_once(columns)])
                change(part)
                yield part

        # What is read still lies in the file that is replaced.
        found = self.put_rows(f"{name}.new", columns, changed())
        (self.folder / f"{name}.new.npy").replace(self.folder / f"{name}.npy")
        return found

    def forget(self) -> None:
        """Takes the files off the disk, as soon as nothing holds them any more."""
        if self.folder is not None:
            # Windows keeps files that are mapped; there they are left to whoever cleans the folder up.
            shutil.rmtree(self.folder, ignore_errors=True)
