"""A folder beside a run in which what was read of a recording is found again by the next run."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

# What is kept by another version of this number is read anew.
FORMAT = 2
# The file that is written last.
ABOUT = "frames.json"
LOCK = ".lock"

Kept = TypeVar("Kept")


def key_of(paths: list[Path], options: Mapping[str, Any]) -> str:
    """Changes with the files, judged by name, size and time of writing, and with the options that they are read by."""
    files = [[str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
    described = json.dumps([FORMAT, files, options], sort_keys=True, default=list)
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def found_or_made(
    keep: Path,
    key: str,
    find: Callable[[Path, Any], Kept],
    make: Callable[[Path], tuple[Kept, Mapping[str, Any] | None]],
) -> Kept:
    """What `find` makes of the folder of that key and of what was said of it, or else what `make` leaves in a folder
    that it is given, and says of it (None: nothing is worth keeping). What is there of other keys is deleted."""
    new = [each for each in (keep, *keep.absolute().parents) if not each.exists()]
    keep.mkdir(parents=True, exist_ok=True)
    try:
        return _found_or_made(keep, key, find, make)
    except BaseException:
        # Who has just been told that nothing can be read finds nothing new.
        if new:
            (keep / LOCK).unlink(missing_ok=True)
        for folder in new:
            with suppress(OSError):
                folder.rmdir()
        raise


def _found_or_made(
    keep: Path,
    key: str,
    find: Callable[[Path, Any], Kept],
    make: Callable[[Path], tuple[Kept, Mapping[str, Any] | None]],
) -> Kept:
    with _alone(keep):
        folder, partial = keep / key, keep / f"{key}.partial"
        if (folder / ABOUT).is_file():
            return find(folder, json.loads((folder / ABOUT).read_text()))
        # Whoever has mapped their files goes on reading them.
        for other in keep.iterdir():
            if (other / ABOUT).is_file() or other.name.endswith(".partial"):
                shutil.rmtree(other, ignore_errors=True)
        partial.mkdir()
        try:
            made, about = make(partial)
            if about is None:
                return made
            (partial / ABOUT).write_text(json.dumps(about, default=list))
            partial.replace(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return find(folder, json.loads((folder / ABOUT).read_text()))


@contextmanager
def _alone(keep: Path) -> Iterator[None]:
    """Waits for another process that reads the same recording, such as those of a run on several devices."""
    try:
        import fcntl
    except ModuleNotFoundError:
        # Windows has no such locks; there two processes would both read.
        yield
        return
    with (keep / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
