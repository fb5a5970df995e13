"""The files of a data set: which ones a name means."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

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


def data_files(source: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files that a path, a folder, a pattern or several of them mean, without hidden and unfinished ones;
    ValueError for pipes and devices."""
    return found_files(source)[0]


def found_files(source: str | Path | Sequence[str | Path]) -> tuple[list[Path], list[str]]:
    """The files that a path, a folder, a pattern or several of them mean, and a sentence for each folder or pattern
    that also means files that are not read."""
    paths: list[Path] = []
    notes: list[str] = []
    for one in [source] if isinstance(source, str | Path) else source:
        found, said = _meant(one)
        paths += found
        notes += said
    if twice := [path for path, count in Counter(paths).items() if count > 1]:
        raise ValueError(f"{twice[0]} is named twice; name every file once")
    return paths, notes


def _meant(source: str | Path) -> tuple[list[Path], list[str]]:
    path = Path(source)
    if path.exists():
        matches = [path]
    else:
        pattern = str(path.relative_to(path.anchor))
        matches = sorted(each for each in Path(path.anchor or ".").glob(pattern) if _is_finished(each.name))
    paths: list[Path] = []
    notes: list[str] = []
    for each in matches:
        # A pipe may never end, and no Parquet file can be read from one.
        if not (each.is_file() or each.is_dir()):
            raise ValueError(f"{each} is no regular file but a pipe or a device; save what it holds to a file first")
        read, rest = _in_folder(each) if each.is_dir() else ([each], [])
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
    return paths, notes


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
    return (
        f"{folder} also holds {_named(rest)}, which is not read beside its {kind_of(read[0])} ({_named(read)}); name "
        "the files that you mean by a pattern"
    )


def _named(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - MAX_NAMED} more" if len(paths) > MAX_NAMED else ""
    return ", ".join(path.name for path in paths[:MAX_NAMED]) + more
