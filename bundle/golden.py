"""`golden.npz`: inputs with the outputs that PyTorch gave for them at export, read within limits.

A zip archive of 1 MB may unpack to gigabytes, and the header of an array may promise any shape. What the manifest says
of the graphs says how large each array can be, and no byte more is unpacked.
"""

import io
import zipfile
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from bundle.folders import BundleError
from bundle.manifest import Manifest

# An export writes 16.
MAX_GOLDEN_ROWS = 1024
# Of the archive and of all that it unpacks to.
MAX_GOLDEN_BYTES = 2**27
# Of the archive's table of contents: Python makes an object of every entry.
MAX_DIRECTORY_BYTES = 2**14
# The record at the end of every zip archive, and one before it where sizes have more than 32 bits.
END, LARGE_END = b"PK\5\6", b"PK\6\7"
END_BYTES, MAX_COMMENT_BYTES = 22, 2**16
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
READ_HEADER = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class Golden(NamedTuple):
    """Inputs with the outputs PyTorch gave for them at export."""

    features: NDArray[np.float32]  # [n, input_dim], NaN where a group is hidden
    context_embedding: NDArray[np.float32]  # [n, embed_dim]
    target_embedding: NDArray[np.float32]  # [n, embed_dim]
    targets: NDArray[np.float32]  # [n, patches], 1 = predict it
    horizon: NDArray[np.float32]  # [n], frames ahead
    prediction: NDArray[np.float32]  # [n, embed_dim]


def parse_golden(content: bytes, path: Path, manifest: Manifest) -> Golden:
    """Reads the archive; BundleError where an array is missing or has not the shape that the manifest asks for, and
    ValueError where it is no archive of arrays."""
    _check_directory(content, path)
    embedding = (manifest.embed_dim,)
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(Golden._fields, embedding)
    shapes |= {"features": (manifest.input_dim,), "targets": (len(manifest.patches),), "horizon": ()}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            if missing := [name for name in shapes if f"{name}.npy" not in names]:
                raise BundleError(f"{path} lacks {', '.join(missing)}")
            left, arrays = MAX_GOLDEN_BYTES, []
            for name, shape in shapes.items():
                arrays.append(_array(archive, name, shape, left, path))
                left -= arrays[-1].nbytes
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    counts = {len(array) for array in arrays}
    if len(counts) > 1 or not 0 < counts.pop() <= MAX_GOLDEN_ROWS:
        lengths = ", ".join(str(len(array)) for array in arrays)
        raise BundleError(f"{path} has arrays of {lengths} rows; each must have as many, 1 to {MAX_GOLDEN_ROWS}")
    return Golden(*(array.astype(np.float32) for array in arrays))


def _check_directory(content: bytes, path: Path) -> None:
    at = content.rfind(END, max(0, len(content) - END_BYTES - MAX_COMMENT_BYTES))
    if at < 0 or at + END_BYTES > len(content):
        raise ValueError(f"{path} is no zip archive; export the bundle again")
    size = int.from_bytes(content[at + 12 : at + 16], "little")
    if size > MAX_DIRECTORY_BYTES or LARGE_END in content[max(0, at - END_BYTES) : at]:
        raise BundleError(f"{path} lists more entries than golden rows have; export the bundle again")


def _array(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], max_bytes: int, path: Path
) -> NDArray[np.floating]:
    """The array [n, *shape] of that name, of which at most `max_bytes` are unpacked."""
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
        if len(found) != 1 + len(shape) or found[1:] != shape or is_transposed:
            raise BundleError(f"{path}: {name} has shape {list(found)}; it must be {['n', *shape]}")
        rows, width = found[0], int(np.prod(shape, dtype=np.int64))
        if not 0 <= rows <= MAX_GOLDEN_ROWS or (size := rows * width * kind.itemsize) > max_bytes:
            raise BundleError(
                f"{path}: {name} has {rows} rows of {width} numbers; at most {MAX_GOLDEN_ROWS} rows and "
                f"{MAX_GOLDEN_BYTES} bytes in all are read"
            )
        data = file.read(size)
        if len(data) != size or file.read(1):
            raise BundleError(f"{path}: {name} does not have the {size} bytes that its shape needs")
    return np.frombuffer(data, kind).reshape(found)
