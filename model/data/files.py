"""The files of a data set: which ones a name means, and what is in each, damaged ones being refused in a sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray


def data_files(source: str | Path) -> list[Path]:
    """The files that a path, a folder of Parquet files or a pattern means; ValueError for pipes and devices."""
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(path.glob("*.parquet"))
    elif path.exists():
        found = [path]
    else:
        found = sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))))
    if not found:
        raise FileNotFoundError(f"{source}: no such file, no Parquet file in it, and no match for it as a pattern")
    for each in found:
        # A pipe may never end, and no Parquet file can be read from one.
        if not (each.is_file() or each.is_dir()):
            raise ValueError(f"{each} is no regular file but a pipe or a device; save what it holds to a file first")
    return found


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """The table (of all columns, or these); ValueError if the file is damaged or none."""
    try:
        return pq.read_table(path, columns=columns)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, PermissionError | FileNotFoundError):
            raise
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path} cannot be read as Parquet ({reason}); it is damaged or something else: copy or record it again, "
            "as Parquet, .npy or .npz"
        ) from None


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name, or that of an .npy file as 'features'; ValueError if it is damaged."""
    # Opened here, since NumPy leaves a damaged archive open.
    with path.open("rb") as file:
        try:
            loaded = np.load(file, allow_pickle=False)
            return {"features": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
        except Exception as error:
            # What NumPy raises for a damaged file depends on the place of the damage: ValueError, OSError, EOFError,
            # BadZipFile, zlib.error, tokenize.TokenError, MemoryError and others.
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(
                f"{path} cannot be read as {path.suffix} ({reason}); it is damaged or holds objects: save plain arrays "
                "again with np.save or np.savez"
            ) from None
