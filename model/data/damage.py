"""What libraries raise for damaged files, as one error that names the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

# What Git leaves in the place of a large file that was not fetched.
POINTER = b"version https://git-lfs"

# What Arrow says of a line of text that has more or fewer cells than the first one.
UNEVEN = "CSV parse error: Expected "


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Raises what libraries raise for a damaged file as a ValueError that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
        if isinstance(error, PermissionError | FileNotFoundError):
            raise
        with path.open("rb") as file:
            check_no_pointer(file.read(len(POINTER)), path)
        if isinstance(error, UnicodeDecodeError) or "invalid UTF8" in str(error):
            raise ValueError(f"{path} holds text that is neither UTF-8 nor UTF-16; save it as UTF-8") from None
        if UNEVEN in str(error):
            raise ValueError(
                f"{path} cannot be read as {kind} ({words_of(error)}); its first line must name the columns and each "
                "line below hold a row: take away lines of remarks, or record it again if it is damaged"
            ) from None
        raise ValueError(
            f"{path} cannot be read as {kind} ({words_of(error)}); it is damaged or something else: copy or record it "
            "again, as Parquet, CSV, .npy or .npz"
        ) from None


def check_no_pointer(start: bytes, path: Path) -> None:
    """ValueError if this is the beginning of a file that Git LFS has yet to fetch."""
    if start.startswith(POINTER):
        raise ValueError(f"{path} only says where Git LFS keeps the file; fetch it with: git lfs pull") from None


def words_of(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
