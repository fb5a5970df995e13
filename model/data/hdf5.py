"""Reads HDF5 files of games: one group an episode, as Minari and robomimic write them, or columns of one length, as
D4RL does."""

import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from model.data.columns import SPLITS
from model.data.remarks import with_arrays_beside
from model.data.roles import FRAME_NAMES, OBSERVATION_NAMES, plain_name

# Names of groups that hold a game each.
EPISODE = re.compile(
    r"(?:ep|episode|demo|traj|trajectory|game|match|replay|rollout|run|session)?[_ -]?(\d+)", re.IGNORECASE
)
# What is told beside the frames, of whatever shape.
ASIDE = ("infos", "info", "metadata")
MAX_DEPTH = 8
# Deflate packs a thousand bytes into one at best; a file that promises more is damaged.
MAX_PACKED = 1100


class Game(NamedTuple):
    """The arrays of one game, or of all together, whose name is None then."""

    name: int | str | None
    split: str | None
    columns: dict[str, Any]


def read(path: Path) -> pa.Table:
    """The frames of all games in the file, with `episode` and `frame` where a group is a game; ValueError if there are
    none, OSError if the file is damaged."""
    try:
        import h5py
    except ModuleNotFoundError:
        raise ValueError(f"{path}: to read HDF5 takes h5py; install it with: pip install h5py") from None
    try:
        with h5py.File(path) as file:
            odd = _written_by_pandas(h5py, file)
            games = [] if odd else _games(h5py, file, MAX_PACKED * path.stat().st_size)
    except Exception as error:
        # What h5py raises for a damaged file depends on the place of the damage: OSError, RuntimeError, KeyError,
        # ValueError, TypeError, MemoryError and others.
        raise OSError(str(error) or type(error).__name__) from None
    if odd:
        raise ValueError(
            f"{path} holds '{odd}', a DataFrame that pandas wrote in a form of its own; save it with "
            "DataFrame.to_parquet"
        )
    beside: dict[str, tuple[int, ...]] = {}
    tables = [_table(game, path, beside) for game in games]
    return with_arrays_beside(pa.concat_tables(tables, promote_options="permissive"), beside)


def _completed(game: Game, rows: int) -> dict[str, Any]:
    """The arrays of a game, which is told apart and whose frames are counted."""
    columns = game.columns
    if game.name is None:
        return columns
    columns = {name: _filled(each, rows) if len(each) == rows - 1 else each for name, each in columns.items()}
    columns["episode"] = np.full(rows, game.name, object if isinstance(game.name, str) else np.int64)
    if not any(plain_name(name) in FRAME_NAMES and each.dtype.kind in "iu" for name, each in columns.items()):
        columns["frame"] = np.arange(rows)
    if game.split is not None:
        columns["split"] = np.full(rows, game.split, object)
    return columns


def _written_by_pandas(h5py: Any, file: Any) -> str | None:
    """The name of a group that pandas wrote, which keeps columns of one type in blocks without their names."""
    groups = (name for name in file if _is_group(h5py, file, name))
    return next((name for name in groups if "pandas_type" in file[name].attrs), None)


def _games(h5py: Any, file: Any, limit: int) -> list[Game]:
    root = file
    if _is_group(h5py, file, "data") and ([*file] == ["data"] or _numbered(h5py, file["data"])):
        root = file["data"]
    if numbered := _numbered(h5py, root):
        splits = _splits(h5py, file, [*numbered.values()])
        return [Game(number, splits.get(name), _columns(h5py, root[name], limit)) for number, name in numbered.items()]
    columns = _columns(h5py, root, limit)
    return [Game(name, None, each) for name, each in _alike(columns).items()] or [Game(None, None, columns)]


def _is_group(h5py: Any, parent: Any, name: str) -> bool:
    # A link may lead to any other file.
    return isinstance(parent.get(name, getlink=True), h5py.HardLink) and isinstance(parent[name], h5py.Group)


