"""Checks the paths of a command before its work begins, and writes output files that are never half there."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` that replaces it when the block ends, and is removed after an error."""
    partial = path.with_suffix(f".partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def check_file(path: Path) -> None:
    """Raises ValueError if there is something at `path` that is no file: reading a pipe might never end."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file")
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no regular file but a pipe or a device; save what it holds to a file first")


def check_output(*paths: Path | None) -> None:
    """Raises ValueError if a file could not be written at one of the paths (None: it is not wanted)."""
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise ValueError(f"{path} is a folder; name the file to write")
        if path.exists() and not path.is_file():
            raise ValueError(f"{path} is no regular file but a pipe or a device; name a file to write")
        if not path.parent.is_dir():
            raise ValueError(f"{path} cannot be written: there is no folder {path.parent}")
        _check_right(path, path.parent)


def check_folder(path: Path) -> None:
    """Raises ValueError if the folder `path` cannot be made, or nothing can be written to it."""
    nearest = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not nearest.is_dir():
        raise ValueError(f"{path} cannot be a folder: {nearest} is a file; name another place")
    _check_right(path, nearest)


@contextmanager
def output_folder(folder: Path) -> Iterator[Path]:
    """Creates the folder of a report, which is gone again after an error before anything was written; ValueError if
    nothing can be written to it."""
    new = _missing_folders(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"{folder} cannot be written ({error}); say with --out where the report goes") from None
    try:
        yield folder
    except BaseException:
        for each in new:
            with suppress(OSError):
                each.rmdir()
        raise


def _missing_folders(folder: Path) -> list[Path]:
    """The folder and those above it that are not there yet, the innermost first."""
    return [each for each in (folder, *folder.absolute().parents) if not each.exists()]


def _check_right(path: Path, folder: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"{path} cannot be written: {folder} is not writable for this user; name another place")
