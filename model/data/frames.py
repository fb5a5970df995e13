"""Reads frames of games from Parquet and NumPy files: features, episodes, splits, labels and the feature schema."""

import fnmatch
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bundle.schema import Schema, read_description, unnamed_columns
from model.data.files import data_files, read_arrays, read_parquet
from model.data.symmetry import Symmetry, symmetries

# Columns that are never features, even if a pattern matches them.
NEVER_FEATURES = ("episode", "frame", "split", "action", "reward", "y_*")


@dataclass(frozen=True)
class Frames:
    """Rows of games, in the order of the data.

    `frame` counts within an episode and is None if rows have no order; if the data has neither column, every row is an
    episode of its own. `labels` are by name, −1 where a row has none. `symmetries` are those of the data's layout.
    """

    features: NDArray[np.float32]  # [rows, columns]
    schema: Schema
    episode: NDArray[np.int64]  # [rows]
    frame: NDArray[np.int64] | None = None  # [rows]
    split: NDArray[np.str_] | None = None  # [rows]
    labels: dict[str, NDArray[np.int64]] = field(default_factory=dict)  # each [rows]
    symmetries: tuple[Symmetry, ...] = ()

    def __len__(self) -> int:
        return len(self.features)

    @property
    def independent(self) -> bool:
        """Whether every row is an episode of its own."""
        return self.frame is None and len(np.unique(self.episode)) == len(self)

    def take(self, rows: NDArray[Any]) -> "Frames":
        """The frames at the given rows (indices or a mask)."""
        frame = None if self.frame is None else self.frame[rows]
        split = None if self.split is None else self.split[rows]
        labels = {name: values[rows] for name, values in self.labels.items()}
        return Frames(self.features[rows], self.schema, self.episode[rows], frame, split, labels, self.symmetries)


def read_frames(source: str | Path, *, features: str | None = None, labels: Sequence[str] = ("y_*",)) -> Frames:
    """Reads a Parquet file, a folder or a glob of them, or an .npy/.npz file.

    `features` is a pattern that feature columns must match, such as `ram_*`. `labels` are patterns of label columns,
    which hold whole numbers and must not be features as well.
    """
    paths = data_files(source)
    if paths[0].suffix in (".npy", ".npz"):
        return _read_numpy(paths[0], features, labels)
    tables = [read_parquet(path) for path in paths]
    for path, table in zip(paths, tables, strict=True):
        if table.schema.names != tables[0].schema.names:
            raise ValueError(f"{path.name} has other columns than {paths[0].name}; files read together must be alike")
    metadata = tables[0].schema.metadata or {}
    table = pa.concat_tables(tables)
    if not len(table):
        raise ValueError(f"{source} has no rows; record some")
    values, names = _features(table, features)
    about = _description(paths[0].parent) if features is None else {}
    if features is None and b"groups" in metadata:
        about |= _layout_of(metadata) | {"groups": _in_metadata(metadata, b"groups", paths[0])}
    schema = Schema.of(names, about)
    columns = set(table.column_names)
    frame = _integers(table, "frame") if "frame" in columns else None
    return Frames(
        values,
        schema,
        _integers(table, "episode") if "episode" in columns else _unnamed_episodes(len(table), frame),
        frame,
        np.asarray(table["split"].to_pylist(), np.str_) if "split" in columns else None,
        _labels({name: table[name].to_numpy() for name in _matching(table.column_names, labels)}, names),
        symmetries(schema, about),
    )


def class_names(source: str | Path) -> dict[str, list[str]]:
    """The names of each label's classes 0, 1, …, where the data's schema.json (`classes`) or its layout gives them."""
    path = data_files(source)[0]
    named = _classes(_description(path.parent).get("classes", {}))
    if path.suffix != ".parquet":
        return named
    metadata = read_parquet(path, columns=[]).schema.metadata or {}
    keys = _layout_of(metadata).get("classes", {})
    return named | _classes(
        {label: _in_metadata(metadata, key.encode(), path) for label, key in keys.items() if key.encode() in metadata}
    )


def _read_numpy(path: Path, pattern: str | None, labels: Sequence[str]) -> Frames:
    arrays = read_arrays(path)
    if "features" not in arrays:
        raise ValueError(
            f"{path.name} has no array 'features' (it has {sorted(arrays)}); save the rows under that name"
        )
    if (kind := arrays["features"].dtype).kind not in "biuf":
        raise ValueError(f"{path.name} has features of {kind}; they must be real numbers")
    values = np.ascontiguousarray(arrays.pop("features"), np.float32)
    if values.ndim != 2:
        raise ValueError(f"{path.name} has features of shape {values.shape}; they must be [rows, columns]")
    if not values.size:
        raise ValueError(f"{path.name} has features of shape {values.shape}; record at least one row of one column")
    named = _matching([*arrays], labels)
    for name in {"episode", "frame", "split", *named} & arrays.keys():
        if (shape := arrays[name].shape) != (len(values),):
            raise ValueError(f"{path.name} has {name} of shape {shape}; it must be one number a row, [{len(values)}]")
    about = _description(path.parent)
    schema = Schema.of(unnamed_columns(values.shape[1]), about)
    if pattern is not None:
        names = _matching(schema.names, [pattern])
        if not names:
            raise ValueError(f"no column matches {pattern!r}; the columns are {list(schema.names[:8])} …")
        values, about = values[:, np.isin(schema.names, names)], {}
        schema = Schema.of(names, about)
    _check_finite(values, schema.names)
    frame = _whole("frame", arrays["frame"]) if "frame" in arrays else None
    return Frames(
        values,
        schema,
        _whole("episode", arrays["episode"]) if "episode" in arrays else _unnamed_episodes(len(values), frame),
        frame,
        np.asarray(arrays["split"], np.str_) if "split" in arrays else None,
        _labels({name: arrays[name] for name in named}, schema.names),
        symmetries(schema, about),
    )


