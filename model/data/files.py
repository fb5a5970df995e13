"""The files of a data set: which ones a name means."""

import itertools
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

# Endings of the names of text in columns, which may be compressed.
TEXT = tuple(f"{kind}{packed}" for kind in (".csv", ".tsv") for packed in ("", ".gz", ".bz2", ".zst"))
# Suffixes of files by their kind. In a folder, files of the first kind that is there are read, and arrays are often
# what a program made of the tables beside them.
KINDS: dict[str, tuple[str, ...]] = {
    "Parquet": (".parquet", ".pq"),
    "CSV": TEXT,
    "Arrow": (".arrow", ".feather", ".ipc"),
    "HDF5": (".hdf5", ".h5"),
    "NumPy": (".npy", ".npz"),
}
# LeRobot and Minari keep the frames in a folder `data` beside what is said about them, in one of these files.
DATA_FOLDERS = {"meta/info.json": "data", "data/metadata.json": "data"}
# What a user says of the columns, beside the files.
DESCRIPTION = "schema.json"
# Names in a message.
MAX_NAMED = 3


def kind_of(path: Path) -> str | None:
    """The kind of file that the name says, or None."""
    name = path.name.lower()
    return next((kind for kind, suffixes in KINDS.items() if name.endswith(suffixes)), None)


class Found(NamedTuple):
    """The files of a recording."""

    paths: list[Path]
    # The folder below which the names of folders say something of the frames, as episode=3 and val do.
    base: Path
    # A sentence for each folder or pattern that also means files that are not read.
    notes: tuple[str, ...]


def found_files(source: str | Path | Sequence[str | Path]) -> Found:
    """The files that a path, a folder, a pattern or several of them mean, without hidden and unfinished ones;
    ValueError for pipes and devices."""
    each = [_meant(one) for one in ([source] if isinstance(source, str | Path) else source)]
    paths = [path for found in each for path in found.paths]
    if twice := [path for path, count in Counter(paths).items() if count > 1]:
        raise ValueError(f"{twice[0]} is named twice; name every file once")
    known: dict[str, Path] = {}
    for path in paths:
        if (first := known.setdefault(os.path.realpath(path), path)) != path:
            raise ValueError(f"{path} leads to the same file as {first}; name every file once, or take the link away")
    bases = [os.path.abspath(found.base) for found in each]
    base = each[0].base if len(each) == 1 else Path(os.path.commonpath(bases))
    return Found(paths, base, tuple(note for found in each for note in found.notes))


def name_of(source: str | Path | Sequence[str | Path]) -> str:
    """What a recording is called after its files."""
    return ", ".join(Path(one).name for one in ([source] if isinstance(source, str | Path) else source))


def folders_below(path: Path, base: Path) -> tuple[str, ...]:
    """The names of the folders between the base of a recording and one of its files."""
    return Path(os.path.relpath(path.parent.absolute(), base.absolute())).parts


def _meant(source: str | Path) -> Found:
    path = Path(source)
    if path.exists():
        matches, base = [path], path if path.is_dir() else path.parent
    else:
        pattern = path.relative_to(path.anchor)
        matches = sorted(each for each in Path(path.anchor or ".").glob(str(pattern)) if _is_finished(each.name))
        fixed = itertools.takewhile(lambda part: not any(sign in part for sign in "*?["), pattern.parts[:-1])
        base = Path(path.anchor, *fixed)
    paths: list[Path] = []
    notes: list[str] = []
    for each in matches:
        read, rest = _in_folder(each) if each.is_dir() else ([each], [])
        # A pipe may never end, and no Parquet file can be read from one.
        if odd := [one for one in read if one.exists() and not one.is_file()]:
            raise ValueError(f"{odd[0]} is no regular file but a pipe or a device; save what it holds to a file first")
        paths += read
        if rest:
            notes.append(_left_out(each, read, rest))
    # A pattern such as games/* also matches what is written about the recordings.
    if len(matches) > 1 and any(map(kind_of, paths)):
        others = [each for each in paths if kind_of(each) is None]
        paths = [each for each in paths if each not in others]
        if others := [each for each in others if each.name != DESCRIPTION]:
            notes.append(f"{source} also matches {_named(others)}, whose endings are not those of recordings: not read")
    if not paths:
        kinds = ", ".join(suffix for kind in KINDS if kind != "Parquet" for suffix in KINDS[kind])
        raise FileNotFoundError(
            f"{source}: no such file, no Parquet file in it nor any other recording ({kinds}), and no match for it as "
            "a pattern"
        )
    return Found(paths, base, tuple(notes))


def _in_folder(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files of a folder that are read, and the other recordings in it."""
    inner = next((below for about, below in DATA_FOLDERS.items() if (folder / about).is_file()), "")
    if (folder / inner).is_dir():
        folder = folder / inner
    # A walk that follows no links to folders comes to its end.
    known = sorted(path for path in folder.rglob("*") if _is_recording(path, folder))
    flat = [path for path in known if path.parent == folder]
    for level in (flat, known):
        for kind in KINDS:
            if chosen := [path for path in level if kind_of(path) == kind]:
                return chosen, [path for path in known if path not in {*chosen}]
    return [], []


def _is_recording(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    return kind_of(path) is not None and all(map(_is_finished, parts)) and not path.is_dir()


def _is_finished(name: str) -> bool:
    """Whether a name is not that of a hidden file, nor of one that is still being written."""
    return not (name.startswith((".", "_")) or ".partial." in name or name.endswith((".partial", ".tmp", ".part")))


def _left_out(folder: Path, read: list[Path], rest: list[Path]) -> str:
    at = folder if {path.name for path in read} & {path.name for path in rest} else None
    return (
        f"{folder} also holds {_named(rest, at)}, which is not read beside its {kind_of(read[0])} "
        f"({_named(read, at)}); name the files that you mean by a pattern"
    )


def _named(paths: Sequence[Path], folder: Path | None = None) -> str:
    more = f" and {len(paths) - MAX_NAMED} more" if len(paths) > MAX_NAMED else ""
    names = [path.name if folder is None else str(path.relative_to(folder)) for path in paths[:MAX_NAMED]]
    return ", ".join(names) + more