def _numbered(h5py: Any, root: Any) -> dict[int, str]:
    """The groups that are games by their names, in the order of their numbers."""
    named = sorted((int(found[1]), name) for name in root if (found := EPISODE.fullmatch(name)))
    numbered = {number: name for number, name in named if _is_group(h5py, root, name)}
    return numbered if len(numbered) == len(named) else {}


def _splits(h5py: Any, file: Any, games: list[str]) -> dict[str, str]:
    """The split of each game by its name, as robomimic lists them in mask/train and mask/valid; empty unless each is in
    one of them."""
    if not _is_group(h5py, file, "mask"):
        return {}
    listed = [(SPLITS[name], file["mask"][name]) for name in file["mask"] if name in SPLITS]
    named = [(str(game), split) for split, names in listed for game in names.asstr()[()].ravel()]
    return dict(named) if sorted(name for name, _ in named) == sorted(games) else {}


def _alike(columns: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The arrays of each group that the arrays, by their paths, lie in if those are games: they hold the same arrays,
    and what a player sees is among them, or they differ in length. Empty if they are not."""
    groups: dict[str, dict[str, Any]] = {}
    for path, column in columns.items():
        group, dot, name = path.partition(".")
        if not dot:
            return {}
        groups.setdefault(group, {})[name] = column
    first, *others = groups.values() or [{}]
    if not others or any({*other} != {*first} for other in others) or {*groups} & {*OBSERVATION_NAMES}:
        return {}
    seen = any(name.partition(".")[0] in OBSERVATION_NAMES for name in first)
    differ = any(len(other[name]) != len(column) for other in others for name, column in first.items())
    return groups if seen or differ else {}


def _columns(h5py: Any, group: Any, limit: int, prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """The arrays in a group by their path, such as observations.goal."""
    found: dict[str, Any] = {}
    if depth > MAX_DEPTH:
        raise OSError(f"its groups lie more than {MAX_DEPTH} deep, or in each other")
    for name in group:
        # A link may lead to any other file.
        if name in ASIDE or not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        each = group[name]
        if isinstance(each, h5py.Group):
            found |= _columns(h5py, each, limit, f"{prefix}{name}.", depth + 1)
        elif isinstance(each, h5py.Dataset) and each.shape and not (each.external or each.is_virtual):
            if each.nbytes > limit:
                raise OSError(f"{name} is said to have {each.nbytes:,} bytes, more than the file can hold")
            array = each.asstr()[()] if h5py.check_string_dtype(each.dtype) else each[()]
            # As the machine stores numbers, which is what Arrow reads.
            found[prefix + name] = array.astype(array.dtype.newbyteorder("="), copy=False)
    return found


def _rows(columns: dict[str, Any], path: Path) -> int:
    """How many frames there are."""
    told = [
        len(column) for name, column in columns.items() if name.partition(".")[0] in (*OBSERVATION_NAMES, "features")
    ]
    counts = Counter(map(len, columns.values()))
    if not counts:
        raise ValueError(f"{path} has no arrays; record the games as Parquet or CSV")
    return told[0] if told else max(counts, key=lambda rows: (counts[rows], rows))


def _filled(column: Any, rows: int) -> Any:
    """The column with nothing in the last frame, where no action followed."""
    if len(column) == rows:
        return column
    if column.dtype.kind == "O":
        return np.array([*column, None], object)
    return np.concatenate([column.astype(np.float64), np.full((1, *column.shape[1:]), np.nan)])


def _table(game: Game, path: Path, beside: dict[str, tuple[int, ...]]) -> pa.Table:
    """The arrays of a game as columns; the shapes of those that are none go into `beside`."""
    rows = _rows(game.columns, path)
    arrays: dict[str, pa.Array] = {}
    for name, column in _completed(game, rows).items():
        if column.dtype.kind == "V":
            raise ValueError(
                f"{path.name} has '{name}' of {column.dtype}; save each of its fields as an array of its own"
            )
        if len(column) != rows or column.dtype.kind not in "biufO":
            beside[name] = column.shape
        elif column.ndim == 1:
            arrays[name] = pa.array(column)
        else:
            width = int(np.prod(column.shape[1:]))
            arrays[name] = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(column).ravel()), width)
    return pa.table(arrays)