def _unnamed_episodes(rows: int, frame: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Episodes for data without an 'episode' column: one game if frames are numbered, else one episode per row."""
    return np.arange(rows) if frame is None else np.zeros(rows, np.int64)


def _labels(columns: dict[str, NDArray[Any]], features: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """The labels, each [rows], −1 for none; ValueError if one is also a feature or does not hold whole numbers."""
    if both := sorted(columns.keys() & set(features)):
        raise ValueError(
            f"{', '.join(both)}: a label that is also a feature tells nothing, the probe would only copy it; "
            "name other labels with --labels, or pick the feature columns with --features"
        )
    found = {}
    for name, values in columns.items():
        whole = values.dtype.kind in "biu"
        if values.dtype.kind == "f":
            # A column of whole numbers with gaps is stored as floats with NaN.
            values = np.where(np.isnan(values), -1, values)
            whole = bool((np.isfinite(values) & (values == np.trunc(values))).all())
        if not whole:
            some = ", ".join(map(str, values[:3]))
            raise ValueError(
                f"label '{name}' holds {some} …; labels are whole numbers, −1 or nothing where there is none"
            )
        found[name] = values.astype(np.int64)
    return found


def _features(table: pa.Table, pattern: str | None) -> tuple[NDArray[np.float32], list[str]]:
    if "features" in table.column_names and pattern is None:
        column = table["features"].combine_chunks()
        values = _listed(column)
        names = unnamed_columns(values.shape[1])
    else:
        banned = set(_matching(table.column_names, NEVER_FEATURES))
        names = [name for name in _matching(table.column_names, [pattern or "*"]) if name not in banned]
        if not names:
            raise ValueError(f"no column matches {pattern or '*'!r}; the columns are {table.column_names[:8]} …")
        values = np.empty((len(table), len(names)), np.float32)
        for i, name in enumerate(names):
            kind = table.schema.field(name).type
            if not _is_number(kind):
                raise ValueError(f"column '{name}' is {kind}, not numbers; pick the feature columns with --features")
            values[:, i] = table[name].to_numpy()
    _check_finite(values, names)
    return values, names


def _listed(column: pa.Array) -> NDArray[np.float32]:
    """[rows, columns] of a column of lists of numbers; ValueError if it is none, or they differ in length."""
    kind = column.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or not _is_number(kind.value_type):
        raise ValueError(f"column 'features' is {kind}; it must hold a list of numbers a row")
    if column.null_count:
        raise ValueError(f"column 'features' is empty in {column.null_count} rows; every row must have its numbers")
    flat = np.ascontiguousarray(column.flatten().to_numpy(zero_copy_only=False), np.float32)
    if len({*column.value_lengths().to_pylist()}) != 1 or not len(flat):
        raise ValueError("column 'features' has lists of different lengths, or empty ones; all rows must be alike")
    return flat.reshape(len(column), -1)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _check_finite(values: NDArray[np.float32], names: Sequence[str]) -> None:
    # A sum in float64 is not finite exactly if one of its float32 terms is not, and is far cheaper than isfinite.
    for i in np.flatnonzero(~np.isfinite(values.sum(0, dtype=np.float64))).tolist():
        row = int(np.flatnonzero(~np.isfinite(values[:, i]))[0])
        raise ValueError(f"{names[i]} is {values[row, i]} in row {row}; features must be finite numbers")


def _description(folder: Path) -> dict[str, Any]:
    """The description of the columns in the schema.json beside the data, if there is one."""
    path = folder / "schema.json"
    return read_description(path) if path.is_file() else {}


def _classes(named: Any) -> dict[str, list[str]]:
    match named:
        case dict() if all(isinstance(names, list) for names in named.values()):
            return {label: [str(name) for name in names] for label, names in named.items()}
    raise ValueError(f"classes is {named!r:.80}; it must give each label a list of the names of its classes")


def _layout_of(metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    """The description of the layout that the metadata of a Parquet file names, if it ships with this package."""
    name = metadata.get(b"layout", b"").decode(errors="replace")
    for shipped in files("model.data.layouts").iterdir():
        # Compared with what is there, so that no name leads to another folder.
        if shipped.name == f"{name}.json":
            description: dict[str, Any] = json.loads(shipped.read_text())
            return description
    return {}


def _in_metadata(metadata: Mapping[bytes, bytes], key: bytes, path: Path) -> Any:
    try:
        return json.loads(metadata[key])
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} has {key.decode()} in its metadata that are no JSON ({error}); write it again"
        ) from None


def _matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def _integers(table: pa.Table, name: str) -> NDArray[np.int64]:
    return _whole(name, table[name].to_numpy())


def _whole(name: str, values: NDArray[Any]) -> NDArray[np.int64]:
    """[rows] whole numbers; ValueError for text, gaps or fractions."""
    whole = values.dtype.kind in "biu" or (values.dtype.kind == "f" and bool((values == np.trunc(values)).all()))
    if not whole or (values.dtype.kind == "f" and not np.isfinite(values).all()):
        some = ", ".join(map(str, values[:3]))
        raise ValueError(f"column '{name}' holds {some} …; it must be a whole number in every row")
    return values.astype(np.int64)
