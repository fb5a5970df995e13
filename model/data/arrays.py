"""Arrays as the columns of a table: those of .npy and .npz files, and those that a program holds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bundle.rows import unmasked
from model.data.damage import check_no_pointer, words_of
from model.data.matrix import MAX_IN_MEMORY_BYTES
from model.data.remarks import with_arrays_beside
from model.data.roles import EPISODE_NAMES, FRAME_NAMES, LABEL_NAMES, OBSERVATION_NAMES, matching

# What the names of the columns of `features` are kept under.
NAMES = ("names", "columns", "feature_names")


def read(path: Path) -> pa.Table:
    """The frames in an .npy or .npz file; ValueError if it is damaged or holds none."""
    arrays = _arrays(path)
    found = _frames_among(arrays, path)
    beside = {name: array.shape for name, array in arrays.items() if array.ndim and name not in found}
    called = next((name for name in NAMES if name in arrays and arrays[name].dtype.kind in "US"), None)
    if "features" in found and called is not None:
        names = arrays[called]
        columns = dict(zip(names.astype(str).ravel().tolist(), found["features"].T, strict=False))
        if len(columns) == names.size == found["features"].shape[1] and not {*columns} & {*found}:
            found = {name: array for name, array in found.items() if name not in ("features", *NAMES)} | columns
            beside.pop(called, None)
    return with_arrays_beside(table_of(found, path.name), beside)


def table_of(arrays: Mapping[str, Any], source: str) -> pa.Table:
    """The arrays as columns, those of more than one dimension as columns of lists; ValueError if they are not alike."""
    columns: dict[str, pa.Array] = {}
    rows = None
    for name, given in arrays.items():
        array = given if isinstance(given, np.ndarray) else np.asarray(given)
        if array.ndim > 1:
            # Arrow minds the mask of plain columns itself.
            array = unmasked(array)
        if array.ndim == 0:
            raise ValueError(f"{name} of {source} is a single value; give one a row")
        rows = len(array) if rows is None else rows
        if len(array) != rows:
            raise ValueError(f"{name} of {source} has {len(array)} rows; {next(iter(arrays))} has {rows}")
        columns[name] = _column(name, array, source)
    return pa.table(columns)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name, or that of an .npy file as 'features'; ValueError if it is damaged."""
    kind = path.suffix.lower()
    # Opened here, since NumPy leaves a damaged archive open.
    with path.open("rb") as file:
        check_no_pointer(file.read(64), path)
        file.seek(0)
        try:
            if kind == ".npy" and path.stat().st_size > MAX_IN_MEMORY_BYTES:
                return {"features": np.load(path, mmap_mode="c", allow_pickle=False)}
            loaded = np.load(file, allow_pickle=False)
            return {"features": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
        except Exception as error:
            # What NumPy raises for a damaged file depends on the place of the damage: ValueError, OSError, EOFError,
            # BadZipFile, zlib.error, tokenize.TokenError, MemoryError and others.
            raise ValueError(
                f"{path} cannot be read as {kind} ({words_of(error)}); it is damaged or holds objects: save "
                "plain arrays again with np.save or np.savez"
            ) from None


def _frames_among(arrays: dict[str, NDArray[Any]], path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file that are columns of its frames."""
    main = next((name for name in ("features", *OBSERVATION_NAMES) if name in arrays), None)
    if main is None:
        raise ValueError(
            f"{path.name} has no array 'features' (it has {sorted(arrays)}); save the rows under that name"
        )
    if (kind := arrays[main].dtype).kind not in "biuf":
        raise ValueError(f"{path.name} has {main} of {kind}; they must be real numbers")
    shape = arrays[main].shape
    if len(shape) != 2 and (main == "features" or not shape):
        raise ValueError(f"{path.name} has {main} of shape {shape}; they must be [rows, columns]")
    if not arrays[main].size:
        raise ValueError(f"{path.name} has {main} of shape {shape}; record at least one row of one column")
    found = {}
    for name, array in arrays.items():
        if array.shape[:1] == shape[:1]:
            found[name] = array
        # An archive may hold other things than frames, but not under these names.
        elif matching([name], (*EPISODE_NAMES, *FRAME_NAMES, "split", *LABEL_NAMES)):
            raise ValueError(
                f"{path.name} has {name} of shape {array.shape}; it must be one number a row, [{shape[0]}]"
            )
    return found


def _column(name: str, array: NDArray[Any], source: str) -> pa.Array:
    try:
        # As the machine stores numbers.
        if array.dtype.kind in "iuf":
            array = array.astype(array.dtype.newbyteorder("=") if array.dtype.itemsize <= 8 else np.float64, copy=False)
        if array.ndim > 1:
            width = int(np.prod(array.shape[1:]))
            return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(array).ravel()), width)
        return pa.array(array.tolist() if array.dtype.kind in "US" else array)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise ValueError(f"{name} of {source} is no column of numbers or text ({words_of(error)})") from None
