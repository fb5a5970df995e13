"""Reads the files of a bundle within limits: only regular files are opened, and no byte beyond a limit is read.

A FIFO or a device in place of a file would be read for ever, and a directory or a socket not at all.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from bundle.folders import BundleError

CHUNK_BYTES = 2**20
# Without O_NONBLOCK, opening a FIFO that took a file's place just now would wait for a writer.
FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@contextmanager
def open_regular(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """The file and its size in bytes; BundleError unless it is a regular file, or a link to one."""
    # Looked at before it is opened, as opening a device may already do something, and again once it is open.
    _check_kind(path, path.stat())
    with os.fdopen(os.open(path, FLAGS), "rb") as file:
        status = os.fstat(file.fileno())
        _check_kind(path, status)
        yield file, status.st_size


def read_file(path: Path, max_bytes: int) -> bytes:
    """The content of a regular file; BundleError where it is larger."""
    with open_regular(path) as (file, size):
        if size > max_bytes:
            raise BundleError(f"{path} has {size} bytes; at most {max_bytes} are read")
        content = file.read(size)
    if len(content) != size:
        raise BundleError(f"{path} became shorter while it was read; copy the bundle again")
    return content


def sha256_of(file: BinaryIO, size: int) -> str:
    """Of the first `size` bytes from where the file stands, in hex, read piece by piece."""
    digest = hashlib.sha256()
    while size > 0 and (piece := file.read(min(size, CHUNK_BYTES))):
        digest.update(piece)
        size -= len(piece)
    return digest.hexdigest()


def _check_kind(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise BundleError(f"{path} is {kind}; the files of a bundle are regular files")
