"""Where a report is written."""

from pathlib import Path

from bundle.folders import DEFAULT_MODEL


def folder_of(out: Path | None, home: Path, name: str) -> Path:
    """`out`, or else `name` in the folder `home` of a model; ValueError where that is the bundled one's."""
    if out is not None:
        return out
    if home.is_relative_to(DEFAULT_MODEL):
        raise ValueError("the bundled model lies among the program's files; say with --out where the report goes")
    return home / name
