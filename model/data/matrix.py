"""Rows of numbers that are kept once, in memory or in a mapped file, and are float32 wherever they are read."""

import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from bundle.columns import RowSource

Values = NDArray[np.float32]

# What takes more bytes than this lies in a file.
MAX_IN_MEMORY_BYTES = 1 << 28
# Bytes of rows that are converted at once.
CHUNK_BYTES = 1 << 25


class Matrix:
    """Rows [n, C] stored as float16 or float32; what is taken of them is float32."""

    def __init__(self, stored: NDArray[Any]) -> None:
        self.stored = stored

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape

    def __getitem__(self, rows: Any) -> Values:
        return np.asarray(self.stored[rows], np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.stored, np.float32 if dtype is None else dtype)

    def tensor(self) -> torch.Tensor:
        """The rows as they are stored, not copied."""
        return torch.from_numpy(self.stored)


class MatrixFile:
    """An .npy file that rows are added to; they are float16 for as long as that loses nothing."""

    def __init__(self, path: Path, columns: int) -> None:
        self.path, self.columns, self.rows = path, columns, 0
        self.dtype: Any = np.float16
        self._file = self._begun(path)

    def add(self, values: Values) -> None:
        """Appends the rows [n, C]."""
        half = halved(values) if self.dtype == np.float16 else None
        if half is None:
            self.widen()
        self._file.write(np.ascontiguousarray(values if half is None else half).data)
        self.rows += len(values)

    def widen(self) -> None:
        """Stores the rows as float32 from now on, those before as well."""
        if self.dtype == np.float32:
            return
        before, self.dtype = self.finish(), np.float32
        wider = self.path.with_suffix(".wider.npy")
        self._file = self._begun(wider)
        for start in range(0, len(before), rows_at_once(self.columns)):
            self._file.write(np.ascontiguousarray(before[start : start + rows_at_once(self.columns)]).data)
        os.replace(wider, self.path)

    def finish(self) -> Matrix:
        """Closes the file and maps it."""
        self._write_head(self._file)
        self._file.close()
        return Matrix(mapped(self.path))

    def close(self) -> None:
        self._file.close()

    def _begun(self, path: Path) -> BinaryIO:
        file = path.open("wb")
        self._write_head(file)
        return file

    def _write_head(self, file: BinaryIO) -> None:
        # NumPy leaves room in the header for the number of rows to grow.
        file.seek(0)
        write_head(file, (self.rows, self.columns), self.dtype)


def write_head(file: BinaryIO, shape: tuple[int, ...], dtype: Any = np.float32) -> None:
    """Begins an .npy file of an array whose numbers are written after it, row by row."""
    head = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, head)


def mapped(path: Path) -> NDArray[Any]:
    """The array in an .npy file, which stays there; what is written to it stays in this process."""
    found: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    return found


def halved(values: Values) -> NDArray[np.float16] | None:
    """The values as float16 if every one of them is a float16 number (or NaN), else None."""
    whole = torch.from_numpy(np.ascontiguousarray(values))
    half = whole.half()
    back = half.float()
    if not torch.equal(back, whole) and not bool(((back == whole) | whole.isnan()).all()):
        return None
    found: NDArray[np.float16] = half.numpy()
    return found


def taken(features: RowSource, rows: NDArray[np.int64]) -> RowSource:
    """Some of the rows, in memory as they are stored."""
    return Matrix(np.asarray(features.stored[rows])) if isinstance(features, Matrix) else features[rows]


def rows_at_once(columns: int) -> int:
    """How many float32 rows of so many columns are held in memory while they are converted."""
    return max(1, CHUNK_BYTES // (4 * max(1, columns)))
