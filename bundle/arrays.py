"""Archives of float arrays (`.npz`), read within limits.

A zip archive of 1 MB may unpack to gigabytes, and the header of an array may promise any shape. The caller says how
large each array can be, and no byte more is unpacked.
"""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from bundle.folders import BundleError

# Of the archive's table of contents: Python makes an object of every entry.
MAX_DIRECTORY_BYTES = 2**14
# The record at the end of every zip archive, and one before it where sizes have more than 32 bits.
END, LARGE_END = b"PK\5\6", b"PK\6\7"
END_BYTES, MAX_COMMENT_BYTES = 22, 2**16
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
READ_HEADER = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
# None, which only the first dimension may be, stands for any number of rows.
Shape = tuple[int | None, ...]


class Limits(NamedTuple):
    """What an archive may hold; `noun` names its content in messages."""

    noun: str
    max_rows: int
    # Of all that it unpacks to.
    max_bytes: int


def parse_arrays(
    content: bytes, path: Path, shapes: Mapping[str, Shape], limits: Limits
) -> dict[str, NDArray[np.float32]]:
    """The arrays of that name and shape; BundleError where one is missing or has another shape, and ValueError where
    the content is no archive of arrays."""
    _check_directory(content, path, limits.noun)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            if missing := [name for name in shapes if f"{name}.npy" not in names]:
                raise BundleError(f"{path} lacks {', '.join(missing)}")
            left, arrays = limits.max_bytes, {}
            for name, shape in shapes.items():
                array = _array(archive, name, shape, left, path, limits)
                left -= array.nbytes
                arrays[name] = array.astype(np.float32)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return arrays


def names_of_arrays(content: bytes, path: Path, limits: Limits) -> list[str]:
    """Of all arrays; ValueError where the content is no archive."""
    _check_directory(content, path, limits.noun)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def write_arrays(path: Path, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Writes an archive that `parse_arrays` reads: float32, row by row."""
    rows = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
    # NumPy's stub takes every keyword for its flag.
    np.savez(path, **rows)  # type: ignore[arg-type]


def _check_directory(content: bytes, path: Path, noun: str) -> None:
    at = content.rfind(END, max(0, len(content) - END_BYTES - MAX_COMMENT_BYTES))
    if at < 0 or at + END_BYTES > len(content):
        raise ValueError(f"{path} is no zip archive; export the bundle again")
    size = int.from_bytes(content[at + 12 : at + 16], "little")
    if size > MAX_DIRECTORY_BYTES or LARGE_END in content[max(0, at - END_BYTES) : at]:
        raise BundleError(f"{path} lists more entries than {noun} have; export the bundle again")


def _array(
    archive: zipfile.ZipFile, name: str, shape: Shape, left: int, path: Path, limits: Limits
) -> NDArray[np.floating]:
    """The array of that name, of which at most `left` bytes are unpacked."""
    entry = archive.getinfo(f"{name}.npy")
    if entry.compress_type not in METHODS:
        raise BundleError(f"{path}: {name} is packed by method {entry.compress_type}; only zip and deflate are read")
    with archive.open(entry) as stream:
        file = cast(BinaryIO, stream)
        version = npy.read_magic(file)
        if version not in READ_HEADER:
            raise ValueError(f"{path}: {name} is an array of the unknown version {version}")
        found, is_transposed, kind = READ_HEADER[version](file)
        if kind.kind != "f" or kind.itemsize > 8:
            raise BundleError(f"{path}: {name} holds {kind}; it must hold floats")
        if is_transposed:
            raise BundleError(f"{path}: {name} is stored column by column; store it row by row (np.ascontiguousarray)")
        if not _fits(found, shape):
            must = ["n" if size is None else size for size in shape]
            raise BundleError(f"{path}: {name} has shape {list(found)}; it must be {must}")
        rows, width = found[0], int(np.prod(found[1:], dtype=np.int64))
        max_rows = limits.max_rows if shape[0] is None else rows
        if not 0 <= rows <= max_rows or (size := rows * width * kind.itemsize) > left:
            raise BundleError(
                f"{path}: {name} has {rows} rows of {width} numbers; at most {max_rows} rows and "
                f"{limits.max_bytes} bytes in all are read"
            )
        data = file.read(size)
        if len(data) != size or file.read(1):
            raise BundleError(f"{path}: {name} does not have the {size} bytes that its shape needs")
    return np.frombuffer(data, kind).reshape(found)


def _fits(found: tuple[int, ...], shape: Shape) -> bool:
    return len(found) == len(shape) and all(want in (None, size) for size, want in zip(found, shape, strict=True))
